package sentry

import (
	"testing"

	"ub/hot"
	"ub/sentry/statfile"
)

// Targets missed from one path while its translation has to wait are translated at once, those of other paths are not lost.
func TestRequestsForOnePathAreMerged(t *testing.T) {
	w := newWorld(t, nil)
	as, f := hotSite(t, w)
	mapAt(t, as, 0x5000, 0x1000, f, 0x20000, rx)
	targets := []uint64{0x1800, 0x1900, 0x1a00, 0x1b00}
	for i, to := range targets {
		for range firstMisses {
			w.e.missed(as, 0x1100+uint64(i), to, w.e.noGap, false, noStack)
		}
	}
	w.e.nominate(as, 0x5100, nil)
	before := w.translated
	w.run()
	if n := w.translated - before; n != 2 {
		t.Errorf("%d translations, want one for each of two paths", n)
	}
	for _, to := range append(targets, 0x1100, 0x5100) {
		if !live(as, to) {
			t.Errorf("%#x is no entry", to)
		}
	}
	w.wantCount(statfile.RequestsMerged, len(targets)-1)
	if s := as.sites[0x1100]; w.e.noGap.asked != 0 || s.extended != 1 {
		t.Errorf("%d requests left, %d extensions", w.e.noGap.asked, s.extended)
	}
}

// When one of several targets cannot be translated, the others are nevertheless.
func TestMergedRequestsFailOneByOne(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	w.bad = 0x1900
	for i, to := range []uint64{0x1800, 0x1900, 0x1a00} {
		for range firstMisses {
			w.e.missed(as, 0x1100+uint64(i), to, w.e.noGap, false, noStack)
		}
	}
	w.run()
	if !live(as, 0x1100) || !live(as, 0x1800) || live(as, 0x1900) || !live(as, 0x1a00) {
		t.Errorf("live: %v", as.entries.Load().entries)
	}
	if n := w.e.noGap.asked; n != 0 {
		t.Errorf("%d requests left", n)
	}
}

// Translation waits until crossings have paid for it.
func TestTranslationWaitsForItsBudget(t *testing.T) {
	w := newWorld(t, nil)
	w.e.policy.TranslateFirst, w.e.policy.TranslatePercent = 1000, 10
	as, _ := hotSite(t, w)
	w.e.budget.Spend(2000)
	for range firstMisses {
		w.e.missed(as, 0x1108, 0x1800, w.e.noGap, false, noStack)
	}
	w.run()
	if live(as, 0x1800) {
		t.Fatal("translated without a budget")
	}
	w.e.crossed(100, 1_000_000_000)
	select {
	case <-w.e.wake:
	default:
		t.Error("nobody has woken the worker")
	}
	w.run()
	if !live(as, 0x1800) {
		t.Error("not translated with a budget")
	}
}

// A new gap that ends where more is about to be translated runs natively until that is there.
func TestGapAwaitsWhatItHasMissed(t *testing.T) {
	w := newWorld(t, func(c *statfile.Config) { c.Controller = 1 })
	as, _ := hotSite(t, w)
	g := w.e.gapFor(as, gapKey{rip: 0x1100}, as.sites[0x1100])
	if g.Gate() != hot.GateKept {
		t.Fatalf("the path is not given time to grow: gate %d", g.Gate())
	}
	for range firstMisses {
		w.e.missed(as, 0x1108, 0x1800, g, true, noStack)
	}
	if g.Gate() != hot.GateNative {
		t.Errorf("gate %d while the target is queued", g.Gate())
	}
	w.run()
	if g.Gate() != hot.GateKept || g.awaits != nil {
		t.Errorf("gate %d when it is there", g.Gate())
	}
}

// A path without room is continued by small ones, which leave out what is there already.
func TestPathWithoutRoomIsContinued(t *testing.T) {
	w := newWorld(t, nil)
	w.full = true
	as, _ := hotSite(t, w)
	for _, to := range []uint64{0x1800, 0x1900} {
		for range firstMisses {
			w.e.missed(as, 0x1108, to, w.e.noGap, false, noStack)
		}
		w.run()
	}
	for _, rip := range []uint64{0x1100, 0x1800, 0x1900} {
		if s := as.sites[rip]; !live(as, rip) || s.blob == nil || s.blob.root != s || s.piece != (rip != 0x1100) {
			t.Errorf("%#x: live %v, site %+v", rip, live(as, rip), s)
		}
	}
	if o := w.order; !o.Known(0x1100) || !o.Known(0x1800) || o.Known(0x1900) || o.Limits.MaxInsts != int(w.e.config.PieceInsts) {
		t.Errorf("what is there is not left out, or the limits are %+v", o.Limits)
	}
}

// What is bypassed pays for further translations: a program that gains does not wait for its next phase to lose.
func TestBypassedCallsPayForTranslation(t *testing.T) {
	k := newClocked(t)
	k.e.policy.TranslateFirst = 0
	k.pass(100)
	k.want("before", hot.Kept)
	k.e.budget.Spend(100 * clockedMS)
	for range 10 {
		k.pass(100)
	}
	if !k.e.budget.Allows(&k.e.policy) {
		t.Errorf("a second of bypassed calls does not pay for 100 ms of translation; a crossing counts as %d", k.c.ident.Crossing())
	}
}
