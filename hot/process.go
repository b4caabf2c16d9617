package hot

import (
	"iter"
	"maps"
	"slices"
)

// Process is the schedule of a process whose passes are measured elsewhere and come as sums: what Thread is where each
// thread measures its own. All threads of the process are in the same window, and it is time that ends one, not a number of
// passes. It does no identification. It needs no lock; one goroutine uses it.
//
// A window lasts until Due, or somewhat longer; Turn then takes what it has shown, and begins the next one. In between
// Floor, Timed and Gates say what holds.
type Process struct {
	c    *Config
	rng  rng
	mode mode  // free, active or baseline
	half uint8 // of the pair, 0 between pairs

	burst, hurried       uint32 // as in Thread
	alarmed              bool
	stirred, stirPause   uint64
	began, next, spacing uint64
	length               uint64 // of half a pair
	due                  uint64

	gaps  map[uint64]*tally
	group Group
}

// tally is a gap, and what is known of it since its last difference: sums of passes by where they end.
type tally struct {
	gap  Gap
	half [2]map[uint64]*side // without bypass, with it
}

// maxEnds bounds the places where passes through one gap end that are told apart.
const maxEnds = 64

// Passes is the sum of some passes through one gap in one window.
type Passes struct {
	Site     uint64 // where the gap begins
	End      uint64 // tells apart where they end
	Bypassed bool   // at least in part

	N, Misses, Stops, Tails uint32
	Sum, Excess             uint64 // as Config.Clip has it, in ticks
}

// NewProcess returns a process of which nothing is known. c must not change afterwards.
func NewProcess(c *Config, seed uint32, now uint64) *Process {
	return &Process{c: c, rng: rng(seed | 1), length: c.PairMin, due: now, gaps: map[uint64]*tally{}}
}

// Floor is what the gate of a gap must exceed for it to be bypassed in this window.
func (p *Process) Floor() uint32 { return p.mode.floor() }

// Timed reports whether passes are to be measured in this window.
func (p *Process) Timed() bool { return p.mode != free }

// Due is when this window ends.
func (p *Process) Due() uint64 { return p.due }

// Gates are the gaps with a gate that is not GateKept, by address.
func (p *Process) Gates() iter.Seq2[uint64, uint32] {
	return func(yield func(uint64, uint32) bool) {
		for _, rip := range p.sites() {
			if g := p.gaps[rip].gap.Gate(); g < GateKept && !yield(rip, g) {
				return
			}
		}
	}
}

// Gaps are all that are known, by address. They are Process's.
func (p *Process) Gaps() iter.Seq2[uint64, *Gap] {
	return func(yield func(uint64, *Gap) bool) {
		for _, rip := range p.sites() {
			if !yield(rip, &p.gaps[rip].gap) {
				return
			}
		}
	}
}

func (p *Process) sites() []uint64 { return slices.Sorted(maps.Keys(p.gaps)) }

// HasCode tells that the gap behind rip can be bypassed: it gets a trial, unless it has lost one lately.
func (p *Process) HasCode(rip, now uint64) {
	t := p.gaps[rip]
	if t == nil {
		t = &tally{}
		p.gaps[rip] = t
	}
	t.gap.HasCode(p.c, now)
	p.due = min(p.due, max(p.next, now))
}

// NoCode tells that the gap's code is gone. What has lost is remembered.
func (p *Process) NoCode(rip uint64) {
	if t := p.gaps[rip]; t != nil && (t.gap.State == Trial || t.gap.State == Kept) {
		delete(p.gaps, rip)
	}
}

// Grown tells that there is more translated code. Whose passes it is part of is not known.
func (p *Process) Grown(now uint64) {
	for _, t := range p.gaps {
		t.gap.Grown(p.c, now)
	}
}

// Pause voids a pair that was begun: for the time being something else than the schedule decides whether there is bypass.
func (p *Process) Pause(now uint64) {
	p.mode, p.half = free, 0
	p.next = max(p.next, now+p.c.Recheck)
	p.due = p.next
}

// Pairing reports whether a pair of windows has begun.
func (p *Process) Pairing() bool { return p.half != 0 }

// undecided reports whether a gap is on trial, or is given time to grow.
func (p *Process) undecided() bool {
	for _, t := range p.gaps {
		if t.gap.State == Trial {
			return true
		}
	}
	return false
}

// Turn ends a window, in which passes were seen, and begins the next one. growth says how paths do. changed is called for
// each gap that has another state; Turn reports whether all gaps were rolled back, since the program is slower with bypass.
func (p *Process) Turn(now uint64, passes []Passes, growth Growth, changed func(rip uint64, g *Gap)) (harm bool) {
	for i := range passes {
		p.take(&passes[i], now)
	}
	p.ripen(now, growth)
	switch p.half {
	case 1:
		p.start(2, active+baseline-p.mode, now)
		return false
	case 2:
		harm = p.settle(now, growth, changed)
	}
	switch {
	case now >= p.next && p.wants():
		p.began = now
		// In random order, so that no rhythm of the program's favours one.
		p.start(1, active+mode(p.rng.next()&1), now)
	default:
		p.half, p.mode = 0, free
		if p.due = max(p.next, now+p.length, now+p.c.Grow/4); !p.undecided() {
			// Nothing waits but what has lost.
			p.due = max(p.due, now+p.c.Recheck)
		}
	}
	return harm
}

func (p *Process) start(half uint8, m mode, now uint64) {
	p.half, p.mode, p.due = half, m, now+p.length
}

