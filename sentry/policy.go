package sentry

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/log"

	"ub/hot"
	"ub/sentry/statfile"
)

// gap is what the platform and the policy know of the gaps behind a site, or of those of one caller.
type gap struct {
	hot.Gap
	key gapKey
	as  *addressSpace

	// callerAt is the distance of the return address from the top of the stack, for a gap that is split.
	callerAt atomic.Uint32

	// Below: protected by engine.mu.
	site    *site // whose path the entry belongs to
	asked   int   // requests that wait, of targets that were missed in it
	awaits  *site // what is being translated meanwhile, see hot.Gap.Await
	callers int   // gaps that this one has been split into
	slot    int   // in the gap table, -1 if that is full

	// Added to by contexts now and then.
	entered, bypassed, misses, stops atomic.Uint64
}

type gapKey struct {
	rip    uint64
	caller uint64 // return address of the function with the syscall instruction, 0 for all
}

const (
	// maxGaps bounds what an address space's gaps can take of the Sentry's memory, about 600 bytes each. There is no
	// eviction: gaps have an entry of translated code, which maxSites bounds, or are its callers.
	maxGaps = 4096
	// maxCallers bounds the callers of one site that are looked at apart; the others share one gap.
	maxCallers   = 16
	otherCallers = ^uint64(0)
)

// track is the key under which a thread counts the gap's passes.
func (k gapKey) track() uint64 { return k.rip ^ (k.caller<<32 | k.caller>>32) }

// gapFor returns the gap behind rip, whose entry belongs to s; for the caller, if that is not 0.
func (e *engine) gapFor(as *addressSpace, k gapKey, s *site) *gap {
	e.mu.Lock()
	defer e.mu.Unlock()
	if as.released {
		return e.noGap
	}
	g := as.gaps[k]
	if g == nil {
		parent := as.gaps[gapKey{rip: k.rip}]
		if k.caller != 0 && k.caller != otherCallers && parent != nil {
			// What a wrapper has not written in its frame may be anything: without many gaps being measured one by one, that
			// tells nothing apart.
			if _, ok := e.codeAtLocked(as, k.caller, k.caller+1); !ok || parent.callers >= maxCallers {
				k.caller = otherCallers
				g = as.gaps[k]
			} else {
				parent.callers++
			}
		}
		if g == nil {
			if len(as.gaps) >= maxGaps {
				return e.noGap
			}
			if as.gaps == nil {
				as.gaps = map[gapKey]*gap{}
			}
			g = &gap{key: k, as: as, slot: -1}
			g.Data = g
			if k.caller != 0 && parent != nil {
				g.Inherit(&parent.Gap)
			}
			as.gaps[k] = g
			e.listGapLocked(g)
		}
	}
	g.site = s
	was := g.State
	g.HasCode(&e.policy, e.ticks())
	e.countStateLocked(was, g.State)
	return g
}

// settle takes the results of a pair of windows of a thread.
func (e *engine) settle(as *addressSpace, t *hot.Thread, now uint64) {
	e.mu.Lock()
	if as.released {
		e.mu.Unlock()
		return
	}
	var gone []*blob
	e.counters.Add(statfile.Pairs, 1)
	growth := func(g *hot.Gap) hot.Growth {
		switch s := g.Data.(*gap).site; {
		case s == nil:
		case s.queued || g.Data.(*gap).asked > 0:
			return hot.Growing
		case s.full(&e.config):
			return hot.Full
		}
		return hot.Stable
	}
	harm := t.Settle(now, &as.group, growth, func(g *hot.Gap, ev hot.Event) {
		gone = append(gone, e.gapEventLocked(g.Data.(*gap), ev)...)
	})
	if harm {
		log.Infof("Platform %s: address space %d is slower with bypass: it gets none for a while", Name, as.id)
		e.counters.Add(statfile.GroupsRolledBack, 1)
		for _, g := range as.gaps {
			was := g.State
			as.group.RollBack(&e.policy, &g.Gap, now)
			e.countStateLocked(was, g.State)
		}
	}
	e.mu.Unlock()
	e.retire(gone)
}

