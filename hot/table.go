package hot

import "math/bits"

const (
	// The table has sets of eight entries. Servers go through twenty busy sites and more: with sets of two, three of them share one in half of all
	// runs (addresses are random), and two push each other out with every pass.
	setBits = 3
	ways    = 8

	// Buckets is the number of buckets of a distribution of gap lengths.
	Buckets = 16
	// firstBucket is the binary logarithm of the length in ticks at which bucket 1 begins.
	firstBucket = 8
)

// track is what a thread knows of a site, or of a site's gaps for one caller.
type track struct {
	key  uint64 // 0: free
	gap  *Gap   // nil: not known to the controller
	at   uint64 // when it was last seen
	used uint32 // how often, halved each time another one wants the place

	// For the identifier: since when, how many short and long.
	since       uint64
	short, long uint32
	told        bool // a candidate already

	trial uint32 // Gap.trials as this thread last saw it
	bad   uint8  // samples with bypass that took longer than the baseline, less three for each that did not
	run   uint8  // samples in a row that tell of a change
	odd   uint64 // when the last sample of either kind came

	native uint64 // running mean of short native samples
	level  uint64 // mean of the first native samples after the gap was rolled back
	levels uint8  // how many these are

	active, base side // the present difference
	hist         [Buckets]uint16
}

// side is one half of a difference.
type side struct {
	n, misses, stops uint32
	tails            uint32 // passes longer than Clip
	sum              uint64 // of passes, each at most Clip
	excess           uint64 // of the tails, beyond Clip
}

func (s *side) add(c *Config, ticks uint64, exit Exit) {
	s.n++
	switch exit {
	case ExitMiss:
		s.misses++
	case ExitStop:
		s.stops++
	}
	s.sum += min(ticks, c.Clip)
	if ticks > c.Clip {
		s.tails++
		s.excess += min(ticks, c.MaxPass) - c.Clip
	}
}

// body is what a pass took, each counted as at most Clip.
func (s *side) body() int64 { return int64(s.sum / uint64(s.n)) }

// mean is what a pass took, long ones in full.
func (s *side) mean() int64 { return int64((s.sum + s.excess) / uint64(s.n)) }

// table is a thread's tracks.
type table struct {
	tracks [ways << setBits]track
	spare  track
}

// find returns the entry for key, a new one when there is none: it takes the place of the less used one of its set. One
// that is busy must be worn down first, by halving, while the newcomer gets a spare entry, which is forgotten.
func (t *table) find(key, now uint64) (tr *track, fresh bool) {
	h := key * 0x9e3779b97f4a7c15 >> (64 - setBits)
	set := t.tracks[h*ways : h*ways+ways]
	victim := &set[0]
	for i := range set {
		e := &set[i]
		if e.key == key {
			e.used = min(e.used+1, maxUsed)
			return e, false
		}
		if e.used < victim.used {
			victim = e
		}
	}
	if victim.used > 1 {
		victim.used /= 2
		t.spare = track{key: key, since: now}
		return &t.spare, true
	}
	*victim = track{key: key, since: now, used: 1}
	return victim, true
}

// maxUsed bounds how long a site that is used no more can keep its place.
const maxUsed = 1 << 10

// count adds a gap to the distribution.
func (e *track) count(gap uint64) {
	b := Bucket(gap)
	if e.hist[b]++; e.hist[b] == 1<<16-1 {
		for i := range e.hist {
			e.hist[i] /= 2
		}
	}
}

// Bucket returns the bucket of a gap of so many ticks.
func Bucket(gap uint64) int { return min(bits.Len64(gap>>firstBucket), Buckets-1) }

// BucketEnd returns the length in ticks at which bucket i ends: gaps in it are shorter.
func BucketEnd(i int) uint64 { return 1 << (firstBucket + i) }
