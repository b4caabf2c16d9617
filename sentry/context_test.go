package sentry

import (
	"math/rand"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/target"
)

// fakeContext is systrap's context: a native Switch runs native, after the interrupt semantics of systrap's.
type fakeContext struct {
	platform.Context
	pending  atomic.Bool
	switches int
	native   func(regs *arch.Registers) error
	as       platform.AddressSpace

	pulls, changed int
}

func (f *fakeContext) PullFullState(platform.AddressSpace, *arch.Context64) error {
	f.pulls++
	return nil
}

func (f *fakeContext) FullStateChanged() { f.changed++ }

func (f *fakeContext) Switch(_ pkgcontext.Context, mm platform.MemoryManager, ac *arch.Context64, _ int32) (*linux.SignalInfo, hostarch.AccessType, error) {
	f.switches++
	f.as = mm.AddressSpace()
	if f.pending.Swap(false) {
		return nil, hostarch.NoAccess, platform.ErrContextInterrupt
	}
	return nil, hostarch.NoAccess, f.native(&ac.StateData().Regs)
}

func (f *fakeContext) Interrupt() { f.pending.Store(true) }
func (f *fakeContext) Release()   {}

type fakeMM struct {
	platform.MemoryManager
	as platform.AddressSpace
}

func (m *fakeMM) AddressSpace() platform.AddressSpace { return m.as }

// fakeThread is the machine's thread. run plays the translated code; stop is sticky, as the machine's is.
type fakeThread struct {
	regs  machine.Regs
	stop  atomic.Bool
	run   func(t *fakeThread, code machine.Code) machine.Exit
	bound map[uint64]machine.Code
	freed bool

	loaded, stored int
	loadErr        error
	level          target.Vec
}

func (t *fakeThread) Regs() *machine.Regs { return &t.regs }
func (t *fakeThread) Run(w *machine.Window, code machine.Code) machine.Exit {
	if t.stop.Load() {
		return machine.Exit{Reason: machine.ExitFuel}
	}
	return t.run(t, code)
}
func (t *fakeThread) Bind(rip uint64, code machine.Code) { t.bound[rip] = code }
func (t *fakeThread) LoadVec(area []byte) error          { t.loaded++; return t.loadErr }
func (t *fakeThread) StoreVec(area []byte)               { t.stored++ }
func (t *fakeThread) SetVec(level target.Vec)            { t.level = level }
func (t *fakeThread) Stop()                              { t.stop.Store(true) }
func (t *fakeThread) ClearStop()                         { t.stop.Store(false) }
func (t *fakeThread) Free()                              { t.freed = true }

type rig struct {
	*world
	as    *addressSpace
	c     *threadContext
	inner *fakeContext
	th    *fakeThread
	ac    *arch.Context64
	mm    *fakeMM
}

// newRig makes a task whose address space has a live site at 0x1100.
func newRig(t *testing.T) *rig {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	r := &rig{world: w, as: as, inner: &fakeContext{}, ac: arch.New(arch.AMD64), mm: &fakeMM{as: as}}
	r.th = &fakeThread{bound: map[uint64]machine.Code{}}
	w.p.threads = func() (btcThread, error) { return r.th, nil }
	r.c = newContext(w.p, r.inner)
	r.inner.native = func(*arch.Registers) error { return nil }
	return r
}

func (r *rig) regs() *arch.Registers { return &r.ac.StateData().Regs }

func (r *rig) doSwitch() error {
	_, _, err := r.c.Switch(pkgcontext.Background(), r.mm, r.ac, -1)
	return err
}

// distinct gives every register a value of its own.
func (r *rig) distinct(rip uint64) arch.Registers {
	*r.regs() = arch.Registers{PtraceRegs: linux.PtraceRegs{
		R15: 15, R14: 14, R13: 13, R12: 12, Rbp: 5, Rbx: 3, R11: 11, R10: 10, R9: 9, R8: 8, Rax: 100, Rcx: 1, Rdx: 2,
		Rsi: 6, Rdi: 7, Orig_rax: 0x77, Rip: rip, Cs: 0x33, Eflags: 0x246, Rsp: 4, Ss: 0x2b, Fs_base: 0xf5, Gs_base: 0x65,
		Ds: 0xd5, Es: 0xe5, Fs: 0xf6, Gs: 0x66,
	}}
	return *r.regs()
}

func TestSwitchToSyscall(t *testing.T) {
	r := newRig(t)
	want := r.distinct(0x1100)
	var seen machine.Regs
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		seen = t.regs
		t.regs.GPR[rax] = 39
		t.regs.GPR[r12] = 0xc
		t.regs.RIP = 0x1200
		t.regs.Flags = 0x10287
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	if err := r.doSwitch(); err != nil {
		t.Fatal(err)
	}
	for i, v := range []uint64{100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} {
		if seen.GPR[i] != v {
			t.Errorf("BTC got %d in register %d", seen.GPR[i], i)
		}
	}
	if seen.RIP != 0x1100 || seen.Flags != 0x246 || seen.FSBase != 0xf5 {
		t.Errorf("BTC got RIP %#x, flags %#x, FS base %#x", seen.RIP, seen.Flags, seen.FSBase)
	}
	want.Rax, want.Orig_rax, want.R12, want.Rip, want.Rcx, want.Eflags, want.R11 = 39, 39, 0xc, 0x1200, 0x1200, 0x10287, 0x287
	if *r.regs() != want {
		t.Errorf("after the syscall:\n got %+v\nwant %+v", *r.regs(), want)
	}
	if r.inner.switches != 0 {
		t.Error("went native")
	}
}

