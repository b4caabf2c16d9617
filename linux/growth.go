package linux

import (
	"fmt"
	"slices"
	"time"

	"ub/btc"
	"ub/path"
)

// State of a site.
type State uint8

const (
	Free      State = iota // seen, or part of another site's path
	Candidate              // waits for its translation
	Live                   // there is code
	Refused                // it was not translated, or not taken
	Retired                // the code did not pay
	Dropped                // the code was dropped because the program's changed
)

var stateNames = [...]string{"free", "candidate", "live", "refused", "retired", "dropped"}

func (s State) String() string { return stateNames[s] }

// MarshalText makes the state a word in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads one.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("%q is no state of a site", b)
	}
	*s = State(i)
	return nil
}

// site is an address of the program at which translated code is, was, or may be entered: behind a system call, or a
// target that was missed.
type site struct {
	rip      uint64
	nr       uint32 // system call, if that is known
	state    State
	why      string // for Refused and Retired
	queued   bool
	stack    []uint64 // what was on the stack when it was last asked for
	blob     *blob    // for Live
	extended int      // times that a target missed from its path was added
	shift    uint     // path limits are divided by 1<<shift
	vectors  bool     // vector instructions of the path are executed, not only in what is never reached
	setbacks int      // each doubles the time until the next attempt
	retryAt  time.Time

	made  int    // translations
	seen  uint64 // native passes
	exits uint64 // of its path, without reaching a system call
}

// setBack postpones the next attempt.
func (s *site) setBack(c *Config, now time.Time, state State, why string) {
	s.state, s.why = state, why
	s.retryAt = now.Add(min(c.Retry<<min(s.setbacks, 16), c.RetryMax))
	s.setbacks++
}

// limits are those of the site's path.
func (s *site) limits(c *Config) path.Limits {
	return path.Limits{MaxBlocks: max(1, c.Limits.MaxBlocks>>s.shift), MaxInsts: max(1, c.Limits.MaxInsts>>s.shift)}
}

// blob is translated code that the module has taken.
type blob struct {
	id      uint64
	root    *site
	wanted  []uint64 // entries asked for: the root, and targets that were missed
	entries []uint64 // those that it was installed with
	source  []btc.Range
	size    int

	exits       uint64 // since it was installed, those that reached no system call
	entriesThen uint64 // the module's count of entries when it was installed, or last judged
}

// covers tells whether the instruction at rip is part of the blob's path.
func (b *blob) covers(rip uint64) bool {
	for _, r := range b.source {
		if r.Start <= rip && rip < r.End {
			return true
		}
	}
	return false
}

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
	s    *site
	from uint64
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

// step serves one request; false: there was none. A target that is missed from a path belongs to that path, if that can
// still grow and the branch does not lead everywhere. Else it begins a path of its own.
func (s *Session) step() bool {
	if len(s.queue) == 0 {
		return false
	}
	r := s.queue[0]
	s.queue = s.queue[1:]
	t, root := r.s, r.s
	t.queued = false
	if r.from != 0 {
		if s.entries[t.rip] != nil {
			// Made meanwhile, in passing.
			if t.state == Candidate {
				t.state = Free
			}
			return true
		}
		if b := s.owner(r.from); b != nil {
			if b.root.extended < s.config.MaxExtensions && len(b.wanted) < maxEntries && s.hints[r.from].Len() <= btc.MaxInlineTargets {
				root = b.root
			}
			b.root.extended++
		}
	}
	made := s.make(root, s.wanted(root, t))
	if t != root && !made {
		// It does not fit: the path is full, and the target begins one of its own.
		root.extended = s.config.MaxExtensions
	}
	if t != root && s.entries[t.rip] == nil {
		// So does one that the path was made without, since it begins with a vector instruction.
		root = t
		s.make(t, s.wanted(t, t))
	}
	if t != root && t.state == Candidate {
		t.state = Free // it is part of root's path
	}
	return true
}

// wanted are the entries of root's path when t is added to it.
func (s *Session) wanted(root, t *site) []uint64 {
	entries := []uint64{root.rip}
	if root.blob != nil {
		entries = append(entries, root.blob.wanted...)
	}
	return unique(append(entries, t.rip))
}

func unique(in []uint64) []uint64 {
	var out []uint64
	for _, v := range in {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
