package hot

// settled is what a pair of windows has shown of all gaps of a thread together.
type settled struct {
	saved, base, passes int64 // ticks, ticks without bypass, passes

	kept      bool // a gap is kept
	loses     bool // one that is kept has lost in this pair
	undecided bool // one waits natively for a decision, or is bypassed by a path that may be too large
	short     bool // one of those needs short windows only
	long      bool // one needs long windows
}

// Settle gives the differences of the pair that has just ended to the gaps and to the group. It needs their lock. growth
// tells how a gap's path does. changed is called for each gap that needs something done;
// it reports whether the whole group must be rolled back.
func (t *Thread) Settle(now uint64, gr *Group, growth func(*Gap) Growth, changed func(*Gap, Event)) (harm bool) {
	var s settled
	t.lenient = false
	for i := range t.table.tracks {
		e := &t.table.tracks[i]
		if e.key == 0 || e.active.n < t.c.MinSamples || e.base.n < t.c.MinSamples {
			continue // goes on with the next pair
		}
		s.add(e.gap, &e.base, &e.active, t.kind == epochPair)
		if g := e.gap; g != nil {
			for k, n := range e.hist {
				g.Hist[k] += uint64(n)
			}
			e.hist = [Buckets]uint16{}
			s.kept = s.kept || g.State == Kept
			if ev := g.pair(t.c, now, &e.base, &e.active, e.native, growth(g), t.kind != shortPair); ev != Nothing {
				t.stirPause = 0
				changed(g, ev)
			}
			s.look(t, g)
		}
		e.active, e.base = side{}, side{}
	}
	t.plan(now, &s)
	return t.judge(now, gr, &s)
}

// add adds the difference of one gap, with bypass or without; g is nil if it has no code. In an epoch long passes count in full.
func (s *settled) add(g *Gap, base, active *side, epoch bool) {
	b, a := base.body(), active.body()
	if epoch {
		b, a = base.mean(), active.mean()
	}
	d := b - a
	if g != nil && (g.State == Kept || g.State == Trial) && !epoch && d < 0 {
		// Should it have come to lose, or not win, that is its own affair.
		d, s.loses = 0, s.loses || g.State == Kept
	}
	n := int64(active.n + base.n)
	s.saved += n * d
	s.base += n * b
	s.passes += n
}

// look notes what a gap needs.
func (s *settled) look(t *Thread, g *Gap) {
	// One that is bypassed until more is known can wait: most of the time in between is with bypass.
	lenient := g.State == Trial && g.Gate() == GateKept
	waits := g.State == Trial && !lenient
	t.lenient = t.lenient || lenient
	s.undecided = s.undecided || waits || g.hasBelow
	s.short = s.short || waits && !g.long
	s.long = s.long || g.long && g.Gate() >= GateTrial
}

// plan says of what kind the next pair is, and when.
func (t *Thread) plan(now uint64, s *settled) {
	// What short windows can decide comes first: it takes a thirtieth of the time.
	if t.nextKind = shortPair; s.long && !s.short {
		t.nextKind = longPair
	}
	switch {
	case !s.undecided && t.burst > 0 && (!t.alarmed || t.kind == longPair && !s.loses):
		// What the burst was for is decided; or a long pair has not confirmed it.
		t.burst = 0
		t.space(now)
	case s.undecided && t.burst == 0 && t.hurried < maxHurried:
		// Until it is, the gap runs natively, which makes crossings dear for the others.
		t.hurried++
		t.next = now + 2*(now-t.began)
	}
	if s.loses && t.burst == 0 {
		t.alarm(now)
	}
}

// maxHurried bounds the pairs that follow each other soon after a burst that has not decided everything: a gap that is seldom gone through
// would take many.
const maxHurried = 64

// judge gives the group the sum.
func (t *Thread) judge(now uint64, gr *Group, s *settled) (harm bool) {
	if !s.kept || s.passes == 0 {
		return false
	}
	d, base := s.saved/s.passes, s.base/s.passes
	if !t.c.marginal(uint64(max(base, 0)), uint64(max(s.base-s.saved, 0)/s.passes)) {
		gr.marginal = 0
		return gr.pair(t.c, now, d, base)
	}
	if gr.marginal++; t.kind == longPair {
		gr.marginal += t.c.MinPairs / 2 // there are few of these
	}
	// Other pairs of a program that is not much faster are too short to tell whether it is.
	if (t.burst == 0 || gr.Setbacks > 0 && !t.alarmed) && !s.loses && (d > 0 || t.kind == epochPair) && gr.epochDue(t.c, now) {
		t.nextKind, t.next = epochPair, now
	}
	if t.kind == epochPair {
		return gr.epoch(t.c, now, d, base)
	}
	// What short windows say in favour proves little: without bypass they show crossings that are dearer than they would be in a longer
	// time. But were only counted what they say against it, much of it would be chance.
	return gr.pair(t.c, now, d, base)
}

// endPair says when the next pair comes, as long as nothing is known of this one.
func (t *Thread) endPair(now uint64) {
	t.wants = false
	if t.burst > 0 {
		t.burst--
		t.next = now
		return
	}
	t.space(now)
}

// space sets the time of the next pair: the longer nothing has changed the later, but such that windows without bypass are a small part.
func (t *Thread) space(now uint64) {
	took := now - t.began
	most := 24 * took
	switch {
	case t.kind == epochPair:
		t.next = now + t.spacing // these have a rhythm of their own
		return
	case t.kind == longPair && t.lenient:
		most = 8 * took
	case t.kind == longPair:
		most = 64 * took // a crossing is dear then for the whole of it
	}
	t.spacing = min(max(2*t.spacing, 4*took), max(t.c.Recheck, most))
	t.next = now + t.spacing
}
