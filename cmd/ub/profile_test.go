package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pp "github.com/google/pprof/profile"

	"ub/linux/profile"
)

// needProfile skips a test where profiling cannot work. Package profile's tests know where it must.
func needProfile(t *testing.T) {
	t.Helper()
	needSandbox(t) // it has built ub
	if err := profile.Check(); err != nil {
		t.Skip(err)
	}
}

func TestProfileFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "which programs?"},
		{[]string{"-a", "-p", "1"}, "which programs?"},
		{[]string{"-a", "--", "true"}, "which programs?"},
		{[]string{"-p", "0"}, "no process id"},
		{[]string{"-p", "x"}, "--help"},
		{[]string{"-a", "-d", "0"}, "-d must"},
		{[]string{"-a", "-I", "1ms"}, "-I must"},
		{[]string{"-a", "--max-cost", "0"}, "--max-cost"},
		{[]string{"-a", "--max-cost", "NaN"}, "--max-cost"},
		{[]string{"-a", "--sentry-crossing", "-1"}, "--sentry-crossing"},
		{[]string{"-a", "--json", "-o", "x.pb.gz"}, "choose one"},
	} {
		root := rootCommand()
		root.SetArgs(append([]string{"profile"}, c.args...))
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestProfileStatusAndStreams(t *testing.T) {
	needProfile(t)
	r := ub(t, "profile", "--", "sh", "-c", "echo data; exit 3")
	if r.stdout != "data\n" || r.status != 3 {
		t.Errorf("stdout %q, status %d", r.stdout, r.status)
	}
	for _, want := range []string{"sh -c echo data; exit 3: ", "a system call that does nothing"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("no %q in\n%s", want, r.stderr)
		}
	}
	if r = ub(t, "profile", "-o", "/dev/null", "--", "sh", "-c", "kill -TERM $$"); r.status != 128+15 || r.stderr != "" {
		t.Errorf("killed: %d, %q", r.status, r.stderr)
	}
	ub(t, "profile", "--", "/no/such").wantLine(t, 127, "/no/such", "no such program")
	ub(t, "profile", "--", "/etc/passwd").wantLine(t, 126, "/etc/passwd", "not executable")
	ub(t, "profile", "-o", "/no/such/file", "--", "true").wantLine(t, 125, "-o", "/no/such/file")
	ub(t, "profile", "-p", "4194305").wantLine(t, 125, "4194305", "no such process")
}

func TestProfileFiles(t *testing.T) {
	needProfile(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "p.json")
	dd := []string{"--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64", "count=20000", "status=none"}
	r := ub(t, append([]string{"profile", "--max-cost", "100", "--json", "-o", file}, dd...)...)
	r.want(t, "", "", 0)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var p profile.Profile
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, s := range p.Sites {
		counts[s.Syscall] += s.Gaps + s.Cut
	}
	if p.Missed == 0 && (counts["read"] < 20000 || counts["write"] != 20000) {
		t.Errorf("%d reads, %d writes", counts["read"], counts["write"])
	}

	file = filepath.Join(dir, "p.pb.gz")
	r = ub(t, append([]string{"profile", "--max-cost", "100", "-o", file}, dd...)...)
	if r.status != 0 || r.stdout != "" || !strings.Contains(r.stderr, "go tool pprof") {
		t.Errorf("%+v", r)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prof, err := pp.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(prof.Sample) != len(p.Sites) && len(prof.Sample) == 0 {
		t.Errorf("%d samples", len(prof.Sample))
	}
}

// TestProfileRunning profiles a process until it is told to stop, with intervals.
func TestProfileRunning(t *testing.T) {
	needProfile(t)
	busy := exec.Command("dd", "if=/dev/zero", "of=/dev/null", "bs=64")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer busy.Wait()
	defer busy.Process.Kill()
	cmd := command(t, "profile", "-p", strconv.Itoa(busy.Process.Pid), "-d", "1h", "-I", "300ms", "--json", "--max-cost", "5")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(out)
	var last profile.Profile
	lines, gaps, told := 0, uint64(0), false
	for ; ; lines++ {
		var p profile.Profile
		if d.Decode(&p) != nil {
			break
		}
		last = p
		gaps += p.Gaps
		// Once: after the last profile, which the signal brings, another signal ends ub as it ends any program.
		if lines > 1 && gaps > 0 && !told {
			told = true
			cmd.Process.Signal(syscall.SIGINT)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	if lines < 4 || last.Gaps == 0 || len(last.Sites) == 0 {
		t.Errorf("%d profiles, the last: %+v", lines, last)
	}
}

// TestProfileEndsBeforeProgram: after -d the program goes on.
func TestProfileEndsBeforeProgram(t *testing.T) {
	needProfile(t)
	cmd := command(t, "profile", "-d", "200ms", "-o", "/dev/null", "--", "sh", "-c", "read x; exit 5")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond) // most likely profiling is over; if not, this tests less
	in.Write([]byte("\n"))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("status %d", got)
	}
}

func TestProfileWithoutRights(t *testing.T) {
	needProfile(t)
	cmd := command(t, "profile", "--", "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	finish(t, cmd).wantLine(t, 125, "CAP_BPF", "run it as root")
	cmd = command(t, "profile", "-a")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	finish(t, cmd).wantLine(t, 125, "PID namespace", "--pid=host")
}
