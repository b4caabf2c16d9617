package profile

import (
	"math"
	"time"
)

// rowKey is what sites are merged by once they have names: the same code in many processes is one row.
type rowKey struct {
	site, caller Place
	nr           uint32
}

// rowSums is what windows have seen of a site.
type rowSums struct {
	gaps  uint64 // ended
	cut   uint64 // not ended when the window did
	gapNS float64
	sysNS float64
	sysN  uint64
	hist  Histogram
}

func (r *rowSums) add(o *rowSums) {
	r.gaps += o.gaps
	r.cut += o.cut
	r.gapNS += o.gapNS
	r.sysNS += o.sysNS
	r.sysN += o.sysN
	for i, n := range o.hist {
		r.hist[i] += n
	}
}

// sums is what has been seen in a time.
type sums struct {
	elapsed   time.Duration
	observed  time.Duration // in windows
	cpu       time.Duration // of the profiled programs, all the time
	windowCPU time.Duration // in windows, as far as clocks tell; 0: not known
	cost      time.Duration // of profiling, to the thread that was slowed down most, at most
	windows   int
	gaps      uint64 // of all threads
	rows      map[rowKey]*rowSums
}

func newSums() *sums { return &sums{rows: map[rowKey]*rowSums{}} }

// add adds what another time has seen.
func (s *sums) add(o *sums) {
	s.elapsed += o.elapsed
	s.observed += o.observed
	s.cpu += o.cpu
	s.windowCPU += o.windowCPU
	s.cost += o.cost
	s.windows += o.windows
	s.gaps += o.gaps
	for k, r := range o.rows {
		s.row(k).add(r)
	}
}

// scale returns how many times as many system calls the programs made in all the time as in the windows, had the profiler
// not made each of them longer.
//
// CPU time is what it goes by: windows may get more or less of it than other times, for the profiler itself takes some
// when they begin and end, and a thread's rate while it runs is what it is. From the CPU time in windows, what the
// profiler's programs took is subtracted.
func (s *sums) scale(cal *Calibration) float64 {
	if s.observed == 0 {
		return 0
	}
	byWall := ratio(float64(s.elapsed), float64(s.observed))
	if s.cpu == 0 {
		return byWall
	}
	in := float64(s.cpu) / byWall
	// Sums of differences of clocks that stand still now and then are right on average. Unless they tell for sure that
	// windows were different, the share of all the time is the better guess.
	noise := 3 * float64(timerTick) * math.Sqrt(float64(s.windows)/6)
	if w := float64(s.windowCPU); w > 0 && math.Abs(w-in) > noise {
		in = w
	}
	// Where system calls follow each other at once this difference is small and uncertain. A call takes at least the
	// crossing, and mostly half of the gaps behind it are longer than the median.
	least := 0.0
	for _, r := range s.rows {
		least += float64(r.gaps) * (cal.Crossing + r.hist.Quantile(0.5))
	}
	return float64(s.cpu) / min(max(in-float64(s.gaps)*cal.Probe, least), in)
}

func (s *sums) row(k rowKey) *rowSums {
	r := s.rows[k]
	if r == nil {
		r = &rowSums{}
		s.rows[k] = r
	}
	return r
}

// lost returns the number of gaps whose site was evicted before it was read.
func (s *sums) lost() uint64 {
	n := s.gaps
	for _, r := range s.rows {
		n -= min(r.gaps, n)
	}
	return n
}
