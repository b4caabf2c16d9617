package linux

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// measured is a world whose module counts a millisecond as a million ticks, with a path behind behind.
func measured(t *testing.T) *world {
	w := newWorld(t)
	w.version.TicksKHz, w.version.MaxGates, w.version.MaxPasses = 1e6, 1024, 1024
	w.controller = newController(&w.policy, &w.version, w.clock)
	w.feed(hotEvent(behind, 64))
	if len(w.blobs) != 1 {
		t.Fatal("no path")
	}
	return w
}

// turn lets the window end, in which a pass of each gap took so many ns natively and with bypass.
func (w *world) turn(native, bypassed map[uint64]uint64) {
	w.clock = w.clock.Add(max(w.controller.wait(w.clock), 100*time.Microsecond))
	w.d.passes = nil
	last := w.controller.told
	for _, rip := range []uint64{behind, behind + 100} {
		gate := uint32(gateKept)
		for _, g := range last.gates {
			if g.rip == rip {
				gate = g.gate
			}
		}
		p := Passes{RIP: rip, End: rip, NR: 39, Count: 100}
		if gate > last.floor {
			p.How, p.Sum = 1, 100*bypassed[rip]
		} else {
			p.Sum = 100 * native[rip]
		}
		if p.Sum > 0 && last.timed {
			w.d.passes = append(w.d.passes, p)
		}
	}
	w.control()
}

func (w *world) gate(rip uint64) uint32 {
	for _, g := range w.controller.told.gates {
		if g.rip == rip {
			return g.gate
		}
	}
	return gateKept
}

// A gap that pays is kept, one that does not is closed, and found in passing; then it is quiet but for a pair each second.
func TestControl(t *testing.T) {
	w := measured(t)
	native, bypassed := map[uint64]uint64{behind: 300, behind + 100: 500}, map[uint64]uint64{behind: 100, behind + 100: 2000}
	for range 200 {
		w.turn(native, bypassed)
	}
	w.judge()
	gaps := map[uint64]GapStatus{}
	for _, g := range w.Status().Gaps {
		gaps[g.RIP] = g
	}
	if g := gaps[behind]; g.State != "kept" || g.Saves != 200 || g.NativeNS != 300 || g.BypassNS != 100 || w.gate(behind) != gateKept {
		t.Errorf("%+v, gate %d", g, w.gate(behind))
	}
	if g := gaps[behind+100]; g.Setbacks == 0 || g.State == "kept" || w.gate(behind+100) == gateKept {
		t.Errorf("%+v, gate %d", g, w.gate(behind+100))
	}
	if w.counts.Decisions < 2 || w.counts.Windows < 12 || w.counts.Timed < 1000 {
		t.Errorf("%+v", w.counts)
	}
	n, clock := len(w.d.windows), w.clock
	for w.clock.Before(clock.Add(time.Minute)) {
		w.turn(native, bypassed)
	}
	// Five calls a pair: two to begin windows, two to end them, one for what comes after. Trials of what has lost are more.
	if n := len(w.d.windows) - n; n > 5*(60+8*20) {
		t.Errorf("%d calls in a minute", n)
	}
}

// Half of the windows of a pair are without bypass, all of them are timed, and the others are not.
func TestControlsWindows(t *testing.T) {
	w := measured(t)
	for range 60 {
		w.turn(map[uint64]uint64{behind: 300}, map[uint64]uint64{behind: 100})
	}
	var with, without int
	for _, x := range w.d.windows {
		switch {
		case x.timed && x.floor == gateKept:
			without++
		case x.timed && x.floor == gateProbe:
			with++
		case x.timed || x.floor != gateTrial:
			t.Errorf("%+v", x)
		}
		if x.timed && (x.clip != 50_000 || x.longest != 10_000_000) {
			t.Errorf("%+v", x)
		}
	}
	if without < 6 || with-without > 1 || without-with > 1 {
		t.Errorf("%d windows with bypass, %d without", with, without)
	}
}

// While the guard compares, nothing else does.
func TestControlLeavesTheGuardAlone(t *testing.T) {
	w := measured(t)
	for !w.controller.proc.Pairing() {
		w.turn(nil, nil)
	}
	w.guard = newGuard(w.clock)
	w.guard.state = guardFirst
	w.control()
	if w.controller.proc.Pairing() || w.controller.told.timed {
		t.Errorf("the pair goes on: %+v", w.controller.told)
	}
	n := len(w.d.windows)
	w.clock = w.clock.Add(time.Minute)
	w.control()
	if len(w.d.windows) != n {
		t.Error("a window has begun")
	}
	if w.measures() {
		t.Error("Run waits for a window to end that nobody ends")
	}
	w.guard.state = guardWaits
	for range 60 {
		w.turn(map[uint64]uint64{behind: 300}, map[uint64]uint64{behind: 100})
	}
	if w.controller.gaps()[0].State != "kept" {
		t.Errorf("%+v", w.controller.gaps())
	}
}

// The guard waits until single gaps are decided.
func TestControlPostponesTheGuard(t *testing.T) {
	w := measured(t)
	w.guard = newGuard(w.clock)
	until := w.guard.until
	for !w.controller.proc.Pairing() {
		w.turn(nil, nil)
	}
	w.clock = until.Add(-time.Millisecond)
	w.turn(map[uint64]uint64{behind: 300}, map[uint64]uint64{behind: 100})
	if !w.guard.until.After(until) {
		t.Error("the guard begins while a gap is on trial")
	}
}

// A module that has no windows, or gives up on them, leaves bypass as it is without a controller.
func TestControlGivesUp(t *testing.T) {
	w := newWorld(t)
	if w.controller != nil {
		t.Fatal("there is no clock to measure with")
	}
	w.control()
	w = measured(t)
	w.d.windowErr = unix.ENOMEM
	for range 20 {
		if w.controller == nil {
			break
		}
		w.turn(nil, nil)
	}
	if w.controller != nil {
		t.Error("it goes on")
	}
	w.judge()
	if g := w.Status().Gaps; g == nil || len(g) != 0 {
		t.Errorf("%v", g)
	}
}

// A gap whose code goes is forgotten.
func TestControlForgets(t *testing.T) {
	w := measured(t)
	for range 60 {
		w.turn(map[uint64]uint64{behind: 300}, map[uint64]uint64{behind: 100})
	}
	w.feed(Event{Type: EventInvalid, RIP: w.blobs[0].id, Count: 1})
	if g := w.controller.gaps(); len(g) != 0 {
		t.Errorf("%+v", g)
	}
}

// What is to be translated but is not paid for does not keep a gap from being measured: nginx had chains that all ended by a miss
// for as long as translation waited.
func TestControlDoesNotWaitForTheBudget(t *testing.T) {
	w := measured(t)
	w.config.TranslateFirst, w.config.TranslatePercent = 0, 1
	w.policy = w.config.policy()
	w.budget.Spend(uint64(time.Hour))
	w.feed(w.miss(branch, callee, 100))
	if len(w.queue) != 1 {
		t.Fatalf("%d requests wait", len(w.queue))
	}
	for range 100 {
		w.turn(map[uint64]uint64{behind: 300}, map[uint64]uint64{behind: 2000})
	}
	if g := w.controller.gaps()[0]; g.Setbacks == 0 {
		t.Errorf("%+v", g)
	}
}
