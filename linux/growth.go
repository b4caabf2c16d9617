package linux

import (
	"slices"

	"ub/btc"
	"ub/path"
)

const (
	// maxEntries bounds what is asked of one blob.
	maxEntries = 32
	// maxSites and maxBranches bound what a program's behaviour can take of this process's memory.
	maxSites    = 8192
	maxBranches = 8192
	maxQueue    = 1024
)

// request asks for a translation of site, or, when from is not 0, of more of what the branch at from, in a path that
// there is, leads to.
type request struct {
	s     *site
	from  uint64
	alone bool // no other is to be served with it: together they have failed
	apart bool // the path of from has no place for it
}

func (s *Session) enqueue(r request) {
	if r.s.queued || len(s.queue) >= maxQueue || s.now().Before(r.s.retryAt) {
		return
	}
	r.s.queued = true
	if r.s.state != Live {
		r.s.state = Candidate
	}
	s.queue = append(s.queue, r)
}

// site returns the site at rip, made if it is not there, or nil if there are too many.
func (s *Session) site(rip uint64) *site {
	if t := s.sites[rip]; t != nil {
		return t
	}
	if len(s.sites) >= maxSites {
		return nil
	}
	t := &site{rip: rip}
	s.sites[rip] = t
	return t
}

// owner returns the newest blob made from the instruction at rip, or nil.
func (s *Session) owner(rip uint64) *blob {
	for _, b := range slices.Backward(s.blobs) {
		if b.covers(rip) {
			return b
		}
	}
	return nil
}

// transfer returns the blob with the native address at, which a miss tells of, and the program instruction that the code there
// translates, or at itself if several instructions share it; nil if there is no such blob.
func (s *Session) transfer(at uint64) (b *blob, rip uint64) {
	for _, b := range s.blobs {
		if b.base <= at && at-b.base < uint64(b.size) {
			if rip, ok := b.code.RIPAt(uint32(at - b.base)); ok {
				return b, rip
			}
			return b, at
		}
	}
	return nil, 0
}

// job is one translation: the path of root, and those that have asked for it.
type job struct {
	root *site
	asks []request
}

// step makes one translation; false: there is none to be made now.
func (s *Session) step() bool {
	if !s.afford() {
		return false
	}
	j, ok := s.next()
	if !ok {
		return false
	}
	wanted := []uint64{j.root.rip}
	if j.root.blob != nil {
		wanted = append(wanted, j.root.blob.wanted...)
	}
	for _, r := range j.asks {
		wanted = append(wanted, r.s.rip)
	}
	made := s.spend(func() bool { return s.make(j.root, path.Unique(wanted)) })
	if made && s.guard != nil {
		s.guard.grows(s.now())
	}
	for _, r := range j.asks {
		switch t := r.s; {
		case t == j.root:
		case made && s.entries[t.rip] != nil:
			if t.state == Candidate {
				t.state = Free // it is part of root's path
			}
		case len(j.asks) > 1 && !made:
			// Together they have failed: each has a try of its own.
			t.queued = true
			s.queue = append(s.queue, request{s: t, from: r.from, alone: true})
		default:
			// It has no room there, or the path was made without it, since it begins with a vector instruction: it begins one of its own.
			t.queued = true
			s.queue = append(s.queue, request{s: t, from: r.from, alone: true, apart: true})
		}
	}
	return true
}

// next takes the oldest request, with all others that the same translation serves.
func (s *Session) next() (j job, ok bool) {
	for len(s.queue) > 0 {
		r := s.queue[0]
		s.queue = s.queue[1:]
		r.s.queued = false
		if r.from != 0 && s.entries[r.s.rip] != nil {
			// Made meanwhile, in passing.
			if r.s.state == Candidate {
				r.s.state = Free
			}
			continue
		}
		root, owner := s.root(r)
		switch {
		case owner == nil:
		case owner == root:
			root.extended++
		case root.blob == nil:
			root.piece = true
			s.counts.Pieces++
		}
		j = job{root, []request{r}}
		if !r.alone {
			var more []request
			more, s.queue = path.Merge(s.queue, maxEntries-1, func(r request) bool {
				same, _ := s.root(r)
				return !r.alone && same == root
			})
			for _, r := range more {
				r.s.queued = false
			}
			j.asks = append(j.asks, more...)
			s.counts.Merged += uint64(len(more))
		}
		return j, true
	}
	return j, false
}

// root returns the site whose path serves r, and the one from whose path r's target was missed, if that is still there.
//
// A target that is missed from a path belongs to that path, if there is room and the branch does not lead everywhere. Else it
// begins a path of its own, a small one: it contains what is executed, where a path that was enlarged would above all
// contain more of what is not, and each translation of it take longer.
func (s *Session) root(r request) (root, owner *site) {
	if r.from == 0 {
		return r.s, nil
	}
	b := s.owner(r.from)
	if b == nil {
		return r.s, nil
	}
	if !r.apart && !b.full && b.root.blob == b && b.root.extended < s.config.MaxExtensions && len(b.wanted) < maxEntries && s.hints[r.from].Len() <= btc.FewTargets {
		return b.root, b.root
	}
	return r.s, b.root
}
