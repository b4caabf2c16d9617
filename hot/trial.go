package hot

import (
	"cmp"
	"math/bits"
	"slices"
)

// trial is the differences that a decision rests on: what one pass took in a baseline window less what it took in an active
// one beside it on the same thread. Neighbouring windows see the same phase of the program and the same load of
// the machine, and what still differs by chance is as often in favour of one as of the other; so only the sign of a
// difference is counted as evidence, which no outlier can outweigh.
type trial struct {
	d [maxPairs]int64 // a ring
	n uint32          // differences in it
	i uint32          // where the next one goes

	// Passes longer than Clip are rare and can be long: what they are per pass is kept aside. A bit of full tells that the
	// difference at that place is negative when they count in full.
	active, base tail
	full         uint32
}

type tail struct {
	passes, tails uint32
	excess        uint64
}

func (t *tail) add(s *side) {
	t.passes += s.n
	t.tails += s.tails
	t.excess += s.excess
}

func (t *tail) perPass() float64 { return float64(t.excess) / float64(t.passes) }

// apart reports whether two rates of rare events, seen na and nb times, differ by twice what chance would have them differ.
func apart(a float64, na uint32, b float64, nb uint32) bool {
	return (a-b)*(a-b) > 4*(a*a/float64(na)+b*b/float64(nb))
}

// minTails is how many passes beyond Clip there must be on both sides before they count: fewer may be the machine's.
// And they must make a difference in each minFull-th pair: what interrupts passes hits the longer windows, those without bypass,
// more often.
const (
	minTails = 12
	minFull  = 4
)

// add takes a difference.
func (t *trial) add(c *Config, base, active *side) {
	if t.full &^= 1 << t.i; base.mean() < active.mean() {
		t.full |= 1 << t.i
	}
	t.put(c, base.body()-active.body())
	t.active.add(active)
	t.base.add(base)
}

func (t *trial) put(c *Config, d int64) {
	t.d[t.i] = d
	t.i = (t.i + 1) % c.MaxPairs
	if t.n < c.MaxPairs {
		t.n++
		return
	}
	// Old tails fade as old differences do.
	if t.i == 0 {
		for _, x := range []*tail{&t.active, &t.base} {
			x.passes, x.tails, x.excess = x.passes/2, x.tails/2, x.excess/2
		}
	}
}

// last returns how many of the last n differences were wins.
func (t *trial) last(c *Config, n uint32) (wins uint32) {
	for k := range n {
		if t.d[(t.i+c.MaxPairs-1-k)%c.MaxPairs] > int64(c.MinPayoff) {
			wins++
		}
	}
	return wins
}

// payoff is the median difference, corrected for rare long passes.
func (t *trial) payoff() int64 {
	if t.n == 0 {
		return 0
	}
	d := t.d
	s := d[:t.n]
	slices.Sort(s)
	return (s[(t.n-1)/2]+s[t.n/2])/2 + t.long()
}

// long is what rare long passes add to the payoff: 0 if they are too few, or differ by no more than chance would have them differ.
func (t *trial) long() int64 {
	if t.active.tails >= minTails && t.base.tails >= minTails && uint32(bits.OnesCount32(t.full))*minFull >= t.n {
		if b, a := t.base.perPass(), t.active.perPass(); apart(b, t.base.tails, a, t.active.tails) {
			return int64(b) - int64(a)
		}
	}
	return 0
}

// sum is that of the last n differences.
func (t *trial) sum(c *Config, n uint32) (sum int64) {
	for k := range n {
		sum += t.d[(t.i+c.MaxPairs-1-k)%c.MaxPairs]
	}
	return sum
}

// unlikely reports whether wins or more of n are less likely than permille/1000 if wins and losses are equally so.
func unlikely(wins, n, permille uint32) bool {
	if n == 0 {
		return false
	}
	hi, lo := bits.Mul64(atLeast(wins, n), 1000)
	limit := uint64(permille) << n
	return hi == 0 && lo <= limit
}

// atLeast returns in how many of 2^n outcomes of n throws there are at least wins heads.
func atLeast(wins, n uint32) uint64 {
	var sum uint64
	choose := uint64(1)
	for k := range n + 1 {
		if k >= wins {
			sum += choose
		}
		choose = choose * uint64(n-k) / uint64(k+1)
	}
	return sum
}

// wins reports whether the gap pays: by the sign of the differences, and by their size.
func (t *trial) wins(c *Config) bool {
	return t.n >= c.MinPairs && unlikely(t.last(c, t.n), t.n, c.KeepPermille) && t.payoff() > int64(c.MinPayoff)
}

// outranks reports whether the gap pays by Wilcoxon's signed-rank test, for which a large difference is more than a small one, but an outlier no
// more than the next one to it. It is stronger than the sign test where a gap wins much and loses little, but believes what
// makes only few differences large: in long windows, where a crossing's state does not, it decides when all differences are there.
func (t *trial) outranks(c *Config) bool {
	d := t.d
	s := d[:t.n]
	slices.SortFunc(s, func(a, b int64) int { return cmp.Compare(max(a, -a), max(b, -b)) })
	var ways [maxPairs*(maxPairs+1)/2 + 1]uint64 // of giving signs to the ranks so far that have this sum of those with a plus
	ways[0] = 1
	sum, most := 0, 0
	for i, v := range s {
		rank := i + 1
		if v > int64(c.MinPayoff) {
			sum += rank
		}
		for most += rank; rank <= most; most-- {
			ways[most] += ways[most-rank]
		}
		most = rank * (rank + 1) / 2
	}
	var asMuch uint64
	for _, n := range ways[sum:] {
		asMuch += n
	}
	return t.n > 0 && asMuch*1000 <= uint64(c.KeepPermille)<<t.n && t.payoff() > int64(c.MinPayoff)
}

// loses reports whether the last differences, however many of them make the clearest case, say that the gap does not
// pay, with an error of permille at each look; or the rare long passes do, which few differences show. Crossings are either cheap, when
// both sides wait for each other actively, or dear, and a gap can win much where they are dear and lose a little, more often, where they are
// cheap: so the differences must also sum up to a loss.
func (t *trial) loses(c *Config, permille uint32) bool {
	var losses uint32
	for n := uint32(1); n <= t.n; n++ {
		losses = n - t.last(c, n)
		if n >= c.MinPairs/2 && unlikely(losses, n, permille) && t.sum(c, n) < 0 {
			return true
		}
	}
	return t.n >= c.MinPairs && t.long() < 0 && t.payoff() < -int64(c.MinPayoff)
}
