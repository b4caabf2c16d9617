// Package hot decides which sites are worth translating. It is pure policy: it is fed samples, keeps counts, and answers;
// it reads no clock, does no I/O and knows nothing of instructions. Times are in ticks of whatever monotonic clock the
// caller uses, the same for all calls.
//
// This is the simple identifier: a site is a candidate when a sample of its gaps was short a number of times within a
// while, and more often short than long. A gap as the caller measures it includes the crossing that ends it, whose cost
// varies between machines and moments, so "short" is relative to the shortest gaps seen lately.
package hot

// Config holds the thresholds.
type Config struct {
	// SampleEvery is the mean distance between the gaps that are looked at, at least 1.
	SampleEvery uint32
	// Short is by how much a gap may exceed the cost of a crossing and still be short, in ticks.
	Short uint64
	// MinShort is how many sampled short gaps make a candidate, when they come within Window ticks.
	MinShort uint32
	Window   uint64
}

// Verdict is the answer to a sample.
type Verdict uint8

const (
	Long      Verdict = iota // the gap was long
	Short                    // short, the site needs more of them
	Candidate                // short, and now the site is a candidate; counting starts again for it
)

const (
	// A table has sets of two entries, so that two busy sites with the same hash don't push each other out.
	setBits = 5
	ways    = 2
)

// Thread is the identifier of one thread of the program: 64 sites at a time, without locks. Memory: about 2 KiB.
type Thread struct {
	c     *Config
	skip  uint32
	rng   uint32
	cross crossing
	sites [ways << setBits]count
	spare count
}

type count struct {
	site        uint64 // 0: free
	since       uint64
	short, long uint32
}

// NewThread returns an identifier that has seen nothing. c must not change afterwards; seed makes the sampling of
// threads differ, so that a loop's period does not hide a site from all of them.
func NewThread(c *Config, seed uint32) *Thread {
	t := &Thread{c: c, rng: seed | 1}
	t.skip = t.distance()
	return t
}

// Sample reports whether the gap that begins now is to be measured and given to Observe. It is called for every gap, and
// cheap.
func (t *Thread) Sample() bool {
	if t.skip > 1 {
		t.skip--
		return false
	}
	t.skip = t.distance()
	return true
}

// distance returns a number with the mean SampleEvery, from 1 to 2*SampleEvery-1: not a constant, since a loop over as
// many sites would have but one of them sampled.
func (t *Thread) distance() uint32 {
	if t.c.SampleEvery <= 1 {
		return 1
	}
	t.rng ^= t.rng << 13
	t.rng ^= t.rng >> 17
	t.rng ^= t.rng << 5
	return 1 + t.rng%(2*t.c.SampleEvery-1)
}

// Observe takes a measured gap: behind which site it began, when it began, and how long it took, crossing included.
func (t *Thread) Observe(site, began, gap uint64) Verdict {
	limit := t.cross.observe(gap) + t.c.Short
	e := t.entry(site, began)
	if gap > limit {
		e.long++
		return Long
	}
	if began-e.since > t.c.Window {
		// The old counts are history: what counts is how frequent the site is now.
		e.since, e.short, e.long = began, 0, 0
	}
	e.short++
	if e.short < t.c.MinShort || e.short < e.long {
		return Short
	}
	e.since, e.short, e.long = began, 0, 0
	return Candidate
}

// entry returns the site's counts; a new site takes the place of the less used one of its set, whose count is halved
// first so that it must go on earning its place.
func (t *Thread) entry(site, now uint64) *count {
	h := site * 0x9e3779b97f4a7c15 >> (64 - setBits)
	set := t.sites[h*ways : h*ways+ways]
	victim := &set[0]
	for i := range set {
		e := &set[i]
		if e.site == site {
			return e
		}
		if e.short < victim.short {
			victim = e
		}
	}
	if victim.short > 1 {
		victim.short /= 2
		// Not given away this time: count in a spare that is forgotten.
		t.spare = count{site: site, since: now}
		return &t.spare
	}
	*victim = count{site: site, since: now}
	return victim
}

// crossing estimates what a crossing costs: the shortest gap of the last one to two periods.
type crossing struct {
	cur, prev uint64 // minima, 0 for none
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
	if c.prev != 0 && c.prev < c.cur {
		return c.prev
	}
	return c.cur
}
