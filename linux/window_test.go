package linux

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWindows runs programs in windows of time that change thousands of times a second, at random: what they do is the same, no
// pass has bypass where its gate is closed, and what is timed is plausible.
func TestWindows(t *testing.T) {
	needModule(t)
	var windows int
	var passes [2]uint64
	dir := filepath.Dir(os.Getenv("UB_TEST_VICTIM"))
	for _, cmd := range []string{"timer", "futex", "fpu", "storm", "regs", "processes threads", "vectors emulated", "eintr", "gaps 2000"} {
		t.Run(cmd, func(t *testing.T) {
			argv := strings.Fields(cmd)
			argv[0] = filepath.Join(dir, argv[0])
			want, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("natively: %v: %s", err, want)
			}
			c := exec.Command(argv[0], argv[1:]...)
			var got bytes.Buffer
			c.Stdout, c.Stderr = &got, &got
			f := &flipper{t: t, rng: rand.New(rand.NewPCG(uint64(len(cmd)), 3)), seen: map[uint64]bool{}}
			f.run(c)
			if got := got.String(); got != string(want) || c.ProcessState.ExitCode() != 0 {
				t.Errorf("status %v, output\n%s\nnatively\n%s", c.ProcessState, got, want)
			}
			t.Logf("%d windows, %d passes timed natively, %d with bypass, at %d places; %+v", f.windows, f.passes[0], f.passes[1], len(f.seen), f.stats)
			windows += f.windows
			passes[0] += f.passes[0]
			passes[1] += f.passes[1]
		})
	}
	if windows < 200 || passes[0] < 1000 || passes[1] < 1000 {
		t.Errorf("%d windows, %d passes timed natively, %d with bypass", windows, passes[0], passes[1])
	}
}

// flipper changes windows.
type flipper struct {
	t       *testing.T
	rng     *rand.Rand
	seen    map[uint64]bool
	windows int
	passes  [2]uint64
	stats   Stats
}

// run runs a program from its first instruction on: it waits in its exec, traced by this thread, until it is enrolled.
func (f *flipper) run(c *exec.Cmd) {
	t := f.t
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := c.Process.Pid
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	// It gives way to whoever translates for it.
	if err := unix.Setpriority(unix.PRIO_PROCESS, pid, 19); err != nil {
		t.Fatal(err)
	}
	conf := DefaultConfig()
	conf.Eager, conf.Guard, conf.Controller, conf.HotCount, conf.MissCount = true, false, false, 2, 2
	s, err := Attach(pid, conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var w window
	buf := make([]Passes, s.version.MaxPasses)
	for {
		select {
		case <-ended:
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the session: %v", err)
			}
			f.stats = s.Status().Stats
			s.Close()
			return
		case <-time.After(time.Duration(100+f.rng.IntN(1500)) * time.Microsecond):
		}
		next := f.next()
		n, err := s.dev.Window(&next, buf)
		if err != nil {
			t.Error(err)
		}
		f.check(&w, buf[:n])
		w = next
		f.windows++
	}
}

// next is a window without sense: mostly timed, some gates, any floor.
func (f *flipper) next() window {
	w := window{floor: uint32(f.rng.IntN(4)), timed: f.rng.IntN(4) != 0, clip: 1 << 20, longest: 1 << 24}
	for rip := range f.seen {
		if f.rng.IntN(3) == 0 {
			w.gates = append(w.gates, abiGate{rip: rip, gate: uint32(f.rng.IntN(3))})
		}
	}
	slices.SortFunc(w.gates, func(a, b abiGate) int { return int(int64(a.rip - b.rip)) })
	return w
}

func (f *flipper) check(w *window, passes []Passes) {
	if !w.timed && len(passes) > 0 {
		f.t.Errorf("passes of a window that was not timed: %+v", passes)
	}
	for i := range passes {
		p := &passes[i]
		f.seen[p.RIP] = true
		f.passes[p.How&1] += uint64(p.Count)
		gate := uint32(gateKept)
		for _, g := range w.gates {
			if g.rip == p.RIP {
				gate = g.gate
			}
		}
		if closed := gate <= w.floor; p.How > 1 || closed != (p.How == 0) {
			f.t.Errorf("gate %d, floor %d: %+v", gate, w.floor, p)
		}
		if p.Count == 0 || p.Misses+p.Stops > p.Count || p.Tails > p.Count || p.How == 0 && p.Misses+p.Stops != 0 ||
			p.Sum == 0 || p.Sum > 2*uint64(p.Count)*w.clip || // with the ends of chains
			p.Excess > uint64(p.Tails)*(w.longest-w.clip) {
			f.t.Errorf("clip %d, longest %d: %+v", w.clip, w.longest, p)
		}
	}
}