// Every exit that is no syscall must leave the exact state to a native Switch.
func TestSwitchGoesNativeExactly(t *testing.T) {
	for _, tc := range []struct {
		name string
		exit machine.Exit
		rax  uint64
		back uint64 // by how much RIP moves back
		stat statfile.Counter
	}{
		{"stop", machine.Exit{Reason: machine.ExitStop}, 1, 0, statfile.ExitStop},
		{"fault", machine.Exit{Reason: machine.ExitFault}, 1, 0, statfile.ExitFault},
		{"miss", machine.Exit{Reason: machine.ExitMiss, From: 0x1108}, 1, 0, statfile.MissUnknown},
		{"miss from nowhere", machine.Exit{Reason: machine.ExitMiss}, 1, 0, statfile.MissUnknown},
		{"fuel", machine.Exit{Reason: machine.ExitFuel}, 1, 0, statfile.ExitFuel},
		{"x32 syscall", machine.Exit{Reason: machine.ExitSyscall}, 1<<30 | 39, 2, statfile.ExitStop},
		{"negative syscall", machine.Exit{Reason: machine.ExitSyscall}, ^uint64(0), 2, statfile.ExitStop},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			want := r.distinct(0x1100)
			r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
				t.regs.GPR[rax], t.regs.GPR[rcx], t.regs.RIP, t.regs.Flags = tc.rax, 0xcc, 0x1234, 0x8d7
				return tc.exit
			}
			want.Rax, want.Rcx, want.Rip, want.Eflags = tc.rax, 0xcc, 0x1234-tc.back, 0x8d7
			var got arch.Registers
			r.inner.native = func(regs *arch.Registers) error { got = *regs; return platform.ErrContextSignal }
			if err := r.doSwitch(); err != platform.ErrContextSignal {
				t.Errorf("error %v: not the native Switch's answer", err)
			}
			if got != want {
				t.Errorf("native Switch:\n got %+v\nwant %+v", got, want)
			}
			if r.inner.as != r.as.inner {
				t.Error("systrap's context was given another address space than systrap's")
			}
			r.c.flush()
			r.wantCount(tc.stat, 1)
			r.wantCount(statfile.Bypassed, 0)
			r.wantCount(statfile.Crossings, 1)
		})
	}
}

func TestSwitchLinksKnownMisses(t *testing.T) {
	r := newRig(t)
	r.e.nominate(r.as, 0x1300, nil)
	r.world.run()
	r.distinct(0x1100)
	runs := 0
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		if runs++; runs == 1 {
			t.regs.RIP = 0x1300
			return machine.Exit{Reason: machine.ExitMiss, From: 0x1108}
		}
		if e := r.as.entries.Load().entries[0x1300]; code != e.code {
			panic("continued at another place than the miss's target")
		}
		t.regs.RIP = 0x1310
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	if err := r.doSwitch(); err != nil || runs != 2 || r.inner.switches != 0 {
		t.Fatalf("error %v, %d runs, %d native switches", err, runs, r.inner.switches)
	}
	if len(r.th.bound) != 1 || !r.th.bound[0x1300].Valid() {
		t.Errorf("bound: %v", r.th.bound)
	}
	// A retired entry that is still in the table: Run answers with a miss from nowhere. That must not loop.
	r.distinct(0x1100)
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit { return machine.Exit{Reason: machine.ExitMiss} }
	if r.doSwitch(); r.inner.switches != 1 {
		t.Error("did not go native")
	}
}

func TestSwitchStaysNative(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(r *rig)
	}{
		{"other address", func(r *rig) { r.regs().Rip = 0x1104 }},
		{"traced", func(r *rig) { r.e.standDown(r.as) }},
		{"interrupted", func(r *rig) { r.c.Interrupt() }},
		{"dropped", func(r *rig) { r.as.Unmap(0x1000, 0x1000) }},
		{"no thread", func(r *rig) { r.p.threads = func() (btcThread, error) { return nil, machine.ErrNoThread } }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.distinct(0x1100)
			r.th.run = func(th *fakeThread, code machine.Code) machine.Exit {
				t.Error("BTC was entered")
				return machine.Exit{Reason: machine.ExitStop}
			}
			tc.set(r)
			if r.doSwitch(); r.inner.switches != 1 {
				t.Errorf("%d native switches", r.inner.switches)
			}
		})
	}
}

