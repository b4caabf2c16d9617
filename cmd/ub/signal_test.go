package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ub/internal/report"
)

// session is an ub that has started and said something.
type session struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

// start starts ub with a shell script.
func start(t *testing.T, script string) *session {
	t.Helper()
	cmd := command(t, "run", "--", "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &session{t, cmd, bufio.NewReader(out)}
}

// line reads a line and checks it.
func (s *session) line(want string) {
	s.t.Helper()
	got, err := s.out.ReadString('\n')
	if err != nil || got != want+"\n" {
		s.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func (s *session) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the end and checks the rest of the output and the exit status.
func (s *session) end(rest string, status int) {
	s.t.Helper()
	got, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Wait()
	if string(got) != rest || s.cmd.ProcessState.ExitCode() != status {
		s.t.Errorf("rest of the output %q, status %d (%v); want %q, %d", got, s.cmd.ProcessState.ExitCode(), s.cmd.ProcessState, rest, status)
	}
}

func TestSignalKillsProgram(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGALRM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, `echo ready; exec sleep 60`)
			s.line("ready")
			s.signal(sig)
			s.end("", 128+int(sig))
		})
	}
}

func TestSignalIsHandledByProgram(t *testing.T) {
	s := start(t, `trap 'echo usr1' USR1; trap 'echo winch' WINCH; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done`)
	s.line("ready")
	for range 3 {
		s.signal(syscall.SIGUSR1)
		s.line("usr1")
	}
	s.signal(syscall.SIGWINCH)
	s.line("winch")
	s.signal(syscall.SIGTERM)
	s.end("term\n", 3)
}

// TestSignalInBypassedLoop sends signals to a program that makes system calls without a pause.
func TestSignalInBypassedLoop(t *testing.T) {
	needSandbox(t)
	js := filepath.Join(t.TempDir(), "stats")
	s := &session{t: t, cmd: command(t, "run", "--stats-json", js, "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64")}
	errs, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(errs)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	var last int
	for i := range 5 {
		s.signal(syscall.SIGUSR1) // dd prints how far it is
		text, err := s.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.Split(text, "+")[0])
		// Equal is right: the signal may come before dd, which has just reported, begins the next block.
		if err != nil || n < last {
			t.Errorf("report %d: %q after %d blocks", i, text, last)
		}
		last = n
		s.out.ReadString('\n')
		s.out.ReadString('\n')
	}
	s.signal(syscall.SIGINT)
	rest, _ := io.ReadAll(s.out)
	s.cmd.Wait()
	// One report more, that of the end: each signal was delivered once.
	if s.cmd.ProcessState.ExitCode() != 130 || strings.Count(string(rest), "records in") != 1 || !strings.Contains(string(rest), "bytes") {
		t.Errorf("%v, output %q", s.cmd.ProcessState, rest)
	}
	data, err := os.ReadFile(js)
	if err != nil {
		t.Fatal(err)
	}
	var st report.Stats
	if err := json.Unmarshal(data, &st); err != nil || st.Share < 0.5 || st.Syscalls < uint64(last) {
		t.Errorf("%v; %d of %d syscalls bypassed, %d blocks", err, st.Bypassed, st.Syscalls, last)
	}
}

// TestEarlySignals sends SIGTERM at moments from before the program exists to after it.
func TestEarlySignals(t *testing.T) {
	needSandbox(t)
	var all []*exec.Cmd
	for d := time.Duration(0); d <= 300*time.Millisecond; d += 20 * time.Millisecond {
		s := start(t, `exec sleep 60`)
		all = append(all, s.cmd)
		time.Sleep(d)
		s.signal(syscall.SIGTERM)
		s.cmd.Wait()
		// Before ub catches signals they kill it.
		ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !(ws.Signaled() && ws.Signal() == syscall.SIGTERM) && ws.ExitStatus() != 128+15 {
			t.Errorf("after %v: %v", d, s.cmd.ProcessState)
		}
	}
	nothingLeft(t, all...)
}

func TestNohup(t *testing.T) {
	needSandbox(t)
	cmd := command(t)
	cmd.Path = "/bin/sh"
	cmd.Args = []string{"sh", "-c", `trap '' HUP; exec "$0" run -- sh -c 'echo ready; sleep 1; echo done'`, ubPath}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &session{t, cmd, bufio.NewReader(out)}
	s.line("ready")
	s.signal(syscall.SIGHUP)
	s.end("done\n", 0)
}

// TestStopAndContinue: SIGTSTP, as from a shell's ^Z, stops the program and ub; SIGCONT continues both.
func TestStopAndContinue(t *testing.T) {
	s := start(t, `echo ready; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; echo done`)
	s.line("ready")
	s.signal(syscall.SIGTSTP)
	deadline := time.Now().Add(10 * time.Second)
	for state(t, s.cmd.Process.Pid) != "T" {
		if time.Now().After(deadline) {
			t.Fatal("ub does not stop")
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // the program would have ended
	s.signal(syscall.SIGCONT)
	began := time.Now()
	s.line("done")
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("the program was done %v after it was continued: it has not been stopped", d)
	}
	s.end("", 0)
}

func state(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// nothingLeft checks that nothing remains on the host of the ubs that were started as commands, after a moment if need be.
// (There may be others at the same time.)
func nothingLeft(t *testing.T, commands ...*exec.Cmd) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		left = nil
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		for _, cmd := range commands {
			dir := "/run/ub/" + strconv.Itoa(cmd.Process.Pid)
			if _, err := os.Lstat(dir); err == nil {
				left = append(left, dir)
			}
			if strings.Contains(string(mounts), dir) {
				left = append(left, "mounts in "+dir)
			}
			all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, c := range all {
				if b, _ := os.ReadFile(c); strings.Contains(string(b), "--root="+dir+"\x00") {
					left = append(left, filepath.Dir(c)+": "+strings.ReplaceAll(string(b), "\x00", " "))
				}
			}
		}
		if strings.Contains(string(mounts), "/run/ub/root") {
			left = append(left, "mount at /run/ub/root")
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind: %v", left)
}

func TestNothingIsLeft(t *testing.T) {
	needSandbox(t)
	var all []*exec.Cmd
	run := func(args ...string) result {
		cmd := command(t, args...)
		all = append(all, cmd)
		return finish(t, cmd)
	}
	run("run", "--network=none", "--rw", t.TempDir(), "--", "sh", "-c", "sleep 60 & exit 0").want(t, "", "", 0)
	run("run", "--", "sh", "-c", "kill -9 $$").want(t, "", "", 137)
	run("run", "--", "/etc").wantLine(t, 126, "directory")
	nothingLeft(t, all...)

	// Nobody cleans up for an ub that is killed but the next one; processes and mounts go at once.
	s := start(t, `sleep 60 & echo ready; wait`)
	s.line("ready")
	dir := "/run/ub/" + strconv.Itoa(s.cmd.Process.Pid)
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("while it runs: %v; this test knows nothing", err)
	}
	s.signal(syscall.SIGKILL)
	s.cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		// Its sandbox may hold the lock for a moment longer.
		run("run", "--", "true").want(t, "", "", 0)
		if _, err := os.Stat(dir); err != nil || time.Now().After(deadline) {
			break
		}
	}
	nothingLeft(t, append(all, s.cmd)...)
}
