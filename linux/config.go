package linux

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ub/hot"
	"ub/path"
)

// Config is the policy of a Session.
type Config struct {
	// HotCount is the number of native system calls of a site after which the module speaks of it, MinRate how many in a
	// second make it worth a translation. The paper's rate is 50,000 for a thread; one site of several is enough here, and
	// a translation that is not worth much costs little.
	HotCount uint32
	MinRate  float64
	// MissCount is the number of misses of a target after which the module speaks of it, and after which it is translated.
	MissCount uint32
	// MaxChain is the number of system calls in a row after which a thread goes back to user mode; 0: the module's default.
	MaxChain uint32
	// Limits are those of a path, MaxExtensions how many times one is extended by targets that were missed. Beyond, a target
	// begins a path of its own, a piece, with the limits Pieces. They are small: what is missed shows where the program really
	// goes, so a path that is made anew each time should be made quickly.
	Limits        path.Limits
	MaxExtensions int
	Pieces        path.Limits
	// TranslateFirst is what translation may take at once, in CPU time; TranslatePercent what part of the time that mode switches
	// take, and have taken until bypass saved them, it may take besides, CrossingNS each. 0 %: any. On bare Linux a mode
	// switch costs less than a tenth of what it does in a sandbox, so what is gained is spent more generously.
	TranslateFirst   time.Duration
	TranslatePercent uint64
	CrossingNS       uint64
	// MaxBlobs and MaxBytes bound what one process takes of the module's memory; beyond, the oldest blobs go.
	MaxBlobs int
	MaxBytes int
	// Retry is the delay after which a site that was refused or given up is tried again: doubled each time, up to RetryMax.
	Retry, RetryMax time.Duration
	// TrialExits is how many times a blob may be left without reaching a system call before it is judged: it is given up
	// when that is more than MaxLossPercent of the times that translated code was entered meanwhile.
	TrialExits     uint64
	MaxLossPercent uint64
	// Controller measures each gap, and has those run natively that do not pay. A gap is given Grow after its code was last
	// enlarged, before it is measured, GrowMax altogether.
	Controller    bool
	Grow, GrowMax time.Duration
	// Guard watches whether the program is slower with bypass, and has it run natively then.
	Guard bool
	// Eager takes every site that the module speaks of, however seldom; for tests.
	Eager bool
}

// DefaultConfig is what users get.
func DefaultConfig() Config {
	return Config{
		HotCount:      64,
		MinRate:       2000,
		MissCount:     4,
		Limits:        path.Limits{MaxBlocks: 64, MaxInsts: 512},
		MaxExtensions: 12,
		Pieces:        path.Limits{MaxBlocks: 32, MaxInsts: 256},

		TranslateFirst:   time.Second,
		TranslatePercent: 50,
		CrossingNS:       150,

		MaxBlobs:       1024,
		MaxBytes:       4 << 20,
		Retry:          time.Second,
		RetryMax:       time.Hour,
		TrialExits:     2000,
		MaxLossPercent: 50,
		Controller:     true,
		Grow:           50 * time.Millisecond,
		GrowMax:        500 * time.Millisecond,
		Guard:          true,
	}
}

// Tune sets a parameter, as NAME=NUMBER.
func (c *Config) Tune(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("write NAME=NUMBER")
	}
	to := map[string]any{
		"hot-count": &c.HotCount, "miss-count": &c.MissCount, "max-chain": &c.MaxChain, "min-rate": &c.MinRate,
		"piece-blocks": &c.Pieces.MaxBlocks, "piece-insts": &c.Pieces.MaxInsts,
		"translate-first-ms": &c.TranslateFirst, "translate-percent": &c.TranslatePercent, "crossing-ns": &c.CrossingNS,
		"max-path-blocks": &c.Limits.MaxBlocks, "max-path-insts": &c.Limits.MaxInsts, "max-extensions": &c.MaxExtensions,
		"max-blobs": &c.MaxBlobs, "max-bytes": &c.MaxBytes, "retry-ms": &c.Retry, "grow-ms": &c.Grow, "grow-max-ms": &c.GrowMax,
		"trial-exits": &c.TrialExits, "max-loss-percent": &c.MaxLossPercent, "guard": &c.Guard, "controller": &c.Controller, "eager": &c.Eager,
	}[name]
	if to == nil {
		return fmt.Errorf("there is no parameter %q: see docs/install-module.md", name)
	}
	v, err := strconv.ParseUint(value, 10, 31) // fits them all
	if err != nil {
		return fmt.Errorf("%s: %q is no number from 0 to %d", name, value, 1<<31-1)
	}
	switch p := to.(type) {
	case *uint32:
		*p = uint32(v)
	case *uint64:
		*p = v
	case *int:
		*p = int(v)
	case *float64:
		*p = float64(v)
	case *time.Duration:
		*p = time.Duration(v) * time.Millisecond
	case *bool:
		*p = v != 0
	}
	return c.check()
}

func (c *Config) check() error {
	switch {
	case c.HotCount == 0, c.MissCount == 0:
		return errors.New("hot-count and miss-count must be at least 1")
	case c.Limits.MaxBlocks < 1, c.Limits.MaxInsts < 1, c.Pieces.MaxBlocks < 1, c.Pieces.MaxInsts < 1, c.MaxBlobs < 1, c.MaxBytes < 4096:
		return errors.New("a limit is too small")
	case c.MaxLossPercent > 100, c.TranslatePercent > 100:
		return errors.New("max-loss-percent and translate-percent are percentages")
	}
	return nil
}

// policy is what package hot makes of it. Ticks are nanoseconds.
func (c *Config) policy() hot.Config {
	return hot.Config{
		TranslateFirst: uint64(c.TranslateFirst), TranslatePercent: c.TranslatePercent, TranslateLaterPercent: c.TranslatePercent,

		Controller: c.Controller,
		// Long enough for some thousand passes of a busy thread, or some of one that does more between its system calls.
		PairMin: uint64(2 * time.Millisecond), PairMax: uint64(32 * time.Millisecond),
		MinSamples: 4, MinPairs: 6, MaxPairs: 24, KeepPermille: 20, DropPermille: 100, YieldPercent: 20,
		// A mode switch takes some hundred ns here, not µs.
		MinPayoff: 10, Clip: uint64(50 * time.Microsecond), MaxPass: uint64(10 * time.Millisecond),
		Burst: 16, Recheck: uint64(time.Second), Retry: uint64(c.Retry), RetryMax: uint64(min(c.RetryMax, 10*time.Minute)), RetireAfter: 6,
		Grow: uint64(c.Grow), GrowMax: uint64(c.GrowMax),
		// No larger paths are tried: pieces have no limits. What a crossing takes here does not depend on what came before, so
		// there are no long windows either.
		Levels: 1, ExtendPercent: 10,
	}
}
