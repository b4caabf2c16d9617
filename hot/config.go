// Package hot decides which gaps are worth bypassing. It is pure policy: it is fed samples and answers; it reads no clock,
// does no I/O and knows nothing of instructions. Times are in ticks of whatever monotonic clock the caller uses, the same
// for all calls.
//
// There are two parts. The identifier (Thread.Record in single samples, identify.go) finds sites whose gaps are short
// and frequent. The payoff controller finds out whether bypassing them pays: a thread runs pairs of windows, one with bypass
// and one without (thread.go); the differences go to each Gap, whose trial (trial.go) keeps it or rolls it back (gap.go),
// and to the Group, which watches over the sum (group.go). docs/identifier.md explains the reasons.
//
// Memory is bounded: a Thread has a fixed table (table.go), a Gap and a Group have a fixed ring of differences.
package hot

// Config holds all thresholds. Times are in ticks; package statfile has the defaults in nanoseconds.
type Config struct {
	// Controller is false for the identifier alone: what has code is bypassed. Pairs of windows are not made then.
	Controller bool

	// SampleMin and SampleMax are the mean distances, in passes, of the gaps that are looked at: the first while things
	// change, the second when they don't. The paper looks at less than every 10th syscall.
	SampleMin, SampleMax uint32
	// SampleWithin, in ticks, is how long a thread is not looked at, at most: where passes are long, SampleMax of them are too many to
	// find a new site soon, and so few samples per second cost nothing.
	SampleWithin uint64
	// QuietSamples is how many samples without news it takes to double the distance.
	QuietSamples uint32

	// MinRate is the least number of syscalls per Second ticks for a thread whose sites may become candidates. The
	// paper's is 50 K/s. A crossing to the Sentry costs ten times as much as a syscall, and fewer fit into a second.
	MinRate, Second uint64
	// Short is by how much a gap may exceed the cost of a crossing and still be short, in ticks. The paper's is 4 µs,
	// crossing included, on bare Linux.
	Short uint64
	// MaxCrossing is what a crossing may cost: a program whose shortest gap is longer has no short gaps.
	MaxCrossing uint64
	// MinShort is how many sampled short gaps make a candidate, when they come within Window ticks, and are at least
	// MinShortPercent of the site's gaps. The paper's are 900 in a round of 15 K syscalls, all looked at: 6 %.
	MinShort        uint32
	MinShortPercent uint32
	Window          uint64

	// WindowPasses is the length of half a pair of windows in passes, after WarmPasses that don't count: after
	// a change of mode the stub process first has to be woken up.
	WindowPasses, WarmPasses uint32
	// LongWarm, in ticks, and LongPasses are the same for pairs about gaps that bypass makes less than Margin times as fast.
	// Crossings that follow a time without any are dear for a while, until gVisor's stub threads and the Sentry
	// wait for each other actively again; only after LongWarm are they what they are without bypass.
	LongWarm           uint64
	LongPasses, Margin uint32
	// Floor is what a crossing costs at least, in ticks, when both sides wait for each other actively, and Slowdown, in
	// percent, how much longer translated code may take than the program's own. What is faster than the two together allow needs no
	// long windows: no state of the crossings could make it lose.
	Floor, Slowdown uint64
	// EpochWarm is LongWarm for pairs about a whole program that is not Margin times as fast with bypass: gVisor tries
	// again to wait actively only after up to 200 ms. There are three of them at first, at once while they tell of harm, else an eighth of
	// EpochEvery apart; then one each EpochEvery.
	EpochWarm, EpochEvery uint64
	// PairMin and PairMax bound the length of half a pair of windows of a Process, in ticks.
	PairMin, PairMax uint64
	// MinSamples is how many passes of a gap in each half make a difference.
	MinSamples uint32
	// MinPairs and MaxPairs bound the differences that a decision rests on.
	MinPairs, MaxPairs uint32
	// KeepPermille is the error, in 1/1000, at which a gap that does not pay would be kept at one look; DropPermille that
	// at which one that pays would be given up. The latter may be larger: baseline is the safe side.
	KeepPermille, DropPermille uint32
	// YieldPercent is the share of passes that must reach a syscall in translated code for a gap to be kept.
	YieldPercent uint32
	// MinPayoff is what bypass must save per pass to be kept, in ticks: for what it costs beside the time of passes.
	MinPayoff uint64
	// Clip is the length up to which a pass counts as it is, MaxPass that beyond which it is taken for something that
	// has nothing to do with the program.
	Clip, MaxPass uint64

	// Burst is how many pairs follow each other after a change. Later ones have growing distances, up to Recheck.
	Burst   uint32
	Recheck uint64
	// Retry is the delay after which a gap that was rolled back gets another trial: doubled each time, up to RetryMax.
	Retry, RetryMax uint64
	// RetireAfter is the number of setbacks without a success at which the gap's code may be given up.
	RetireAfter uint32

	// Grow is how long a new path is bypassed without being measured, so that it can grow, after it last did; GrowMax for
	// how long altogether.
	Grow, GrowMax uint64

	// TranslateFirst, in ticks, and TranslatePercent, of the time that crossings took, are what translation may take: see
	// Budget. 0 %: whatever it takes. Of what crossings took beyond TranslateEarly it is TranslateLaterPercent.
	TranslateFirst, TranslatePercent      uint64
	TranslateEarly, TranslateLaterPercent uint64

	// Levels is the number of path limits to choose from. ExtendPercent is the share of passes that must end at the
	// limits of a path before a larger one is tried.
	Levels, ExtendPercent uint32
}

// maxPairs bounds MaxPairs: the size of a ring of differences.
const maxPairs = 32

// certain reports whether a pass that takes so many ticks with bypass takes longer without, however cheap crossings are.
func (c *Config) certain(active uint64) bool {
	return active*100/c.Slowdown+c.Floor > active+c.MinPayoff
}

// marginal reports whether bypass is not much faster, so that the baseline must be known well.
func (c *Config) marginal(base, active uint64) bool {
	return active*uint64(c.Margin) > base && !c.certain(active)
}
