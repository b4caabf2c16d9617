package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ub/internal/report"
)

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		status int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"exit 255", 255},
		{"kill -TERM $$", 128 + 15},
		{"kill -KILL $$", 128 + 9},
		{"kill -SEGV $$", 128 + 11},
	} {
		t.Run(c.script, func(t *testing.T) {
			t.Parallel()
			ub(t, "run", "--", "sh", "-c", c.script).want(t, "", "", c.status)
		})
	}
}

func TestProgramNotRun(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain := write("plain", "hello\n", 0o644)
	garbage := write("garbage", "\x00\x01\x02\x03 no program\n", 0o755)
	orphan := write("orphan", "#!/no/such/interpreter\n", 0o755)
	ub(t, "run", "--", "no-such-program").wantLine(t, 127, "no-such-program", "PATH")
	ub(t, "run", "--", dir+"/nothing").wantLine(t, 127, dir+"/nothing: no such program")
	ub(t, "run", "--", dir).wantLine(t, 126, "is a directory")
	ub(t, "run", "--", plain).wantLine(t, 126, plain+" is not executable")
	ub(t, "run", "--", garbage).wantLine(t, 126, garbage)
	ub(t, "run", "--", orphan).wantLine(t, 127, orphan, "interpreter")
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"run"}, []string{"which program", "ub run [flags] -- PROG"}},
		{[]string{"run", "--bypass=maybe", "--", "true"}, []string{"--bypass is on or off", `"maybe"`}},
		{[]string{"run", "--network=sandbox", "--", "true"}, []string{"--network is host or none"}},
		{[]string{"run", "--rw", "/no/such/place", "--", "true"}, []string{"--rw", "/no/such/place"}},
		{[]string{"run", "--rw", "/", "--", "true"}, []string{"--rw /"}},
		{[]string{"run", "--cwd", "/etc/passwd", "--", "true"}, []string{"--cwd", "/etc/passwd is no directory"}},
		{[]string{"run", "--tune", "no-such=1", "--", "true"}, []string{"--tune", "sample-every=16"}},
		{[]string{"run", "--tune", "sample-every=0", "--", "true"}, []string{"SampleEvery is 0"}},
		{[]string{"run", "--nonsense", "--", "true"}, []string{"--nonsense", "ub run --help"}},
		{[]string{"nonsense"}, []string{`unknown command "nonsense"`}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			ub(t, c.args...).wantLine(t, 125, c.parts...)
		})
	}
}

