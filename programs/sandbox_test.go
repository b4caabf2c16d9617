package programs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ub/sentry/statfile"
)

// mode is a way to run a program.
type mode int

const (
	native    mode = iota // on the host's Linux
	off                   // in the sandbox, plain systrap
	on                    // with bypass as users get it
	unpatched             // the same, but for systrap's replacing of syscall instructions
	eager                 // with bypass at nearly every site, however rarely it runs or yields
)

var modeNames = []string{"native", "bypass off", "bypass on", "unpatched", "bypass eager"}

func (m mode) String() string { return modeNames[m] }

// config returns the sandbox's configuration.
func (m mode) config() statfile.Config {
	c := statfile.DefaultConfig()
	switch m {
	case off:
		c.Bypass = 0
	case unpatched:
		c.Patching = 0
	case eager:
		c.Controller = 0
		c.SampleEvery = 1
		c.SampleMax = 1
		c.MinRate = 0
		c.MinShortPercent = 0
		c.MaxCrossingNS = 1 << 30
		c.MinShort = 2
		c.ShortGapNS = 10_000_000
		c.WindowMS = 60_000
		c.MinYieldPercent = 0
		c.TranslatePercent = 0
		c.Patching = 0 // and the other setting is on's
	}
	return c
}

// result is what a run leaves behind. counters are zero unless it ran in a sandbox.
type result struct {
	stdout, stderr string
	status         int // exit status, 128+n for signal n
	counters       statfile.Snapshot
	took           time.Duration
	log            string // directory of the sandbox's logs
}

// runTimeout is for one run. Programs have limits of their own, this one is for what hangs for good.
const runTimeout = 60 * time.Second

// slots bounds how many sandboxes run at a time, whatever go test's -parallel is.
var slots = make(chan struct{}, 2)

// run runs a program, by its absolute path, in directory dir. stdin may be "".
func run(t *testing.T, m mode, dir, stdin string, argv ...string) *result {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	var stats *statfile.File
	var r result
	if m != native {
		var s *sandbox
		s, argv = newSandbox(t, m, argv)
		stats, r.log = s.stats, s.dir
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(stdin), &stdout, &stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC", "HOME=/root", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0"}
	// A group of its own, so that all of a program that hangs can be ended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	err := cmd.Run()
	r.took = time.Since(began)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	if stats != nil {
		r.counters = stats.Snapshot()
	}
	if ctx.Err() != nil {
		t.Fatalf("%v: %s: still running after %v\nstdout:\n%s\nstderr:\n%s\n%s", m, strings.Join(argv, " "), runTimeout,
			tail(r.stdout), tail(r.stderr), r.logTail())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", m, err)
	}
	r.status = cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		r.status = 128 + int(ws.Signal())
	}
	return &r
}

// sandbox is the state of a sandbox on the host.
type sandbox struct {
	dir   string // runsc's state in root/, its logs in log.*
	stats *statfile.File
}

// newSandbox prepares one that will run argv, and returns the command line for that.
func newSandbox(t *testing.T, m mode, argv []string) (*sandbox, []string) {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "sandbox-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "stats")
	stats, err := statfile.Create(path, m.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stats.Unmap() })
	return &sandbox{dir, stats}, append([]string{
		runsc, "--platform=ub", "--platform_device_path=" + path, "--network=none", "--ignore-cgroups",
		"--root=" + filepath.Join(dir, "root"), "--debug-log=" + filepath.Join(dir, "log.%COMMAND%"), "do",
	}, argv...)
}

// logTail returns the lines of the sandbox's log that explain a failure.
func (r *result) logTail() string {
	b, err := os.ReadFile(filepath.Join(r.log, "log.boot"))
	if err != nil {
		return ""
	}
	var keep []string
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "W") && strings.Contains(l, "Platform ub") || strings.HasPrefix(l, "E") || strings.Contains(l, "panic") || strings.HasPrefix(l, "goroutine") {
			keep = append(keep, l)
		}
	}
	return "log:\n" + tail(strings.Join(keep, "\n"))
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// workDir returns a fresh directory.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "work-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// expect says what a program must show beyond equal results.
type expect struct {
	// minShare is the least part of all syscalls that must be bypassed, in percent, with eager bypass; minBypassed the
	// least number. At least one is set for each program, or the test would not be about bypass.
	minShare    int
	minBypassed uint64
	// unstable tells that stderr is not the same in each run.
	unstableErr bool
	// sandboxOnly is the reason why the program cannot run natively.
	sandboxOnly string
	// noPatching is the reason why a program does not run under systrap if that replaces syscall instructions, which it
	// does when bypass is off.
	noPatching string
}