// mprotect is looked at before gVisor serves it, bypassed or not.
func TestMprotectDropsCode(t *testing.T) {
	for _, bypassed := range []bool{true, false} {
		r := newRig(t)
		r.distinct(0x1100)
		if !bypassed {
			r.distinct(0x1500)
		}
		r.th.run = func(th *fakeThread, code machine.Code) machine.Exit {
			th.regs.GPR[rax], th.regs.GPR[rdi], th.regs.GPR[rsi], th.regs.GPR[rdx] = unix.SYS_MPROTECT, 0x1000, 0x1000, 7
			return machine.Exit{Reason: machine.ExitSyscall}
		}
		r.inner.native = func(regs *arch.Registers) error {
			regs.Orig_rax, regs.Rdi, regs.Rsi, regs.Rdx = unix.SYS_MPROTECT, 0x1000, 0x1000, 7
			return nil
		}
		r.doSwitch()
		if live(r.as, 0x1100) {
			t.Errorf("bypassed %v: code is live after mprotect(RWX)", bypassed)
		}
	}
}

func TestNominationFromSwitch(t *testing.T) {
	r := newRig(t)
	r.distinct(0x1500)
	for range 20 {
		r.doSwitch()
	}
	r.world.run()
	if !live(r.as, 0x1500) {
		t.Error("a site with short gaps was not nominated")
	}
	// The same address, but not behind a syscall each time: no site.
	r = newRig(t)
	r.inner.native = func(*arch.Registers) error { return platform.ErrContextSignal }
	r.distinct(0x1500)
	for range 20 {
		r.doSwitch()
	}
	r.world.run()
	if live(r.as, 0x1500) {
		t.Error("an address was nominated that is behind no syscall")
	}
}

// No interrupt may be lost: the program is an endless loop in BTC, which only Stop ends, so a lost one hangs.
func TestInterruptIsNeverLost(t *testing.T) {
	r := newRig(t)
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		for !t.stop.Load() {
			runtime.Gosched()
		}
		t.regs.RIP = 0x1100 // the loop's head is an entry: BTC goes on if nobody tells it otherwise
		return machine.Exit{Reason: machine.ExitFuel}
	}
	// Natively the same endless loop.
	r.inner.native = func(*arch.Registers) error {
		for !r.inner.pending.Swap(false) {
			runtime.Gosched()
		}
		return platform.ErrContextInterrupt
	}
	rng := rand.New(rand.NewSource(1))
	const rounds = 20_000
	returned := make(chan struct{})
	go func() {
		for range rounds {
			r.distinct(0x1100)
			if err := r.doSwitch(); err != platform.ErrContextInterrupt {
				t.Errorf("Switch returned %v", err)
			}
			returned <- struct{}{}
		}
	}()
	timeout := time.NewTimer(time.Minute)
	for i := range rounds {
		for range rng.Intn(200) {
			runtime.Gosched()
		}
		if rng.Intn(4) == 0 {
			go r.th.Stop() // somebody else's request, for a safe point or an invalidation
		}
		r.c.Interrupt()
		select {
		case <-returned:
		case <-timeout.C:
			t.Fatalf("interrupt %d was lost", i)
		}
	}
	r.c.flush()
	if r.count(statfile.Interrupts) < rounds/10 {
		t.Errorf("only %d of %d interrupts found the thread in BTC: this tested too little", r.count(statfile.Interrupts), rounds)
	}
}

func TestReleaseFreesTheThread(t *testing.T) {
	r := newRig(t)
	r.th.run = func(*fakeThread, machine.Code) machine.Exit { return machine.Exit{Reason: machine.ExitStop} }
	r.distinct(0x1100)
	r.doSwitch()
	r.c.Release()
	if !r.th.freed {
		t.Error("not freed")
	}
	r.c.Interrupt() // may come late; must not crash
	r.wantCount(statfile.ExitStop, 1)
}

func TestSwitchDoesNotAllocate(t *testing.T) {
	r := newRig(t)
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		t.regs.RIP = 0x1100
		t.regs.GPR[rax] = 39
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	r.distinct(0x1100)
	ctx := pkgcontext.Background()
	if n := testing.AllocsPerRun(5000, func() { r.c.Switch(ctx, r.mm, r.ac, -1) }); n != 0 {
		t.Errorf("%v allocations in a bypassed syscall", n)
	}
	r.distinct(0x1500)
	if n := testing.AllocsPerRun(5000, func() { r.c.Switch(ctx, r.mm, r.ac, -1) }); n > 0.1 {
		t.Errorf("%v allocations in a native syscall", n)
	}
}

func BenchmarkSwitch(b *testing.B) {
	t := &testing.T{}
	r := newRig(t)
	r.e.policy.SampleMin, r.e.policy.SampleMax = 16, 512
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		t.regs.RIP = 0x1100
		t.regs.GPR[rax] = 39
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	ctx := pkgcontext.Background()
	b.Run("bypassed", func(b *testing.B) {
		r.distinct(0x1100)
		for b.Loop() {
			r.c.Switch(ctx, r.mm, r.ac, -1)
		}
	})
	b.Run("native", func(b *testing.B) {
		r.distinct(0x1504)
		for b.Loop() {
			r.c.Switch(ctx, r.mm, r.ac, -1)
		}
	})
}
