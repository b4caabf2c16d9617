package sentry

import (
	"ub/btc"
	"ub/path"
	"ub/sentry/statfile"
)

// request asks the worker for a translation of site, or, when from is not 0, of more of what the branch at from, in
// a path of s.as, leads to.
type request struct {
	s     *site
	from  uint64
	gap   *gap // in which it was missed, nil if nobody waits for it
	alone bool // no other is to be served with it: together they have failed
}

// job is one translation: the path of root, and those that have asked for it.
type job struct {
	root *site
	asks []request
}

// nextLocked takes the oldest request, with all others that the same translation serves.
func (e *engine) nextLocked() (j job, ok bool) {
	for len(e.queue) > 0 {
		r := e.queue[0]
		e.queue = e.queue[1:]
		if r.s.as.released {
			continue
		}
		root, owner := e.rootLocked(r)
		switch {
		case owner == nil:
		case owner == root:
			root.extended++
		case root.blob == nil:
			root.piece = true
			e.counters.Add(statfile.Pieces, 1)
		}
		j = job{root, []request{r}}
		if !r.alone {
			var more []request
			more, e.queue = path.Merge(e.queue, maxEntries-1, func(r request) bool {
				if r.alone || r.s.as != root.as {
					return false
				}
				same, _ := e.rootLocked(r)
				return same == root
			})
			j.asks = append(j.asks, more...)
			e.counters.Add(statfile.RequestsMerged, int64(len(more)))
		}
		root.queued = true
		return j, true
	}
	return j, false
}

// rootLocked returns the site whose path serves r, and the one from whose path r's target was missed, if that is still
// there.
//
// A target that is missed from a path belongs to that path, if there is room and the branch does not lead
// everywhere. Else it begins a path of its own, a small one: it contains what is executed, where a path that was enlarged would above all
// contain more of what is not, and each translation of it take longer.
func (e *engine) rootLocked(r request) (root, owner *site) {
	if r.from == 0 {
		return r.s, nil
	}
	b := e.ownerLocked(r.s.as, r.from)
	if b == nil {
		return r.s, nil
	}
	if !b.full && !b.root.full(&e.config) && len(b.wanted) < maxEntries && r.s.as.hints[r.from].Len() <= btc.FewTargets {
		return b.root, b.root
	}
	return r.s, b.root
}

// servedLocked ends a request that was taken from the queue.
func (e *engine) servedLocked(r request) {
	r.s.queued = false
	if r.gap != nil {
		r.gap.asked--
	}
	if r.s.state == statfile.Candidate {
		r.s.state = statfile.Free // it is part of another's path
	}
	for _, g := range r.s.as.gaps {
		if g.awaits == r.s {
			g.awaits = nil
			g.Resume(&e.policy, e.ticks())
		}
	}
}

// crossed adds n crossings of a thread, made or saved, to what translation may take a part of.
func (e *engine) crossed(n, crossing uint64) {
	e.budget.Lost(n, crossing)
	if e.waiting.Load() && e.budget.Allows(&e.policy) {
		e.wakeUp()
	}
}
