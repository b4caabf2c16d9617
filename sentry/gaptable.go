package sentry

import "ub/sentry/statfile"

// listGapLocked gives a gap a place in the gap table, if there is one.
func (e *engine) listGapLocked(g *gap) {
	if len(e.freeGaps) == 0 {
		return
	}
	g.slot = e.freeGaps[0]
	e.freeGaps = e.freeGaps[1:]
	e.tableGaps[g.slot] = g
}

// unlistGapLocked gives it back. What it says stays until somebody else needs the place, the longest unused one first.
func (e *engine) unlistGapLocked(g *gap) {
	if g.slot < 0 {
		return
	}
	e.writeGap(g)
	e.tableGaps[g.slot] = nil
	e.freeGaps = append(e.freeGaps, g.slot)
	g.slot = -1
}

// writeGap writes one gap to its place in the table. engine.mu is held.
func (e *engine) writeGap(g *gap) {
	p, pairs := g.Payoff()
	if pairs == 0 {
		p = int64(g.Base) - int64(g.Active) // until there are new ones
	}
	v := statfile.Gap{
		Site: g.key.rip, Caller: g.key.caller, Space: g.as.id, State: uint8(g.State), Why: uint8(g.Why), Level: uint8(g.Level),
		Entered: g.entered.Load(), Bypassed: g.bypassed.Load(), Misses: g.misses.Load(), Stops: g.stops.Load(),
		PayoffNS: ticksToNS(p), BaseNS: uint64(ticksToNS(int64(g.Base))), ActiveNS: uint64(ticksToNS(int64(g.Active))),
		Pairs: uint16(pairs), Setbacks: uint16(min(g.Setbacks, 1<<16-1)),
	}
	if g.site != nil {
		v.Extensions = uint32(g.site.extended)
	}
	for i, n := range g.Hist {
		v.Hist[i] = uint32(min(n, 1<<32-1))
	}
	e.stats.SetGap(g.slot, v)
}

// count adds a context's counts.
func (g *gap) count(e *cached) {
	g.entered.Add(uint64(e.entered))
	g.bypassed.Add(uint64(e.bypassed))
	g.misses.Add(uint64(e.misses))
	g.stops.Add(uint64(e.stops))
}
