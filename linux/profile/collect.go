package profile

import (
	"bytes"
	"time"
)

// collector reads the tracer's maps, which only grow, and adds what is new to sums.
type collector struct {
	t       *tracer
	sym     *symbolizer
	sys     float64 // ns of a system call that does nothing, as the programs see it
	sites   map[siteKey]siteValue
	threads map[uint64]uint64 // gaps by thread
	names   map[siteKey]rowKey
	comms   map[image]string // names of threads, for processes of which nothing else is known
}

func newCollector(t *tracer, c *Calibration) *collector {
	return &collector{
		t: t, sym: newSymbolizer(t), sys: c.sys,
		sites: map[siteKey]siteValue{}, threads: map[uint64]uint64{}, names: map[siteKey]rowKey{}, comms: map[image]string{},
	}
}

// collect adds what a piece of a window of length d has seen to s. At the end of the window, gaps that go on are counted
// as cut.
func (c *collector) collect(s *sums, d time.Duration, end bool) error {
	cut, err := c.readThreads(s, end)
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
		if now == last {
			continue
		}
		r := s.row(c.name(k, now.Comm[:]))
		n := now.Gaps - last.Gaps
		r.gaps += n
		r.gapNS += float64(now.GapNS - last.GapNS)
		sysN := now.SysN - last.SysN
		r.sysN += sysN
		r.sysNS += max(float64(now.SysNS-last.SysNS)-float64(sysN)*c.sys, 0)
		for b := range r.hist {
			r.hist[b] += float64(now.Hist[b] - last.Hist[b])
		}
	}
	c.sites = sites
	for _, k := range cut {
		s.row(c.name(k, nil)).cut++
	}
	s.observed += d
	if end {
		s.windows++
	}
	// Names of sites that are gone from the map are not needed any more, unless they come back.
	if len(c.names) > 4*maxSites {
		clear(c.names)
		clear(c.comms)
	}
	return nil
}

// readThreads counts the gaps of all threads, and returns the keys of those that go on at the end of a window.
func (c *collector) readThreads(s *sums, end bool) (cut []siteKey, err error) {
	ids, states, err := c.t.threads()
	if err != nil {
		return nil, err
	}
	threads := make(map[uint64]uint64, len(ids))
	for i, id := range ids {
		th := &states[i]
		last := c.threads[id]
		if th.Gaps < last {
			last = 0 // it was evicted and has come back, or is another thread
		}
		s.gaps += th.Gaps - last
		threads[id] = th.Gaps
		if end && th.Epoch == c.t.epoch && th.Start != 0 {
			cut = append(cut, th.Key)
		}
	}
	c.threads = threads
	return cut, nil
}

// name returns what a site is called, from when it was first seen. comm is the name of a thread there, if that is known.
func (c *collector) name(k siteKey, comm []byte) rowKey {
	r, ok := c.names[k]
	if ok {
		return r
	}
	comm, _, _ = bytes.Cut(comm, []byte{0})
	switch {
	case len(comm) > 0:
		c.comms[k.Image] = string(comm)
	case c.comms[k.Image] == "":
		c.comms[k.Image] = "unknown"
	}
	site, caller := c.sym.site(k, c.comms[k.Image])
	r = rowKey{site, caller, k.NR}
	c.names[k] = r
	return r
}
