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
	piece    bool     // it continues a path that had no room for it
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
	l := c.Limits
	if s.piece {
		l = c.Pieces
	}
	return path.Limits{MaxBlocks: max(1, l.MaxBlocks>>s.shift), MaxInsts: max(1, l.MaxInsts>>s.shift)}
}

// blob is translated code that the module has taken.
type blob struct {
	id      uint64
	root    *site
	wanted  []uint64 // entries asked for: the root, and targets that were missed
	entries []uint64 // those that it was installed with
	source  []btc.Range
	size    int
	full    bool      // its path goes on beyond its limits
	base    uint64    // where the module has put it
	code    *btc.Blob // what of it RIPAt needs

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
