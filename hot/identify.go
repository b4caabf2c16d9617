package hot

// identify takes a single sample of a native gap. A site is a candidate when enough of its sampled gaps were short within a
// while, on a thread that makes many syscalls. A gap as the caller measures it includes the crossing that ends it, whose
// cost varies between machines and moments, so "short" is relative to the shortest gaps seen lately.
func (t *Thread) identify(e *track, began, gap uint64) (v Verdict, news bool) {
	e.count(gap)
	limit := t.limit(gap)
	if began-e.since > t.c.Window {
		// The old counts are history: what counts is how frequent the site is now.
		e.since, e.short, e.long = began, 0, 0
	}
	if gap > limit {
		e.long++
		return Long, false
	}
	e.short++
	if e.native == 0 {
		e.native = gap
	} else {
		e.native = uint64(int64(e.native) + (int64(gap)-int64(e.native))/8)
	}
	switch {
	case !t.busy:
		return Short, false
	case e.short < t.c.MinShort:
		// More samples decide this sooner, but a site that has been named gives no news by being seen again.
		return Short, !e.told
	case uint64(e.short)*100 < uint64(e.short+e.long)*uint64(t.c.MinShortPercent):
		return Short, false
	}
	news = !e.told
	e.since, e.short, e.long, e.told = began, 0, 0, true
	return Candidate, news
}

// limit takes a sampled gap and returns the length up to which gaps are short.
func (t *Thread) limit(gap uint64) uint64 {
	l := min(t.cross.observe(gap), t.c.MaxCrossing) + t.c.Short
	if c := &t.cross; gap > l {
	} else if c.mean == 0 {
		c.mean = gap
	} else {
		c.mean = uint64(int64(c.mean) + (int64(gap)-int64(c.mean))/16)
	}
	return l
}

// Verdict is the answer to a sample.
type Verdict uint8

const (
	None      Verdict = iota // nothing to be done
	Long                     // the gap was long
	Short                    // short, the site needs more of them
	Candidate                // short, and now the site is a candidate; counting starts again for it
	Settled                  // a new path has not grown for a while
	Due                      // a gap that was rolled back may be tried again
)

// rate finds out whether the thread makes many syscalls: the coarse-grained half of the identifier.
type rate struct {
	since  uint64
	passes uint64
	pace   uint64 // ticks per pass, in the last period; 0: not known
}

// ratePeriod is the part of a second over which a rate is taken. Short, so that a thread that wakes up is seen soon.
const ratePeriod = 200 // 5 ms

// observe is called now and then with the number of passes since the last call.
func (r *rate) observe(c *Config, now, passes uint64) (busy, known bool) {
	r.passes += passes
	d := now - r.since
	if d < c.Second/ratePeriod {
		return false, false
	}
	busy = r.passes*c.Second >= c.MinRate*d
	if r.since != 0 && r.passes != 0 {
		r.pace = max(1, d/r.passes)
	}
	r.since, r.passes = now, 0
	return busy, true
}

// crossing estimates what a crossing costs: the shortest gap of the last one to two periods.
type crossing struct {
	cur, prev uint64 // minima, 0 for none
	mean      uint64 // of the short gaps, a running one
	n         uint32
}

// crossingPeriod is in samples.
const crossingPeriod = 256

func (c *crossing) observe(gap uint64) uint64 {
	if c.cur == 0 || gap < c.cur {
		c.cur = max(gap, 1)
	}
	if c.n++; c.n == crossingPeriod {
		c.prev, c.cur, c.n = c.cur, max(gap, 1), 0
	}
	return c.least()
}

func (c *crossing) least() uint64 {
	if c.prev != 0 && c.prev < c.cur {
		return c.prev
	}
	return c.cur
}
