package sentry

import (
	"sync/atomic"
	"time"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// site is an address of a program at which BTC is, was, or may be entered: behind a syscall instruction, or a target that
// translated code has missed.
type site struct {
	as   *addressSpace
	rip  uint64
	slot int // in the site table, -1 if that is full

	// Since the site was made; added to by contexts now and then.
	entered, bypassed, misses, stops atomic.Uint64

	// judgedEntered is entered at the last judgement or installation; judgedBypassed likewise, under engine.mu.
	judgedEntered  atomic.Uint64
	judgedBypassed uint64

	// Below: protected by engine.mu.
	state        statfile.State
	queued       bool
	piece        bool     // it continues a path that had no room for it
	stack        []uint64 // what was on the program's stack when it was last asked for
	blob         *blob    // for state Live
	translations int
	extended     int       // times that a target missed from its path was added
	level        uint32    // which limits its path has, see limits
	postponed    int       // judgements since installation that waited for a translation
	setbacks     int       // failures and retirements, each doubles the time until the next attempt
	retryAt      time.Time // not before
}

// blob is an installed blob and what it depends on. Fields are immutable but for the last ones.
type blob struct {
	as        *addressSpace
	root      *site
	installed *machine.Installed
	wanted    []uint64 // entries asked for: the root and targets that were missed
	entries   []uint64 // all entries, return addresses of calls and the like included
	source    []btc.Range
	code      []sourceBytes // what source contained
	files     []fileRange   // where source comes from
	w         window        // the mirror it was made from and runs in
	size      int
	full      bool // its path goes on beyond its limits

	// Protected by engine.mu.
	live bool     // registered, and not dropped
	ids  []fileID // files it comes from
}

// sourceBytes is the program's code at addr, as the translator read it.
type sourceBytes struct {
	addr uint64
	code []byte
}

// count adds a context's counts.
func (s *site) count(e *cached) {
	s.entered.Add(uint64(e.entered))
	s.bypassed.Add(uint64(e.bypassed))
	s.misses.Add(uint64(e.misses))
	s.stops.Add(uint64(e.stops))
}

// due reports whether the site has been tried often enough since it was judged.
func (s *site) due(c *statfile.Config) bool {
	return s.entered.Load()-s.judgedEntered.Load() >= c.TrialEntries
}

// startTrial forgets the counts so far. engine.mu is held.
func (s *site) startTrial() {
	s.judgedEntered.Store(s.entered.Load())
	s.judgedBypassed = s.bypassed.Load()
}

// limits are those of a path of s's level: the largest, or half of each, and so on.
func (s *site) limits(c *statfile.Config) (l path.Limits, extensions int) {
	if s.piece {
		return path.Limits{MaxBlocks: int(c.PieceBlocks), MaxInsts: int(c.PieceInsts)}, int(c.MaxExtensions)
	}
	shift := c.PathLevels - 1 - min(uint64(s.level), c.PathLevels-1)
	if c.Controller == 0 {
		shift = 0 // nobody raises levels
	}
	return path.Limits{MaxBlocks: int(max(1, c.MaxPathBlocks>>shift)), MaxInsts: int(max(1, c.MaxPathInsts>>shift))},
		int(c.MaxExtensions >> shift)
}

// full reports whether the path has been extended as often as it may.
func (s *site) full(c *statfile.Config) bool {
	_, n := s.limits(c)
	return s.extended >= n
}

// last reports whether there is no larger path than that of the site's level.
func (s *site) last(c *statfile.Config) bool { return uint64(s.level)+1 >= c.PathLevels }

// maxPostponed is how many judgements may wait for a translation: under load that can take long, and a site that does not
// yield costs something all the while.
const maxPostponed = 4

// yields judges the counts since the last trial began. engine.mu is held.
func (s *site) yields(c *statfile.Config) bool {
	entered := s.entered.Load() - s.judgedEntered.Load()
	bypassed := s.bypassed.Load() - s.judgedBypassed
	return bypassed*100 >= entered*c.MinYieldPercent
}

// setBack postpones the next attempt, by a second after the first setback, up to an hour. engine.mu is held.
func (s *site) setBack(now time.Time) {
	s.retryAt = now.Add(min(time.Second<<min(s.setbacks, 12), time.Hour))
	s.setbacks++
}

// firstMisses is the number of misses of a target that have it translated the first time. Small: each miss costs
// a crossing, and a path usually grows in several steps, one for each return out of a function.
const firstMisses = 4