// wants reports whether there is a gap to be measured.
func (p *Process) wants() bool {
	for _, t := range p.gaps {
		if (t.gap.State == Trial || t.gap.State == Kept) && t.gap.grows.Load() == 0 {
			return true
		}
	}
	return false
}

// take adds the sum of some passes. Of those that run natively although bypass is on, for whatever reason, nothing is to be
// learnt.
func (p *Process) take(s *Passes, now uint64) {
	t := p.gaps[s.Site]
	if t == nil {
		p.HasCode(s.Site, now)
		t = p.gaps[s.Site]
	}
	half := 0
	switch {
	case p.half == 0 || s.N == 0 || s.Bypassed != (p.mode == active):
		return
	case s.Bypassed:
		half = 1
	}
	if t.half[half] == nil {
		t.half[half] = map[uint64]*side{}
	}
	e := t.half[half][s.End]
	if e == nil {
		if len(t.half[half]) >= maxEnds {
			return
		}
		e = &side{}
		t.half[half][s.End] = e
	}
	e.merge(&side{n: s.N, misses: s.Misses, stops: s.Stops, tails: s.Tails, sum: s.Sum, excess: s.Excess})
}

func (s *side) merge(o *side) {
	s.n += o.n
	s.misses += o.misses
	s.stops += o.stops
	s.tails += o.tails
	s.sum += o.sum
	s.excess += o.excess
}

// sides returns the sums of both halves, of the passes that end where some do in the other half. Where none does, what ends the gap
// is not seen natively, by whoever measures. Then what is seen instead must do: it is longer, so bypass has the benefit of the
// doubt; but it still has to reach system calls.
func (t *tally) sides(c *Config) (base, active side) {
	for end, b := range t.half[0] {
		if a := t.half[1][end]; a != nil {
			base.merge(b)
			active.merge(a)
		}
	}
	if base.n > 0 {
		return base, active
	}
	for half, s := range []*side{&base, &active} {
		for _, x := range t.half[half] {
			s.merge(x)
		}
	}
	if enough := 4 * c.MinSamples; base.n < enough || active.n < enough {
		return side{}, side{}
	}
	return base, active
}

// ripen has gaps measured whose paths no longer grow, and tries those again whose time has come.
func (p *Process) ripen(now uint64, growth Growth) {
	for _, t := range p.gaps {
		g := &t.gap
		if grows := g.grows.Load(); grows != 0 && now >= grows && (growth != Growing || now >= g.growEnd) {
			g.Settled()
			p.stir(now)
		}
		if (g.State == RolledBack || g.State == Retired) && now >= g.RetryAt {
			g.Again(p.c, now)
			p.stir(now)
		}
	}
}

// stir has pairs follow each other for a while.
func (p *Process) stir(now uint64) {
	p.burst, p.hurried, p.spacing, p.alarmed = p.c.Burst, 0, 0, false
	p.next = min(p.next, now)
}

// settle takes the differences of a pair.
func (p *Process) settle(now uint64, growth Growth, changed func(uint64, *Gap)) (harm bool) {
	var s settled
	seen, news := false, false // passes of a gap that is undecided
	for _, rip := range p.sites() {
		t := p.gaps[rip]
		g := &t.gap
		seen = seen || s.waits(g) && len(t.half[0]) > 0 && len(t.half[1]) > 0
		base, active := t.sides(p.c)
		if base.n < p.c.MinSamples || active.n < p.c.MinSamples {
			s.undecided = s.undecided || s.waits(g)
			continue // goes on with the next pair
		}
		clear(t.half[0])
		clear(t.half[1])
		s.add(g, &base, &active, false)
		news = news || s.waits(g)
		s.kept = s.kept || g.State == Kept
		if ev := g.pair(p.c, now, &base, &active, 0, growth, false); ev == Changed {
			p.stirPause = 0
			changed(rip, g)
		}
		s.undecided = s.undecided || s.waits(g)
	}
	p.plan(now, &s, seen, news)
	if !s.kept || s.passes == 0 || !p.group.pair(p.c, now, s.saved/s.passes, s.base/s.passes) {
		return false
	}
	for rip, g := range p.Gaps() {
		if was := g.State; was == Kept || was == Trial {
			p.group.RollBack(p.c, g, now)
			changed(rip, g)
		}
	}
	return true
}

// waits reports whether a gap is on trial, and measured.
func (s *settled) waits(g *Gap) bool { return g.State == Trial && g.grows.Load() == 0 }

// plan says when the next pair comes, and how long it is: at once in a burst, soon while a gap is undecided, else later each
// time, such that windows without bypass are a small part.
func (p *Process) plan(now uint64, s *settled, seen, news bool) {
	took := now - p.began
	if !seen || news {
		p.length = p.c.PairMin
	} else {
		p.length = min(2*p.length, p.c.PairMax) // what is undecided is seldom gone through
	}
	if s.loses && p.burst == 0 && now-p.stirred >= p.stirPause {
		// Look closely. If that changes nothing, it is done less often.
		p.stirPause = min(max(2*p.stirPause, p.c.Recheck), 20*p.c.Recheck)
		p.stir(now)
		p.stirred, p.alarmed = now, true
	}
	switch {
	case p.burst > 0 && (seen && s.undecided || p.alarmed && s.passes > 0):
		p.burst--
		p.next = now
		return
	case seen && s.undecided && p.hurried < maxHurried:
		p.hurried++
		p.next = now + 8*took
		return
	}
	p.burst, p.alarmed = 0, false
	p.spacing = min(max(2*p.spacing, 4*took), max(p.c.Recheck, 24*took))
	p.next = now + p.spacing
}
