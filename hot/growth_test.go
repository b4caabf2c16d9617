package hot

import "testing"

// growing is a program whose path has ends one behind the other: each is translated when it has been met a few times, in
// the background, and only then is the next one met.
type growing struct {
	*sim
	ends, have  int // ends in all, and translated
	met         int // passes that have met the present one
	ready       uint64
	translation uint64 // how long one takes
	each        uint64 // passes between those that meet an end; 1: all do
	misses      int
	st          step
}

func newGrowing(seed uint64, ends int, translation uint64, each uint64) *growing {
	g := &growing{sim: newSim(testConfig(), seed), ends: ends, translation: translation, each: each, st: tight}
	g.sim.growth = func(*Gap) Growth {
		if g.ready != 0 {
			return Growing
		}
		return Stable
	}
	return g
}

func (g *growing) run(d uint64) {
	const firstMisses = 4
	for end := g.now + d; g.now < end; {
		gap := g.gaps[g.st.key]
		if g.ready != 0 && g.now >= g.ready {
			g.ready, g.met = 0, 0
			g.have++
			gap.Resume(g.c, g.now)
			gap.Grown(g.c, g.now)
		}
		st, entered := g.st, g.entered
		if g.have < g.ends && uint64(g.passes)%g.each == 0 {
			st.end = ExitMiss
		}
		g.pass(st)
		if g.entered == entered || st.end != ExitMiss {
			continue
		}
		g.misses++
		if g.met++; g.met == firstMisses {
			g.ready = g.now + g.translation
		}
		if g.ready != 0 && g.each == 1 {
			gap.Await(g.now)
		}
	}
}

// A path that grows in many steps, each of which takes long on a busy machine, is given the time, costs next to nothing meanwhile,
// and is kept in its first trial.
func TestTrialWaitsForGrowth(t *testing.T) {
	for seed := range uint64(10) {
		g := newGrowing(seed+1, 40, 30*ms, 1)
		g.run(2000 * ms)
		gap := g.gaps[g.st.key]
		if gap.State != Kept || gap.Setbacks > 0 || len(g.changes) != 1 {
			t.Errorf("seed %d: %v after %d steps, %d setbacks, %+v", seed, gap.State, g.have, gap.Setbacks, g.changes)
		}
		if g.misses > 40*8 {
			t.Errorf("seed %d: %d misses in %d steps", seed, g.misses, g.have)
		}
	}
}

// One that meets a new end now and then, for ever, is decided about all the same, and does not have its trial begun anew each time.
func TestRareEndsDoNotDelayTheTrial(t *testing.T) {
	for seed := range uint64(10) {
		g := newGrowing(seed+1, 1<<30, 3*ms, 50)
		g.run(500 * ms)
		if gap := g.gaps[g.st.key]; gap.State != Kept {
			t.Errorf("seed %d: %v after %d steps", seed, gap.State, g.have)
		}
		entered, passes := g.entered, g.passes
		g.run(1000 * ms)
		if share := float64(g.entered-entered) / float64(g.passes-passes); share < 0.95 {
			t.Errorf("seed %d: while the path grows on, %.1f %% of the passes are bypassed", seed, 100*share)
		}
	}
}

// What has lost because its path had ends gets a trial soon when it has grown since; but not for ever.
func TestGrowthBringsAnotherTrial(t *testing.T) {
	c := testConfig()
	var g Gap
	g.HasCode(&c, 1)
	g.RollBack(&c, 1*ms, WhyNoEnd)
	g.Grown(&c, 2*ms)
	if g.State != Trial {
		t.Errorf("%v", g.State)
	}
	n := 0
	for i := range uint64(100) {
		g.RollBack(&c, (3+i)*ms, WhyNoEnd)
		if g.Grown(&c, (3+i)*ms); g.State == Trial {
			n++
		}
	}
	if n > maxRegrown {
		t.Errorf("%d trials out of turn", n)
	}
}

// A path of which half the passes get to a syscall need not wait natively; it is given time to grow again and again, rather than a step with
// each pair of windows.
func TestGrowthGoesOnWhileItIsTried(t *testing.T) {
	for seed := range uint64(10) {
		g := newGrowing(seed+1, 20, 5*ms, 2)
		began := g.now
		for g.now < began+5_000*ms && (g.gaps[g.st.key] == nil || g.gaps[g.st.key].State != Kept) {
			g.run(ms)
		}
		gap := g.gaps[g.st.key]
		if took := (g.now - began) / ms; gap.State != Kept || took > 250 || gap.Setbacks > 0 {
			t.Errorf("seed %d: %v after %d ms, %d steps, %d setbacks, %d pairs", seed, gap.State, took, g.have, gap.Setbacks, g.pairs)
		}
	}
}
