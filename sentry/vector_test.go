package sentry

import (
	"errors"
	"testing"

	"gvisor.dev/gvisor/pkg/sentry/arch"

	"ub/sentry/machine"
	"ub/target"
)

// vectorRig is a rig whose site runs at level VecAVX, always up to a syscall.
func vectorRig(t *testing.T) *rig {
	r := newRig(t)
	r.th.run = func(t *fakeThread, _ machine.Code) machine.Exit {
		t.regs.RIP = 0x1100
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	return r
}

// bypass makes one bypassed syscall at level v, native one that is not.
func (r *rig) bypass(v target.Vec) {
	r.distinct(0x1100)
	r.c.cache.lookup(r.as, r.as.entries.Load(), 0x1100, 0).vec = v
	before := r.inner.switches
	if err := r.doSwitch(); err != nil || r.inner.switches != before {
		r.t.Fatalf("not bypassed: %v", err)
	}
}

func (r *rig) native() {
	r.distinct(0x9000)
	if err := r.doSwitch(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wantMoves(what string, pulls, loaded, stored, changed int) {
	r.t.Helper()
	got := [4]int{r.inner.pulls, r.th.loaded, r.th.stored, r.inner.changed}
	if want := [4]int{pulls, loaded, stored, changed}; got != want {
		r.t.Errorf("%s: pulled, loaded, stored, changed %v, want %v", what, got, want)
	}
	r.inner.pulls, r.th.loaded, r.th.stored, r.inner.changed = 0, 0, 0, 0
}

// TestVectorStateMoves: vector state is moved only when it is wanted elsewhere, and never lost.
func TestVectorStateMoves(t *testing.T) {
	r := vectorRig(t)
	r.bypass(target.VecNone)
	r.native()
	r.wantMoves("no vector code", 0, 0, 0, 0)

	for range 3 {
		r.bypass(target.VecAVX)
		r.bypass(target.VecNone)
	}
	r.wantMoves("bypassed", 1, 1, 0, 0)
	if r.bypass(target.VecAVX); r.th.level != target.VecAVX {
		t.Errorf("runs at level %v", r.th.level)
	}
	if r.bypass(target.VecNone); r.th.level != target.VecNone {
		t.Errorf("runs at level %v, without need", r.th.level)
	}
	r.native()
	r.wantMoves("native after bypassed", 0, 0, 1, 1)
	r.native()
	r.wantMoves("native again", 0, 0, 0, 0)

	r.bypass(target.VecAVX)
	r.wantMoves("bypassed after native", 1, 1, 0, 0)
	if err := r.c.PullFullState(r.as, r.ac); err != nil {
		t.Fatal(err)
	}
	r.wantMoves("pulled by the Sentry", 1, 0, 1, 1)
	r.native()
	r.wantMoves("native after that", 0, 0, 0, 0)

	// A signal handler is set up, or returns: the Sentry writes the state.
	r.bypass(target.VecAVX)
	r.c.PullFullState(r.as, r.ac)
	r.c.FullStateChanged()
	r.wantMoves("changed by the Sentry", 2, 1, 1, 2)
	r.bypass(target.VecAVX)
	r.wantMoves("bypassed on the changed state", 1, 1, 0, 0)

	// execve: what the block has belongs to a program that is no more.
	r.ac = arch.New(arch.AMD64)
	r.native()
	r.wantMoves("native after execve", 0, 0, 0, 0)
	r.bypass(target.VecAVX)
	r.wantMoves("bypassed after execve", 1, 1, 0, 0)
}

// TestVectorStateRefused: with a state that translated code cannot start from, the program runs natively.
func TestVectorStateRefused(t *testing.T) {
	r := vectorRig(t)
	r.th.loadErr = errors.New("no")
	r.distinct(0x1100)
	r.c.cache.lookup(r.as, r.as.entries.Load(), 0x1100, 0).vec = target.VecAVX
	if err := r.doSwitch(); err != nil || r.inner.switches != 1 {
		t.Fatalf("%v, %d native rounds", err, r.inner.switches)
	}
	r.th.loadErr = nil
	r.bypass(target.VecAVX)
	r.bypass(target.VecNone)
}
