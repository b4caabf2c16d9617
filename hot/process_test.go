package hot

import (
	"math/rand/v2"
	"testing"
)

// processSim is a synthetic program of one thread whose passes are summed up window by window, on a virtual clock.
type processSim struct {
	c        Config
	p        *Process
	now      uint64
	rng      *rand.Rand
	crossing uint64
	growth   Growth
	sums     map[Passes]*Passes
	harms    int
	pairs    int
	without  uint64 // time in windows without bypass
	changes  []State
}

func newProcessSim(seed uint64) *processSim {
	c := testConfig()
	c.Margin, c.Levels, c.MinPayoff, c.PairMin, c.PairMax, c.Recheck = 0, 1, 10, 2*ms, 32*ms, 1000*ms
	s := &processSim{c: c, now: 1e9, rng: rand.New(rand.NewPCG(seed, 1)), crossing: 150, sums: map[Passes]*Passes{}}
	s.p = NewProcess(&s.c, uint32(seed), s.now)
	return s
}

func (s *processSim) run(d uint64, steps ...step) {
	for end := s.now + d; s.now < end; {
		for i, st := range steps {
			s.pass(st, steps[(i+1)%len(steps)].key)
		}
		if s.now < s.p.Due() {
			continue
		}
		var passes []Passes
		for _, p := range s.sums {
			passes = append(passes, *p)
		}
		clear(s.sums)
		was := s.p.half
		if s.p.Turn(s.now, passes, s.growth, func(_ uint64, g *Gap) { s.changes = append(s.changes, g.State) }) {
			s.harms++
		}
		if was == 2 {
			s.pairs++
		}
		if s.p.mode == baseline {
			s.without += s.p.length
		}
	}
}

func (s *processSim) pass(st step, end uint64) {
	gate := uint32(GateKept)
	if t := s.p.gaps[st.key]; t != nil {
		gate = t.gap.Gate()
	}
	took := st.user + s.crossing
	bypassed := gate > s.p.Floor()
	out := Passes{Site: st.key, End: end, Bypassed: bypassed}
	if bypassed {
		took = st.btc
		if st.end == ExitMiss || st.end == ExitStop {
			took += st.user/2 + s.crossing
		}
	}
	took = uint64(float64(took) * (0.9 + 0.2*s.rng.Float64()))
	s.now += took + st.in
	if !s.p.Timed() {
		return
	}
	p := s.sums[out]
	if p == nil {
		p = &out
		s.sums[Passes{Site: st.key, End: end, Bypassed: bypassed}] = p
	}
	p.N++
	if bypassed {
		switch st.end {
		case ExitMiss:
			p.Misses++
		case ExitStop:
			p.Stops++
		}
	}
	p.Sum += min(took, s.c.Clip)
}

func (s *processSim) state(key uint64) State {
	if t := s.p.gaps[key]; t != nil {
		return t.gap.State
	}
	return Waiting
}

func TestProcessKeepsWhatPays(t *testing.T) {
	s := newProcessSim(1)
	for _, st := range []step{tight, slow, blocked} {
		s.p.HasCode(st.key, s.now)
	}
	s.run(2000*ms, tight, tight, tight, slow, blocked)
	if s.state(tight.key) != Kept {
		t.Errorf("the tight gap is %v", s.state(tight.key))
	}
	for _, st := range []step{slow, blocked} {
		if got := s.state(st.key); got != RolledBack {
			t.Errorf("gap %#x is %v", st.key, got)
		}
	}
	for rip, gate := range s.p.Gates() {
		if rip == tight.key || gate >= GateKept {
			t.Errorf("gap %#x has gate %d", rip, gate)
		}
	}
	// Once all is decided, little time goes into windows without bypass.
	s.without = 0
	rest := step{key: tight.key, user: 50, btc: 100, in: 20_000}
	s.run(10_000*ms, tight, tight, rest, slow, blocked)
	if s.without > 100*ms {
		t.Errorf("%d ms of 10 s were without bypass", s.without/ms)
	}
	if s.harms != 0 {
		t.Errorf("all was rolled back %d times", s.harms)
	}
}

// A gap that nobody has told of is found in the first window that it is in.
func TestProcessFindsGaps(t *testing.T) {
	s := newProcessSim(2)
	s.p.HasCode(tight.key, s.now)
	s.run(3000*ms, tight, slow)
	if got := s.state(slow.key); got != RolledBack {
		t.Errorf("the gap is %v", got)
	}
}

