package sentry

import (
	"testing"

	"gvisor.dev/gvisor/pkg/sentry/arch"

	"ub/hot"
	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// clocked is a task on a virtual clock, one tick to the nanosecond, that goes through one gap again and again.
type clocked struct {
	*rig
	now uint64

	native, btc uint64 // what a pass takes
	reason      machine.Reason
	runs        int
}

const clockedMS = 1_000_000

// newClocked makes one whose gap at 0x1100 has code, with the controller on.
func newClocked(t *testing.T) *clocked {
	r := newRig(t)
	k := &clocked{rig: r, now: 1000 * clockedMS, native: 5000, btc: 100, reason: machine.ExitSyscall}
	c := statfile.DefaultConfig()
	r.e.config = c
	r.e.policy = c.Policy(1000)
	r.e.ticks = func() uint64 { return k.now }
	r.c = newContext(r.p, r.inner)
	r.inner.native = func(regs *arch.Registers) error {
		k.now += k.native
		regs.Rip, regs.Orig_rax = 0x1100, 39
		return nil
	}
	r.th.run = func(th *fakeThread, code machine.Code) machine.Exit {
		k.now += k.btc
		k.runs++
		if k.reason == machine.ExitSyscall {
			th.regs.RIP, th.regs.GPR[rax] = 0x1100, 39
		}
		return machine.Exit{Reason: k.reason}
	}
	r.distinct(0x1100)
	return k
}

// pass goes through the gap until ms milliseconds are over.
func (k *clocked) pass(ms uint64) {
	for end := k.now + ms*clockedMS; k.now < end; {
		if err := k.doSwitch(); err != nil {
			k.t.Fatal(err)
		}
		k.now += 300
		k.run()
	}
}

// run lets the worker serve what is queued.
func (k *clocked) run() { k.rig.world.run() }

// state is that of the gap, or of its one caller's.
func (k *clocked) state() hot.State {
	k.e.mu.Lock()
	defer k.e.mu.Unlock()
	g := k.as.gaps[gapKey{rip: 0x1100}]
	if g == nil {
		return hot.Waiting
	}
	state := g.State
	if state == hot.Split {
		for key, sub := range k.as.gaps {
			if key.rip == 0x1100 && key.caller != 0 {
				state = sub.State
			}
		}
	}
	return state
}

func (k *clocked) want(when string, state hot.State) {
	k.t.Helper()
	if got := k.state(); got != state {
		k.t.Errorf("%s: the gap is %v, want %v", when, got, state)
	}
}

func TestGapThatPaysIsKept(t *testing.T) {
	k := newClocked(t)
	k.pass(30)
	k.want("after a trial", hot.Kept)
	before, runs := k.inner.switches, k.runs
	k.pass(30)
	if n, m := k.inner.switches-before, k.runs-runs; n > m/50 {
		t.Errorf("%d crossings beside %d bypassed syscalls of a gap that is kept", n, m)
	}
	k.c.flush()
	k.e.writeSites()
	gaps := k.e.stats.Gaps()
	if len(gaps) != 1 || gaps[0].Site != 0x1100 || hot.State(gaps[0].State) != hot.Kept || gaps[0].PayoffNS <= 0 || gaps[0].Bypassed == 0 {
		t.Errorf("gap table: %+v", gaps)
	}
}

// Whatever makes bypass a loss, it ends, and comes back when it pays again.
func TestGapIsRolledBackAndTakenBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(k *clocked)
	}{
		{"slower", func(k *clocked) { k.btc = 30_000 }},
		{"never at a syscall", func(k *clocked) { k.reason = machine.ExitStop }},
		{"always a fault", func(k *clocked) { k.reason = machine.ExitFault }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newClocked(t)
			tc.set(k)
			k.pass(200)
			k.want("after a trial", hot.RolledBack)
			before := k.runs
			k.pass(100)
			if n := k.runs - before; n > 100 {
				t.Errorf("BTC is still entered: %d times", n)
			}
			k.btc, k.reason = 100, machine.ExitSyscall
			for i := 0; i < 100 && k.state() != hot.Kept; i++ {
				k.pass(50)
			}
			k.want("when it pays", hot.Kept)
			tc.set(k)
			k.pass(200)
			k.want("when it does not any more", hot.RolledBack)
			k.wantCount(statfile.VerifierRefused, 0)
		})
	}
}