func TestMissingRunsc(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	alone := filepath.Join(dir, "ub")
	if err := os.Link(ubPath, alone); err != nil {
		data, err := os.ReadFile(ubPath)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(alone, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(runsc string) result {
		cmd := command(t, "run", "--", "/bin/true")
		cmd.Path = alone
		cmd.Env = []string{"PATH=/usr/bin:/bin", "UB_RUNSC=" + runsc}
		return finish(t, cmd)
	}
	run("").wantLine(t, 125, "runsc-ub is missing", dir, "make build", "$UB_RUNSC")
	run("/no/such/runsc").wantLine(t, 125, "$UB_RUNSC", "/no/such/runsc")
	run("/bin/true").wantLine(t, 125, "$UB_RUNSC", "/bin/true is not runsc-ub")
	run(ubPath).wantLine(t, 125, "is not runsc-ub but ub/cmd/ub")
}

func TestNotRoot(t *testing.T) {
	cmd := command(t, "run", "--", "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	finish(t, cmd).wantLine(t, 125, "must be root", "sudo")
}

func TestRootWithoutCapabilities(t *testing.T) {
	needSandbox(t)
	// The launcher's own checks, in the environment of a container that has no privileges.
	if _, err := os.Stat("/usr/bin/setpriv"); err != nil {
		t.Skip("setpriv is missing: install util-linux")
	}
	cmd := command(t)
	cmd.Path = "/usr/bin/setpriv"
	cmd.Args = []string{"setpriv", "--bounding-set=-sys_admin,-sys_ptrace", "--inh-caps=-sys_admin,-sys_ptrace", ubPath, "run", "--", "true"}
	finish(t, cmd).wantLine(t, 125, "lacks CAP_SYS_ADMIN, CAP_SYS_PTRACE", "--privileged")
}

func TestEnvironment(t *testing.T) {
	cmd := command(t, "run", "--env", "ADDED=a b", "--env", "CHANGED=new", "--env", "REMOVED", "--", "/usr/bin/env")
	cmd.Env = append(os.Environ(), "KEPT=1", "CHANGED=old", "REMOVED=1", "GOMAXPROCS=1")
	r := finish(t, cmd)
	got := map[string]bool{}
	for _, l := range strings.Split(r.stdout, "\n") {
		got[l] = true
	}
	for _, w := range []string{"ADDED=a b", "KEPT=1", "CHANGED=new", "GOMAXPROCS=1"} {
		if !got[w] {
			t.Errorf("no line %q in\n%s", w, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "REMOVED") || got["CHANGED=old"] {
		t.Errorf("a variable that should be gone:\n%s", r.stdout)
	}
	if r.status != 0 || r.stderr != "" {
		t.Errorf("status %d, stderr %q", r.status, r.stderr)
	}
}

func TestWorkingDirectory(t *testing.T) {
	cmd := command(t, "run", "--", "pwd")
	cmd.Dir = "/usr/lib"
	cmd.Env = append(os.Environ(), "PWD=/usr/lib")
	finish(t, cmd).want(t, "/usr/lib\n", "", 0)
	ub(t, "run", "--cwd", "/usr/share", "--", "pwd").want(t, "/usr/share\n", "", 0)
}

// TestRelativeProgram checks that a program is found from the program's working directory, and in its PATH.
func TestRelativeProgram(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prog"), []byte("#!/bin/sh\necho \"$0\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// (The sandbox makes a script's name absolute, as if the shell had found it in the PATH.)
	ub(t, "run", "--cwd", dir, "--", "./prog").want(t, dir+"/prog\n", "", 0)
	ub(t, "run", "--env", "PATH="+dir+":/bin", "--", "prog").want(t, dir+"/prog\n", "", 0)
	ub(t, "run", "--", "prog").wantLine(t, 127, "prog")
}

func TestArgumentsArePassedAsTheyAre(t *testing.T) {
	ub(t, "run", "--", "printf", "%s|", "", "a b", "--stats", "$HOME", "--", "*").want(t, "|a b|--stats|$HOME|--|*|", "", 0)
	// Also without "--": what follows the program is the program's.
	ub(t, "run", "printf", "%s|", "--stats", "-x").want(t, "--stats|-x|", "", 0)
}

func TestFilesAreNotChanged(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("cd %s && echo after >kept && echo new >made && cat kept made", dir)
	ub(t, "run", "--", "sh", "-c", script).want(t, "after\nnew\n", "", 0)
	if b, err := os.ReadFile(kept); err != nil || string(b) != "before\n" {
		t.Errorf("the file is now %q, %v", b, err)
	}
	if l, _ := os.ReadDir(dir); len(l) != 1 {
		t.Errorf("%d files, want 1", len(l))
	}

	ub(t, "run", "--rw", dir, "--", "sh", "-c", script).want(t, "after\nnew\n", "", 0)
	for name, want := range map[string]string{"kept": "after\n", "made": "new\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is now %q, %v; want %q", name, b, err, want)
		}
	}
	// A single file can be named, and nothing beside it.
	ub(t, "run", "--rw", kept, "--", "sh", "-c", fmt.Sprintf("cd %s && echo x >kept && echo x >made", dir)).want(t, "", "", 0)
	for name, want := range map[string]string{"kept": "x\n", "made": "new\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is now %q, %v; want %q", name, b, err, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	needSandbox(t)
	if _, err := os.Stat("/usr/bin/perl"); err != nil {
		t.Skip("perl is missing: run scripts/deps.sh")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	}()
	client := fmt.Sprintf(`use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die; connect(S, pack_sockaddr_in(%d, inet_aton("127.0.0.1"))) or die "refused\n"; print scalar <S>`,
		l.Addr().(*net.TCPAddr).Port)
	ub(t, "run", "--", "perl", "-e", client).want(t, "hello\n", "", 0)
	ub(t, "run", "--network=host", "--", "perl", "-e", client).want(t, "hello\n", "", 0)
	r := ub(t, "run", "--network=none", "--", "perl", "-e", client)
	r.want(t, "", "refused\n", 111)

	// There is a loopback interface even so.
	loop := `use Socket; socket(L, PF_INET, SOCK_STREAM, 0) or die; bind(L, pack_sockaddr_in(0, inet_aton("127.0.0.1"))) or die; listen(L, 1) or die; socket(S, PF_INET, SOCK_STREAM, 0) or die; connect(S, getsockname(L)) or die; print "connected\n"`
	ub(t, "run", "--network=none", "--", "perl", "-e", loop).want(t, "connected\n", "", 0)
}

func TestStats(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	js := filepath.Join(dir, "stats.json")
	dd := []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=64", "count=200000", "status=none"}
	r := ub(t, append([]string{"run", "--stats", "--stats-json", js, "--"}, dd...)...)
	for _, w := range []string{"syscalls", "bypassed", "crossings", "sites", "blobs", "exits", "verifier"} {
		if !strings.Contains(r.stderr, "  "+w) {
			t.Errorf("the table has no row %q:\n%s", w, r.stderr)
		}
	}
	data, err := os.ReadFile(js)
	if err != nil {
		t.Fatal(err)
	}
	var s report.Stats
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if !s.Bypass || s.Syscalls < 400_000 || s.Syscalls > 401_000 {
		t.Errorf("bypass %v, %d syscalls; dd makes two for each of 200,000 blocks", s.Bypass, s.Syscalls)
	}
	if s.Share < 0.5 || s.Share > 1 || s.Bypassed != s.Counters["bypassed"] || s.Syscalls != s.Counters["native"]+s.Counters["bypassed"] {
		t.Errorf("share %v, bypassed %d, counters %v", s.Share, s.Bypassed, s.Counters)
	}
	if len(s.Sites) == 0 || s.Sites[0].Entered == 0 {
		t.Errorf("sites: %v", s.Sites)
	}

	r = ub(t, append([]string{"run", "--bypass=off", "--stats", "--stats-json", js, "--"}, dd...)...)
	r.want(t, "", "  bypass         off: nothing is counted\n", 0)
	if data, err = os.ReadFile(js); err != nil {
		t.Fatal(err)
	}
	s = report.Stats{}
	if err := json.Unmarshal(data, &s); err != nil || s.Bypass || s.Syscalls != 0 {
		t.Errorf("%v, %s", err, data)
	}
}

// TestOldFilesAreNotOverwritten: a statistics file may replace another one, but nothing else.
func TestOldFilesAreNotOverwritten(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	stat, other := filepath.Join(dir, "stat"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("precious\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ub(t, "run", "--stat-file", stat, "--", "true").want(t, "", "", 0)
	}
	ub(t, "run", "--stat-file", other, "--", "true").wantLine(t, 125, other, "exists")
	if b, err := os.ReadFile(other); err != nil || string(b) != "precious\n" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func TestHelp(t *testing.T) {
	for _, c := range [][]string{{"help"}, {"help", "run"}, {"run", "--help"}, {"--help"}, {}} {
		r := ub(t, c...)
		if r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, "Usage:") || !strings.Contains(r.stdout, "Examples:") {
			t.Errorf("ub %v: status %d, stderr %q, stdout\n%s", c, r.status, r.stderr, r.stdout)
		}
	}
	r := ub(t, "version")
	if r.status != 0 || !strings.HasPrefix(r.stdout, "ub ") || !strings.Contains(r.stdout, "gVisor: v0.0.0-") {
		t.Errorf("status %d, stdout %q, stderr %q", r.status, r.stdout, r.stderr)
	}
}
