package sentry

import (
	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/kernel"

	"ub/sentry/statfile"
)

// threadRow is a context's place in the thread table.
type threadRow struct {
	place int // from 1; 0: none
	v     statfile.Thread
}

// listThread gives the thread a place in the thread table if it has none, and there is one. Threads get here after some
// crossings only, so those that do next to nothing take no place.
func (c *threadContext) listThread(ctx pkgcontext.Context, as *addressSpace) {
	c.row.v.Space = as.id
	if c.row.place != 0 {
		return
	}
	t, ok := ctx.(*kernel.Task)
	if !ok {
		return
	}
	e := c.p.engine
	e.mu.Lock()
	if n := len(e.freeThreads); n > 0 {
		c.row.place = e.freeThreads[n-1] + 1
		e.freeThreads = e.freeThreads[:n-1]
	}
	e.mu.Unlock()
	c.row.v.TID = uint32(t.ThreadID())
}

// writeThread brings the thread's row up to date, from what flush is about to add to the counters.
func (c *threadContext) writeThread() {
	v := &c.row.v
	v.Native += uint64(c.n[nNative])
	v.Bypassed += uint64(c.n[nBypassed])
	v.Sampled += uint64(c.n[nSampled])
	if c.row.place == 0 {
		return
	}
	v.SampleEvery, v.Busy = c.ident.Distance(), c.ident.Busy()
	c.p.stats.SetThread(c.row.place-1, *v)
}

func (c *threadContext) unlistThread() {
	if c.row.place == 0 {
		return
	}
	c.p.stats.SetThread(c.row.place-1, statfile.Thread{})
	e := c.p.engine
	e.mu.Lock()
	e.freeThreads = append(e.freeThreads, c.row.place-1)
	e.mu.Unlock()
	c.row.place = 0
}