// A gap that loses again and again gives its code up, and is nominated no more until its time has come.
func TestRetiredGapLosesItsCode(t *testing.T) {
	k := newClocked(t)
	k.btc = 30_000
	k.e.policy.RetireAfter, k.e.policy.Retry = 3, 100*clockedMS
	for i := 0; i < 100 && k.count(statfile.SitesRetired) == 0; i++ {
		k.pass(50)
	}
	k.wantCount(statfile.SitesRetired, 1)
	if live(k.as, 0x1100) {
		t.Error("the code is still there")
	}
	k.pass(50)
	if live(k.as, 0x1100) {
		t.Error("translated again at once")
	}
}

// Two callers of one site: bypass pays for one of them only.
func TestCallersAreToldApart(t *testing.T) {
	k := newClocked(t)
	slow := false
	k.th.run = func(th *fakeThread, code machine.Code) machine.Exit {
		k.now += 100
		if slow {
			k.now += 30_000
		}
		th.regs.RIP, th.regs.GPR[rax] = 0x1100, 39
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	k.e.gapFor(k.as, gapKey{rip: 0x1100}, k.as.sites[0x1100]).SplitUp(k.now)
	caller := byte(0xa)
	k.e.read = func(_ *machine.Window, rsp uint64, dst []byte) bool {
		clear(dst)
		dst[0], dst[1] = caller, 0x11
		return rsp == 4 // as distinct has it
	}
	for range 60_000 {
		caller, slow = 0xa, false
		k.doSwitch()
		caller, slow = 0xb, true
		k.doSwitch()
	}
	k.e.mu.Lock()
	defer k.e.mu.Unlock()
	good, bad := k.as.gaps[gapKey{0x1100, 0x110a}], k.as.gaps[gapKey{0x1100, 0x110b}]
	if good.State != hot.Kept || bad.State != hot.RolledBack && bad.State != hot.Trial {
		t.Errorf("the one that pays is %v, the other %v", good.State, bad.State)
	}
}

// What a wrapper leaves where a return address was once, such as the addresses of a server's clients, is no caller.
func TestCallersAreCode(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	s := as.sites[0x1100]
	w.e.gapFor(as, gapKey{rip: 0x1100}, s)
	others := w.e.gapFor(as, gapKey{0x1100, otherCallers}, s)
	for i := range uint64(5) {
		if g := w.e.gapFor(as, gapKey{0x1100, 0x7000_0000 + i<<8}, s); g != others {
			t.Errorf("%+v has a gap of its own", g.key)
		}
		if g := w.e.gapFor(as, gapKey{0x1100, 0x1100 + i}, s); g == others {
			t.Errorf("%+v has none", g.key)
		}
	}
}

func TestGapsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	s := as.sites[0x1100]
	w.e.gapFor(as, gapKey{rip: 0x1100}, s)
	for i := range uint64(10 * maxGaps) {
		if g := w.e.gapFor(as, gapKey{0x1100, 0x1001 + i}, s); g == nil {
			t.Fatal("no gap")
		}
		w.e.gapFor(as, gapKey{rip: 0x2000 + i}, s)
	}
	if n := len(as.gaps); n > maxGaps {
		t.Errorf("%d gaps", n)
	}
	n := 0
	for k := range as.gaps {
		if k.rip == 0x1100 {
			n++
		}
	}
	if n > maxCallers+2 {
		t.Errorf("%d gaps of one site", n)
	}
	w.e.dropSpace(as)
	if len(w.e.freeGaps) != statfile.NumGaps {
		t.Errorf("%d of %d places of the gap table are free at the end", len(w.e.freeGaps), statfile.NumGaps)
	}
}
