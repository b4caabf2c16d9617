package profile

import "time"

// rowKey is what sites are merged by once they have names: the same code in many processes is one row.
type rowKey struct {
	site, caller Place
	nr           uint32
}

// rowSums is what windows have seen of a site.
type rowSums struct {
	gaps  uint64  // ended
	cut   uint64  // not ended when the window did
	calls float64 // gaps and cut, without the profiler's slowdown
	gapNS float64 // like calls, of the gaps
	sysNS float64
	sysN  float64
	hist  Histogram
}

func (r *rowSums) add(o *rowSums) {
	r.gaps += o.gaps
	r.cut += o.cut
	r.calls += o.calls
	r.gapNS += o.gapNS
	r.sysNS += o.sysNS
	r.sysN += o.sysN
	for i, n := range o.hist {
		r.hist[i] += n
	}
}

// sums is what has been seen in a time.
type sums struct {
	elapsed  time.Duration
	observed time.Duration // in windows
	cpu      time.Duration // of the profiled programs, all the time
	cost     time.Duration // of windows, to the thread that was slowed down most
	windows  int
	gaps     uint64 // of all threads
	rows     map[rowKey]*rowSums
}

func newSums() *sums { return &sums{rows: map[rowKey]*rowSums{}} }

// add adds what another time has seen.
func (s *sums) add(o *sums) {
	s.elapsed += o.elapsed
	s.observed += o.observed
	s.cpu += o.cpu
	s.cost += o.cost
	s.windows += o.windows
	s.gaps += o.gaps
	for k, r := range o.rows {
		s.row(k).add(r)
	}
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