// What has lost is tried again, later each time.
func TestProcessTriesAgain(t *testing.T) {
	s := newProcessSim(3)
	s.p.HasCode(slow.key, s.now)
	rare := slow
	rare.in = 20_000
	s.run(30_000*ms, rare)
	g := &s.p.gaps[slow.key].gap
	if g.Setbacks < 3 || g.Setbacks > 8 {
		t.Errorf("%d setbacks in 30 s", g.Setbacks)
	}
	// The program changes: what is slow is no more.
	s.run(60_000*ms, step{key: slow.key, user: 50, btc: 60, in: 20_000})
	if g.State != Kept {
		t.Errorf("a gap that pays by now is %v", g.State)
	}
}

// A gap that is kept and comes to lose is rolled back within some rechecks.
func TestProcessGivesUpWhatComesToLose(t *testing.T) {
	s := newProcessSim(4)
	s.p.HasCode(tight.key, s.now)
	s.run(2000*ms, tight)
	if s.state(tight.key) != Kept {
		t.Fatalf("the gap is %v", s.state(tight.key))
	}
	s.run(5000*ms, step{key: tight.key, user: 3000, btc: 11_000, in: 300})
	if got := s.state(tight.key); got != RolledBack {
		t.Errorf("the gap is %v", got)
	}
}

// Passes that end elsewhere natively than with bypass are not compared with others that do not: something that is not seen natively
// was in between. If all do, those that reach a system call have the benefit of the doubt.
func TestProcessComparesByEnd(t *testing.T) {
	s := newProcessSim(5)
	s.p.HasCode(tight.key, s.now)
	s.p.HasCode(slow.key, s.now)
	s.p.HasCode(blocked.key, s.now)
	for range 100 {
		s.now = max(s.now, s.p.Due())
		native := s.p.mode == baseline
		passes := []Passes{
			{Site: tight.key, End: 1, N: 100, Sum: 100 * 200},
			{Site: slow.key, End: 1, N: 100, Sum: 100 * 200},
			{Site: blocked.key, End: 1, N: 100, Sum: 100 * 200},
		}
		if native {
			passes = append(passes, Passes{Site: tight.key, End: 2, N: 10, Sum: 10 * 100_000}) // with something in between
			passes[1].End, passes[1].Sum = 2, 100*1000
			passes[2].End, passes[2].Sum = 2, 100*1000
		} else {
			passes[2].Stops = 90
			for i := range passes {
				passes[i].Bypassed = true
			}
		}
		s.p.Turn(s.now, passes, Stable, func(uint64, *Gap) {})
	}
	if got := s.state(tight.key); got == Kept {
		t.Error("what takes as long with bypass as without is kept")
	}
	if got := s.state(slow.key); got != Kept {
		t.Errorf("what cannot be compared is %v", got)
	}
	if g := &s.p.gaps[blocked.key].gap; g.Setbacks == 0 {
		t.Errorf("what cannot be compared, and seldom reaches a system call, was never rolled back, it is %v", g.State)
	}
}

// While paths grow nothing is measured, but not for ever.
func TestProcessWaitsForGrowth(t *testing.T) {
	s := newProcessSim(6)
	s.c.Grow, s.c.GrowMax = 50*ms, 500*ms
	s.growth = Growing
	s.p.HasCode(tight.key, s.now)
	s.run(400*ms, tight)
	if s.pairs != 0 || s.p.Floor() >= GateKept {
		t.Errorf("%d pairs in the time to grow", s.pairs)
	}
	s.run(3000*ms, tight)
	if s.state(tight.key) != Kept {
		t.Errorf("the gap is %v", s.state(tight.key))
	}
}

// A gap whose code goes while it is kept is forgotten; one that has lost keeps its delay.
func TestProcessForgetsCode(t *testing.T) {
	s := newProcessSim(7)
	s.p.HasCode(tight.key, s.now)
	s.p.HasCode(slow.key, s.now)
	s.run(2000*ms, tight, slow)
	retry := s.p.gaps[slow.key].gap.RetryAt
	s.p.NoCode(tight.key)
	s.p.NoCode(slow.key)
	if s.p.gaps[tight.key] != nil {
		t.Error("the kept gap is remembered")
	}
	s.p.HasCode(slow.key, s.now)
	if g := &s.p.gaps[slow.key].gap; g.RetryAt != retry || g.State == Trial && s.now < retry {
		t.Errorf("the gap that has lost is %v, to be tried again at %d, was %d", g.State, g.RetryAt, retry)
	}
}

// A pair that somebody else's switch has fallen into does not count.
func TestProcessPause(t *testing.T) {
	s := newProcessSim(8)
	s.p.HasCode(tight.key, s.now)
	for !s.p.Pairing() {
		s.run(ms/10, tight)
	}
	s.p.Pause(s.now)
	if s.p.Pairing() || s.p.Timed() || s.p.Due() < s.now+s.c.Recheck {
		t.Error("the pair goes on")
	}
	s.run(3000*ms, tight)
	if s.state(tight.key) != Kept {
		t.Errorf("afterwards the gap is %v", s.state(tight.key))
	}
}
