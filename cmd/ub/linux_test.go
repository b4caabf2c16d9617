package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ub/internal/hostcheck"
)

// What needs the module is tested in guests: package ub/linux/vm. Here is what does not.

// withoutModule skips a test on a machine that has it.
func withoutModule(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/ub"); err == nil {
		t.Skip("the module is loaded here")
	}
}

func TestModuleNotLoaded(t *testing.T) {
	withoutModule(t)
	for _, args := range [][]string{
		{"attach", "1"}, {"attach", "-b", "1"}, {"run", "--kernel=linux", "--", "true"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			ub(t, args...).wantLine(t, 125, "not loaded", "modprobe ub", "ub check")
		})
	}
	r := ub(t, "status")
	if r.status != 0 || !strings.Contains(r.stdout, "not loaded") || !strings.Contains(r.stdout, "no process has bypass") {
		t.Errorf("%+v", r)
	}
	var st moduleStatus
	if err := json.Unmarshal([]byte(ub(t, "status", "--json").stdout), &st); err != nil || st.Module != nil || st.Why == "" {
		t.Errorf("%v, %+v", err, st)
	}
}

func TestModuleUsage(t *testing.T) {
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"attach"}, []string{"which process", "ub attach PID"}},
		{[]string{"attach", "x"}, []string{`"x" is no process id`}},
		{[]string{"attach", "999999999"}, []string{"no such process"}},
		{[]string{"attach", "--tune", "nothing=1", "1"}, []string{"--tune", "nothing", "docs/install-module.md"}},
		{[]string{"detach"}, []string{"which process", "ub status"}},
		{[]string{"detach", "1"}, []string{"process 1 has no bypass"}},
		{[]string{"check", "--for", "nothing"}, []string{"sandbox, module, profile"}},
		{[]string{"run", "--kernel=windows", "--", "true"}, []string{"--kernel is sentry or linux"}},
		{[]string{"run", "--kernel=linux", "--rw", "/tmp", "--", "true"}, []string{"--rw is about sandboxes"}},
		{[]string{"run", "--kernel=linux", "--bypass=maybe", "--", "true"}, []string{"--bypass is on or off"}},
		{[]string{"run", "--kernel=linux", "--bypass=off", "--", "no-such-program"}, []string{"no such program"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			status := 125
			if strings.Contains(c.parts[0], "no such program") {
				status = 127
			}
			ub(t, c.args...).wantLine(t, status, c.parts...)
		})
	}
}

func TestCheckCommand(t *testing.T) {
	r := ub(t, "check")
	if !strings.Contains(r.stdout, "Looks good.") && !strings.Contains(r.stdout, "What to do") {
		t.Errorf("%+v", r)
	}
	var rep hostcheck.Report
	if err := json.Unmarshal([]byte(ub(t, "check", "--json").stdout), &rep); err != nil || len(rep.Items) < 10 || rep.Works[hostcheck.Sandbox] != true {
		t.Errorf("%v, %+v", err, rep)
	}
	want := 1
	if rep.Works[hostcheck.Module] {
		want = 0
	}
	if r := ub(t, "check", "--for", "module"); r.status != want {
		t.Errorf("status %d, want %d", r.status, want)
	}
}

// Without bypass `ub run --kernel=linux` needs no module, and must show nothing of itself.
func TestRunLinux(t *testing.T) {
	for _, c := range []struct {
		script string
		out    string
		status int
	}{
		{"exit 7", "", 7},
		{"kill -KILL $$", "", 128 + 9},
		{"kill -SEGV $$", "", 128 + 11},
		{"cat; echo $UB_X; pwd", "input\nvalue\n/usr\n", 0},
	} {
		cmd := command(t, "run", "--kernel=linux", "--bypass=off", "--cwd", "/usr", "--env", "UB_X=value", "--", "sh", "-c", c.script)
		cmd.Stdin = strings.NewReader("input\n")
		r := finish(t, cmd)
		if r.status != c.status || r.stdout != c.out || r.stderr != "" {
			t.Errorf("%s: %+v", c.script, r)
		}
	}
	// A program by a relative name, from another directory.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\necho here\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ub(t, "run", "--kernel=linux", "--bypass=off", "--cwd", dir, "--", "./script").want(t, "here\n", "", 0)
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("\x00\x01 no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ub(t, "run", "--kernel=linux", "--bypass=off", "--", garbage).wantLine(t, 126, garbage)
}

func TestRunLinuxSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		t.Run(s.String(), func(t *testing.T) {
			ready := filepath.Join(t.TempDir(), "ready")
			cmd := command(t, "run", "--kernel=linux", "--bypass=off", "--", "sh", "-c",
				`trap 'echo got; exit 3' TERM INT HUP USR1; touch `+ready+`; while :; do sleep 0.02; done`)
			// As a shell's background job, or a service: no terminal sends anything to both.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			go func() {
				for range 500 {
					if _, err := os.Stat(ready); err == nil {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				_ = cmd.Process.Signal(s)
			}()
			r := finish(t, cmd)
			if r.status != 3 || r.stdout != "got\n" {
				t.Errorf("%+v", r)
			}
		})
	}
}