// compareRuns runs a program in all modes and reports all differences.
func compareRuns(t *testing.T, e expect, stdin string, argv ...string) {
	t.Helper()
	if e.minShare == 0 && e.minBypassed == 0 {
		t.Fatal("BUG: no bound on bypassed syscalls")
	}
	modes := []mode{native, off, on, eager}
	if e.sandboxOnly != "" {
		modes = modes[1:]
	}
	if e.noPatching != "" {
		modes = []mode{native, unpatched, eager}
	}
	argv = append([]string{launcher}, argv...)
	var want *result
	goes := 0
	for i := 0; i < len(modes); i++ {
		m := modes[i]
		r := run(t, m, workDir(t), stdin, argv...)
		t.Logf("%-12v status %d, %v%s", m, r.status, r.took.Round(time.Millisecond), summary(m, &r.counters))
		if i == 0 {
			if r.status == 99 || r.status == 98 {
				t.Fatalf("%v: the program's own checks failed:\n%s\n%s", m, tail(r.stdout), tail(r.stderr))
			}
			want = r
		} else {
			compare(t, min(modes[i-1], off), m, want, r, e)
		}
		if m == off {
			want = r // equal to the native one as far as compare looks, and with a sandbox's '~' lines
		}
		// What is equal must be so each time. How soon there is code depends on when the worker gets a processor.
		if goes++; m == eager && !e.enough(&r.counters) && goes-i < 3 && !t.Failed() {
			i--
			continue
		}
		if m > off {
			checkCounters(t, m, e, r)
		}
	}
}

// enough tells whether bypass was as active as it should be.
func (e *expect) enough(c *statfile.Snapshot) bool {
	return c[statfile.Bypassed] >= e.minBypassed && c[statfile.Bypassed]*100 >= c.Syscalls()*uint64(e.minShare)
}

// checkCounters checks that bypass was really active, with nothing that the verifier refused. How much users get depends
// on the load of the machine: a gap that another process interrupts is not short. Eager bypass depends on it less.
func checkCounters(t *testing.T, m mode, e expect, r *result) {
	t.Helper()
	c := &r.counters
	if c[statfile.VerifierRefused] != 0 {
		t.Errorf("%v: the verifier refused %d blobs\n%s", m, c[statfile.VerifierRefused], r.logTail())
	}
	if m != eager {
		return
	}
	if !e.enough(c) {
		t.Errorf("%v: %d of %d syscalls bypassed, want at least %d, and %d %%\n%s", m, c[statfile.Bypassed], c.Syscalls(), e.minBypassed, e.minShare, dump(c))
	}
}

func summary(m mode, c *statfile.Snapshot) string {
	if m <= off {
		return ""
	}
	return fmt.Sprintf(", %d syscalls, %d bypassed, %d blobs, exits miss %d stop %d fault %d fuel %d", c.Syscalls(), c[statfile.Bypassed],
		c[statfile.BlobsInstalled], c[statfile.ExitMiss], c[statfile.ExitStop], c[statfile.ExitFault], c[statfile.ExitFuel])
}

func dump(c *statfile.Snapshot) string {
	var b strings.Builder
	for i, n := range c {
		if n != 0 {
			fmt.Fprintf(&b, "\t%s %d\n", statfile.Counter(i).Name(), n)
		}
	}
	return b.String()
}

// compare reports how a run differs from one in another mode.
func compare(t *testing.T, wm, gm mode, want, got *result, e expect) {
	t.Helper()
	if got.status != want.status {
		t.Errorf("exit status: %v %d, %v %d\nstdout:\n%s\nstderr:\n%s\n%s", wm, want.status, gm, got.status, tail(got.stdout), tail(got.stderr), got.logTail())
	}
	diffLines(t, "stdout", wm, gm, want.stdout, got.stdout)
	if !e.unstableErr {
		diffLines(t, "stderr", wm, gm, want.stderr, got.stderr)
	}
}

// diffLines reports the first line in which two outputs differ. Lines that begin with '~' count only between sandboxes.
func diffLines(t *testing.T, what string, wm, gm mode, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		wl, gl := "(end of output)", "(end of output)"
		if i < len(w) {
			wl = w[i]
		}
		if i < len(g) {
			gl = g[i]
		}
		if wl == gl || wm == native && strings.HasPrefix(wl, "~") && strings.HasPrefix(gl, "~") {
			continue
		}
		t.Errorf("%s, line %d:\n%12v: %s\n%12v: %s", what, i+1, wm, tail(wl), gm, tail(gl))
		return
	}
}
