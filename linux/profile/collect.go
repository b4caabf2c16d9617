package profile

import (
	"bytes"
	"time"
)

// collector reads the tracer's maps, which only grow, and adds what is new to sums.
type collector struct {
	t       *tracer
	sym     *symbolizer
	probe   float64 // ns that a system call of a profiled thread takes longer in a window
	sys     float64 // ns of a system call that does nothing, as the programs see it
	sites   map[siteKey]siteValue
	threads map[uint64]uint64 // gaps by thread
	names   map[siteKey]rowKey
}

func newCollector(t *tracer, c *Calibration) *collector {
	return &collector{
		t: t, sym: newSymbolizer(t), probe: c.Probe, sys: c.sys,
		sites: map[siteKey]siteValue{}, threads: map[uint64]uint64{}, names: map[siteKey]rowKey{},
	}
}

// collect adds what a piece of a window of length d has seen to s. At the end of the window, gaps that go on are counted
// as cut.
func (c *collector) collect(s *sums, d time.Duration, end bool) error {
	speed, cut, err := c.readThreads(s, d, end)
	if err != nil {
		return err
	}
	keys, values, err := c.t.sites()
	if err != nil {
		return err
	}
	sites := make(map[siteKey]siteValue, len(keys))
	for i, k := range keys {
		now, last := values[i], c.sites[k]
		if now.Gaps < last.Gaps {
			last = siteValue{} // it was evicted and has come back
		}
		sites[k] = now
		if now.Gaps == last.Gaps {
			continue
		}
		r := s.row(c.name(k, now.Comm[:]))
		n := now.Gaps - last.Gaps
		r.gaps += n
		r.calls += float64(n) * speed
		r.gapNS += float64(now.GapNS-last.GapNS) * speed
		sysN := float64(now.SysN - last.SysN)
		r.sysN += sysN * speed
		r.sysNS += max(float64(now.SysNS-last.SysNS)-sysN*c.sys, 0) * speed
		for b := range r.hist {
			r.hist[b] += float64(now.Hist[b]-last.Hist[b]) * speed
		}
	}
	c.sites = sites
	for _, k := range cut {
		r := s.row(c.name(k, nil))
		r.cut++
		r.calls += speed
	}
	s.observed += d
	if end {
		s.windows++
	}
	// Names of sites that are gone from the map are not needed any more, unless they come back.
	if len(c.names) > 4*maxSites {
		clear(c.names)
	}
	return nil
}

// readThreads returns how much more the threads would have done without the profiler, and the keys of gaps that go on.
//
// A thread that makes n system calls in a window of length d spends n times the cost of a probe in the profiler. In the rest
// of the time it did what would otherwise have filled all of it.
func (c *collector) readThreads(s *sums, d time.Duration, end bool) (speed float64, cut []siteKey, err error) {
	ids, states, err := c.t.threads()
	if err != nil {
		return 0, nil, err
	}
	threads := make(map[uint64]uint64, len(ids))
	var did, would float64
	for i, id := range ids {
		th := &states[i]
		n := th.Gaps - c.threads[id]
		if th.Gaps < c.threads[id] {
			n = th.Gaps
		}
		threads[id] = th.Gaps
		s.gaps += n
		lost := min(float64(n)*c.probe/float64(max(d, 1)), 0.9)
		did += float64(n)
		would += float64(n) / (1 - lost)
		if end && th.Epoch == c.t.epoch && th.Start != 0 {
			cut = append(cut, th.Key)
		}
	}
	c.threads = threads
	if did == 0 {
		return 1, cut, nil
	}
	return would / did, cut, nil
}

// name returns what a site is called, from when it was first seen.
func (c *collector) name(k siteKey, comm []byte) rowKey {
	r, ok := c.names[k]
	if !ok {
		comm, _, _ = bytes.Cut(comm, []byte{0})
		site, caller := c.sym.site(k, string(comm))
		r = rowKey{site, caller, k.NR}
		c.names[k] = r
	}
	return r
}