// gapEventLocked does what the policy asks for. It returns blobs to be retired.
func (e *engine) gapEventLocked(g *gap, ev hot.Event) []*blob {
	s := g.site
	switch ev {
	case hot.Extend:
		e.counters.Add(statfile.PathsRaised, 1)
		if s != nil && g.Level > s.level {
			s.level = g.Level
			g.as.askAgainLocked()
			e.enqueueLocked(request{s: s})
		}
	case hot.Shrink:
		e.counters.Add(statfile.PathsLowered, 1)
		if s != nil && g.Level < s.level {
			s.level = g.Level
			e.enqueueLocked(request{s: s})
		}
	case hot.Changed:
		p, n := g.Payoff()
		log.Debugf("Platform %s: gap %#x, caller %#x: %v, %v; %d ticks in %d pairs, setbacks %d", Name, g.key.rip, g.key.caller, g.State, g.Why, p, n, g.Setbacks)
		switch g.State {
		case hot.Kept:
			e.counters.Add(statfile.GapsKept, 1)
		case hot.RolledBack, hot.Retired:
			e.counters.Add(statfile.GapsRolledBack, 1)
		}
		if g.State == hot.Retired && s != nil && s.blob != nil && !e.wantedLocked(s) {
			e.counters.Add(statfile.SitesRetired, 1)
			gone := e.dropLocked(s.blob)
			s.state = statfile.Retired
			return gone
		}
	}
	return nil
}

// wantedLocked reports whether a gap still has a use for the path of s.
func (e *engine) wantedLocked(s *site) bool {
	for _, g := range s.as.gaps {
		if g.site == s && g.State != hot.Retired && g.State != hot.Split {
			return true
		}
	}
	return false
}

// settled has a gap's path measured.
func (e *engine) settled(g *gap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if g.site == nil || !g.site.queued && g.asked == 0 {
		g.Settled()
	}
}

// again gives a gap that was rolled back another trial. One that is of all callers of a site is split up then, if they can
// be told apart by a word of stack: bypass may have paid for some of them.
func (e *engine) again(g *gap, stack []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.ticks()
	was := g.State
	if g.key.caller == 0 && g.Why != hot.WhyGroup && (was == hot.RolledBack || was == hot.Retired) {
		for i, v := range stack {
			if _, ok := e.codeAtLocked(g.as, v, v+1); ok {
				g.callerAt.Store(uint32(8 * i))
				if g.Why == hot.WhyNoEnd {
					g.as.askAgainLocked()
				}
				g.SplitUp(now)
				e.countStateLocked(was, g.State)
				return
			}
		}
	}
	if g.Why == hot.WhyNoEnd {
		g.as.askAgainLocked()
	}
	g.Again(&e.policy, now)
	e.countStateLocked(was, g.State)
}

// askAgainLocked has targets that were missed in vain translated when they are missed once more.
func (as *addressSpace) askAgainLocked() {
	for _, b := range as.hints {
		b.AskAgain(firstMisses)
	}
}

// countStateLocked counts a change of a gap's state that is no decision of a trial's.
func (e *engine) countStateLocked(was, is hot.State) {
	if was == is {
		return
	}
	switch is {
	case hot.Trial:
		e.counters.Add(statfile.Trials, 1)
	case hot.Split:
		e.counters.Add(statfile.GapsSplit, 1)
	case hot.RolledBack, hot.Retired:
		e.counters.Add(statfile.GapsRolledBack, 1)
	}
}

// tried reports whether the site has had its trial, and must wait for the next one: for the next of any of its callers, if
// they are looked at apart. engine.mu is held.
func (as *addressSpace) tried(rip uint64, now uint64) bool {
	g := as.gaps[gapKey{rip: rip}]
	if g == nil {
		return false
	}
	if g.State != hot.Split {
		return g.waits(now)
	}
	any := false
	for k, g := range as.gaps {
		if k.rip == rip && k.caller != 0 {
			if any = true; !g.waits(now) {
				return false
			}
		}
	}
	return any
}

func (g *gap) waits(now uint64) bool {
	return (g.State == hot.RolledBack || g.State == hot.Retired) && now < g.RetryAt
}

// grownLocked tells the gaps behind the entries of s's path that the path is a new one.
func (e *engine) grownLocked(s *site) {
	t := s.as.entries.Load()
	if t == nil {
		return
	}
	for _, g := range s.as.gaps {
		if en, ok := t.entries[g.key.rip]; ok && en.site == s {
			g.site = s
			g.Grown(&e.policy, e.ticks())
		}
	}
}
