package linux

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// guard keeps the promise that a program is not slower with bypass than without. Now and then it has the process run in pairs
// of short windows, one with bypass and one without, and compares the CPU time of a system call, with all that goes on
// around it. If bypass loses clearly, the process runs natively for a while, longer each time.
//
// It is pure policy: step is given the time and sums that only grow, and says whether bypass is to be on.
type guard struct {
	rng   *rand.Rand
	state guardState
	until time.Time

	// The present pair.
	firstOn bool
	calls   uint64
	cpu     time.Duration
	cost    [2]float64 // CPU time per call, without and with bypass; 0: not known

	pairs, losses int           // of this round
	waited        time.Duration // for paths that grow, since bypass was last switched on
	setbacks      int
	Suspended     int // how often it was
}

type guardState uint8

const (
	guardWaits  guardState = iota // bypass is on
	guardFirst                    // first half of a pair
	guardSecond                   // second half
	guardOff                      // bypass is off for a while
)

const (
	guardWindow = 40 * time.Millisecond
	// guardPairs is how many pairs a round has. All of them must be lost: by chance that happens once in 64 times, if both
	// ways cost the same.
	guardPairs = 6
	// guardMargin is by how much bypass must be slower in a pair for it to be lost.
	guardMargin = 1.02
	// guardCalls is how many system calls a window must have to count.
	guardCalls  = 200
	guardBegin  = 2 * time.Second // until the first round
	guardEvery  = 30 * time.Second
	guardGrows  = time.Second      // by how much a round is put off while paths grow
	guardGrowth = 10 * time.Second // and how long altogether
	guardRest   = 2 * time.Second  // after the first loss; doubled each time
	guardMost   = 10 * time.Minute
)

func newGuard(now time.Time) *guard {
	return &guard{rng: rand.New(rand.NewPCG(uint64(now.UnixNano()), 1)), until: now.Add(guardBegin)}
}

// on tells whether bypass is to be on.
func (g *guard) on() bool {
	switch g.state {
	case guardFirst:
		return g.firstOn
	case guardSecond:
		return !g.firstOn
	}
	return g.state == guardWaits
}

// wait is how long until step must be called again.
func (g *guard) wait(now time.Time) time.Duration { return max(g.until.Sub(now), 0) }

// step goes on if it is time: calls and cpu are the process's so far.
func (g *guard) step(now time.Time, calls uint64, cpu time.Duration) {
	if now.Before(g.until) {
		return
	}
	switch g.state {
	case guardWaits:
		g.pairs, g.losses = 0, 0
		g.pair(now, calls, cpu)
	case guardFirst:
		g.measure(g.firstOn, calls, cpu)
		g.state = guardSecond
		g.begin(now, calls, cpu)
	case guardSecond:
		g.measure(!g.firstOn, calls, cpu)
		off, on := g.cost[0], g.cost[1]
		switch {
		case off == 0 || on == 0: // too little to do: there is nothing to lose either
			g.rest(now)
			return
		case on > off*guardMargin:
			g.losses++
		default:
			g.rest(now) // one that is not lost decides it
			g.setbacks = 0
			return
		}
		if g.pairs++; g.pairs < guardPairs {
			g.pair(now, calls, cpu)
			return
		}
		g.state = guardOff
		g.until = now.Add(min(guardRest<<min(g.setbacks, 16), guardMost))
		g.setbacks++
		g.Suspended++
	case guardOff:
		// Another try, with a round soon.
		g.state = guardWaits
		g.until = now.Add(guardBegin)
		g.waited = 0
	}
}

// grows tells that more of the program has just been translated. A path that still ends where the program goes on costs more than it
// will: a round is put off for a while, or the program would run natively before its paths were what they become, and those of
// a program that runs natively do not grow.
func (g *guard) grows(now time.Time) {
	if later := now.Add(guardGrows); g.state == guardWaits && later.After(g.until) && g.waited < guardGrowth {
		g.waited += later.Sub(g.until)
		g.until = later
	}
}

func (g *guard) rest(now time.Time) {
	g.state = guardWaits
	g.until = now.Add(guardEvery)
}

// pair begins a pair, in random order, so that no rhythm of the program's favours one.
func (g *guard) pair(now time.Time, calls uint64, cpu time.Duration) {
	g.state = guardFirst
	g.firstOn = g.rng.IntN(2) == 0
	g.cost = [2]float64{}
	g.begin(now, calls, cpu)
}

func (g *guard) begin(now time.Time, calls uint64, cpu time.Duration) {
	g.until = now.Add(guardWindow)
	g.calls, g.cpu = calls, cpu
}

func (g *guard) measure(on bool, calls uint64, cpu time.Duration) {
	n := calls - g.calls
	if n < guardCalls || cpu <= g.cpu {
		return
	}
	i := 0
	if on {
		i = 1
	}
	g.cost[i] = float64(cpu-g.cpu) / float64(n)
}

// cpuTime returns the CPU time that the threads of a process that there are now have used, to the nanosecond.
func cpuTime(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		var ns int64
		if err == nil {
			_, err = fmt.Sscan(string(b), &ns)
		}
		if err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
