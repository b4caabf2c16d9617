package profile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// needBPF skips a test where profiling cannot work, but not where it has to: as root, on a kernel with BTF since 5.8.
func needBPF(t *testing.T) {
	t.Helper()
	why := Check()
	if why == nil {
		tr, err := load(false, 0)
		if err == nil {
			tr.Close()
			return
		}
		why = Explain(err)
	}
	h := thisHost()
	var major, minor int
	fmt.Sscanf(h.release, "Linux %d.%d", &major, &minor)
	if os.Geteuid() == 0 && h.capable() && h.btf && h.initPID && (major > 5 || major == 5 && minor >= 8) && h.lockdown != "confidentiality" {
		t.Fatalf("profiling has to work here: %+v", why)
	}
	t.Skip(why)
}

// compile compiles testdata/gaps.c.
func compile(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "gaps")
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Werror", "-pthread", "-o", bin, "testdata/gaps.c").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return bin
}

// every are options that see every system call.
func every() Options {
	return Options{MaxCost: 1, SentryCrossing: 2000, SentrySource: "test", Target: "test"}
}

// startQuiet starts a program whose output nobody wants to see.
func startQuiet(t *testing.T, in *os.File, argv ...string) *Child {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c := &Child{cmd: exec.Command(argv[0], argv[1:]...), release: make(chan chan error), done: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = in, null, os.Stderr
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// limit returns a context that ends when something hangs.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// sitesOf returns the sites in function, by caller.
func sitesOf(p *Profile, function string) map[string]Site {
	out := map[string]Site{}
	for _, s := range p.Sites {
		if s.Site.Symbol == function {
			caller := "-"
			if s.Caller != nil {
				caller = s.Caller.Symbol
			}
			out[caller] = s
		}
	}
	return out
}

// TestKnownGaps profiles a program all of whose system calls are known.
func TestKnownGaps(t *testing.T) {
	needBPF(t)
	bin := compile(t)
	p := knownGaps(t, bin)
	for n := 0; p.Missed > 0; n++ {
		if n == 20 {
			t.Skip("the machine is so busy that events are missed each time")
		}
		p = knownGaps(t, bin)
	}
	checkKnownGaps(t, p, bin)
}

// knownGaps profiles testdata/gaps.c.
func knownGaps(t *testing.T, bin string) *Profile {
	t.Helper()
	o := every()
	in, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer end.Close()
	o.Child = startQuiet(t, in, bin)
	// Mappings can only be read while the process is there: it ends when its last site has its name.
	o.Interval = 100 * time.Millisecond
	intervals := 0
	o.OnInterval = func(p *Profile) error {
		// It is seen at once, or was missed.
		if intervals++; intervals > 50 || len(sitesOf(p, "site_exec")) > 0 {
			end.Close()
		}
		return nil
	}
	p, err := Run(limit(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Child.Status(); got != 7 {
		t.Errorf("status %d", got)
	}
	return p
}

func checkKnownGaps(t *testing.T, p *Profile, bin string) {
	for _, c := range []struct {
		site, caller, syscall string
		calls                 uint64
	}{
		{"site_short", "caller_a", "getppid", 3000},
		{"site_short", "caller_b", "getppid", 2000},
		{"site_short", "caller_long", "getppid", 1},
		{"site_long", "caller_long", "getuid", 100},
		{"deep_site", "caller_deep", "getpriority", 500},
		{"lost_site", "-", "sched_get_priority_max", 6000},
		{"site_thread", "thread", "getgid", 16 * 250}, // threads that have ended
		{"site_child", "main", "getegid", 700},        // a process
		{"site_exec", "main", "geteuid", 900},         // what the first one executes
	} {
		all := sitesOf(p, c.site)
		s, ok := all[c.caller]
		if !ok {
			t.Errorf("no %s called from %s; there are %v", c.site, c.caller, all)
			continue
		}
		if s.Gaps+s.Cut != c.calls || s.Syscall != c.syscall || s.Site.File != bin {
			t.Errorf("%s called from %s: %d gaps, %d cut, %s in %s; want %d, %s in %s", c.site, c.caller, s.Gaps, s.Cut, s.Syscall, s.Site.File, c.calls, c.syscall, bin)
		}
	}
	if n := len(sitesOf(p, "site_short")); n != 3 {
		t.Errorf("site_short has %d callers", n)
	}
	if n := len(sitesOf(p, "lost_site")); n != 1 {
		t.Errorf("lost_site has %d callers: words that are no addresses count", n)
	}
	// A million dependent multiplications take at least half a millisecond at 6 GHz. Short gaps have no bound, but half of
	// 3000 being as long would not be seen on any machine.
	long, short := sitesOf(p, "site_long")["caller_long"], sitesOf(p, "site_short")["caller_a"]
	if long.GapNS.P50 < 4e5 || short.GapNS.P50 > long.GapNS.P50 {
		t.Errorf("medians: %g ns of long gaps, %g ns of short ones", long.GapNS.P50, short.GapNS.P50)
	}
	if long.Saves.Linux != 0 || long.Saves.Sentry != 0 {
		t.Errorf("bypass of long gaps saves %+v", long.Saves)
	}
	if p.Lost != 0 || p.CPU == 0 || p.CallsPerSecond == 0 || p.Crossing.Linux <= 0 {
		t.Errorf("%d lost, %g s, %g calls/s, crossing %g ns", p.Lost, p.CPU, p.CallsPerSecond, p.Crossing.Linux)
	}
}

// underLoad starts a program that makes system calls until it is killed.
func underLoad(t *testing.T, bin string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(bin, "load")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatalf("the program said %q, %v", l, err)
	}
	return cmd
}

// TestWindows profiles running programs in windows: one process, and the whole machine.
func TestWindows(t *testing.T) {
	needBPF(t)
	bin := compile(t)
	cmd := underLoad(t, bin)
	for _, all := range []bool{false, true} {
		name := "process"
		if all {
			name = "machine"
		}
		t.Run(name, func(t *testing.T) {
			o := Options{All: all, MaxCost: 0.02, Interval: 200 * time.Millisecond, SentryCrossing: 2000}
			if !all {
				o.PID = cmd.Process.Pid
			}
			// On a busy machine the program may not run in a window, so it takes as many as it takes.
			ctx, stop := context.WithCancel(limit(t))
			defer stop()
			var gaps uint64
			intervals := 0
			o.OnInterval = func(p *Profile) error {
				gaps += p.Gaps
				intervals++
				if s := sitesOf(p, "site_load")["main"]; s.Gaps > 0 {
					stop()
				}
				return nil
			}
			p, err := Run(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			s, ok := sitesOf(p, "site_load")["main"]
			if !ok || s.Gaps == 0 || s.Syscall != "getpgrp" || s.CallsPerSecond <= 0 {
				t.Errorf("site_load: %+v", s)
			}
			if !all && len(p.Sites) != 1 {
				t.Errorf("a program with one site has %d", len(p.Sites))
			}
			if intervals == 0 || gaps > p.Gaps || p.Observed > p.Seconds {
				t.Errorf("%d intervals with %d gaps of %d; %g s of %g s", intervals, gaps, p.Gaps, p.Observed, p.Seconds)
			}
		})
	}
}

// TestTargetEnds: profiling ends with the process.
func TestTargetEnds(t *testing.T) {
	needBPF(t)
	cmd := underLoad(t, compile(t))
	o := every()
	o.PID = cmd.Process.Pid
	o.Interval = 100 * time.Millisecond
	o.OnInterval = func(*Profile) error { return cmd.Process.Kill() }
	ctx := limit(t)
	if _, err := Run(ctx, o); err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

func TestTargets(t *testing.T) {
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := FindProcess(gone.Process.Pid); !errors.Is(err, errGone) {
		t.Errorf("a process that has ended: %v", err)
	}
	if pid, name, err := FindProcess(unix.Gettid()); err != nil || pid != os.Getpid() || name == "" {
		t.Errorf("a thread of this process: %d, %q, %v", pid, name, err)
	}
	if _, _, err := watch(gone.Process.Pid); !errors.Is(err, errGone) {
		t.Errorf("watching a process that has ended: %v", err)
	}
	if _, err := Start([]string{"/no/such/program"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that does not exist: %v", err)
	}
	c := startQuiet(t, nil, "/bin/sh", "-c", "kill -TERM $$")
	if _, ended := c.CPU(); ended {
		t.Error("a program has run that was not released")
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if got := c.Status(); got != 128+15 {
		t.Errorf("a program killed by SIGTERM: status %d", got)
	}
}

// TestBucketsInKernel compares the eBPF program's buckets with bucketOf.
func TestBucketsInKernel(t *testing.T) {
	needBPF(t)
	for b := range numBuckets {
		for _, ns := range []uint64{bucketLow(b), bucketLow(b+1) - 1, 1 << 62} {
			var p program
			p.add(asm.LoadImm(asm.R1, int64(ns), asm.DWord))
			p.bucket()
			p.add(asm.Mov.Reg(asm.R0, asm.R1), asm.Return())
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: p.ins, License: "GPL"})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			got, _, err := prog.Test(make([]byte, 14))
			prog.Close()
			if err != nil {
				t.Fatal(err)
			}
			if int(got) != bucketOf(ns) {
				t.Errorf("%d ns are in bucket %d, not %d", ns, got, bucketOf(ns))
			}
		}
	}
}
