package hot

import "sync/atomic"

// State of a gap.
type State uint8

const (
	Waiting    State = iota // it has no code
	Trial                   // it has; windows with bypass and without are compared
	Kept                    // it pays
	RolledBack              // it does not; tried again later
	Retired                 // the same, so often that its code may be given up
	Split                   // its callers are looked at one by one, each with a Gap of its own
)

func (s State) String() string {
	return name(int(s), "waiting", "trial", "kept", "rolled back", "retired", "split")
}

// Why is the reason for a gap's state.
type Why uint8

const (
	WhyNone     Why = iota
	WhySaves        // bypass is faster, by the sign test and in size
	WhySlower       // bypass is slower
	WhyNoGain       // after MaxPairs differences it is not clear that it is faster
	WhyLongPass     // rare long passes cost more than the others save
	WhyGroup        // the program's thread group as a whole was slower
	WhyCallers      // it did not pay for all callers together
	WhyNoEnd        // bypass seldom reaches the next syscall
)

func (w Why) String() string {
	return name(int(w), "", "saves time", "slower", "no gain", "long passes are slower", "the program was slower", "mixed callers", "seldom reaches a syscall")
}

func name(i int, names ...string) string {
	if i < len(names) {
		return names[i]
	}
	return "?"
}

// Gate values. A thread enters code when the gap's gate is above the thread's Floor.
const (
	GateNative uint32 = iota
	GateProbe         // rolled back for want of an end: entered now and then, to see whether there is one by now
	GateTrial
	GateKept
	GateSplit // more than any floor: the caller's gap decides
)

// Event is what the caller has to do about a gap.
type Event uint8

const (
	Nothing Event = iota
	Changed       // another state
	Extend        // its path may grow to the limits of Level
	Shrink        // its path is to be made anew with those of Level
)

// Gap is what is known of the gaps of a site, or of a site and a caller, in one thread group. All but Gate is to be
// protected by the caller's lock; threads read the atomic fields without.
type Gap struct {
	gate   atomic.Uint32
	trials atomic.Uint32 // begun
	base   atomic.Uint64 // Base, for threads
	retry  atomic.Uint64 // RetryAt for threads, 0 when there is nothing to try again
	grows  atomic.Uint64 // until when the path is given time to grow, 0 when it is not
	early  atomic.Uint64 // when it may be tried again if the program does something else

	State State
	Why   Why
	// Level is the path limits in force, from 0.
	Level uint32
	// Base and Active are what a pass takes without and with bypass: a running mean, in ticks.
	Base, Active uint64
	// Hist is the distribution of the sampled native gaps.
	Hist [Buckets]uint64
	// Setbacks counts rollbacks since the last lasting success.
	Setbacks uint32
	RetryAt  uint64
	Since    uint64 // when the state began
	// Data is the owner's.
	Data any

	trial     trial
	growEnd   uint64 // no more of that after this
	awaits    uint64 // since when more of the path is awaited, 0 when it is not
	grown     bool   // it has grown in this period of growing
	regrown   uint32 // trials out of turn since it was last kept
	periods   uint32 // such periods in this trial
	long      bool   // only pairs with long windows count
	postponed uint32
	passes    uint64 // with bypass, in this trial; and how many of them ended at the path's limits
	misses    uint64
	ends      uint64 // those that did not reach a syscall, for whatever reason
	below     int64  // payoff with the limits of Level-1, if hasBelow
	hasBelow  bool
	capped    bool // a larger path has been tried and was no better
}

// maxPostponed bounds the differences that are not counted because the path is growing: under load that can take long.
const maxPostponed = 64

// Gate is the gap's gate. It may be called without the lock.
func (g *Gap) Gate() uint32 { return g.gate.Load() }

// Payoff is what a pass saves, in ticks, by the differences that count at present, and how many these are.
func (g *Gap) Payoff() (ticks int64, pairs uint32) { return g.trial.payoff(), g.trial.n }

// HasCode tells that the gap can be bypassed from now on. A gap whose time has come gets a trial.
func (g *Gap) HasCode(c *Config, now uint64) {
	switch g.State {
	case Waiting:
	case RolledBack, Retired:
		if now < g.RetryAt {
			return
		}
	default:
		return
	}
	if !c.Controller {
		g.enter(Kept, WhyNone, now)
		return
	}
	grows := g.State == Waiting || g.Why == WhyNoEnd // it may get further this time
	g.capped, g.hasBelow, g.long = false, false, false
	g.enter(Trial, WhyNone, now)
	g.periods = 0
	if g.growEnd = now; grows {
		g.growEnd += c.GrowMax
		g.grow(c, now)
	}
}

// NoCode tells that the gap's code is gone, for reasons that have nothing to do with what it saves.
func (g *Gap) NoCode(now uint64) {
	if g.State == Trial || g.State == Kept {
		g.enter(Waiting, WhyNone, now)
	}
}

// SplitUp has the callers looked at one by one.
func (g *Gap) SplitUp(now uint64) { g.enter(Split, WhyCallers, now) }

// Inherit makes g, new, begin with the delays of the gap that it is a part of.
func (g *Gap) Inherit(from *Gap) { g.Setbacks, g.Level = from.Setbacks, from.Level }

func (g *Gap) enter(s State, w Why, now uint64) {
	g.State, g.Why, g.Since = s, w, now
	gate, retry := GateNative, uint64(0)
	switch s {
	case RolledBack, Retired:
		retry = max(g.RetryAt, 1)
		if g.ends*2 >= g.passes && g.passes > 0 {
			gate = GateProbe
		}
	case Trial:
		gate = GateTrial
	case Kept:
		gate = GateKept
	case Split:
		gate = GateSplit
	}
	if s == Trial {
		g.restart()
	}
	g.early.Store(now + g.RetryAt/4 - now/4) // a quarter of the delay
	g.grows.Store(0)
	g.awaits = 0
	if s == Kept {
		g.regrown = 0
	}
	g.retry.Store(retry)
	g.gate.Store(gate)
}

func (g *Gap) restart() {
	g.trial = trial{}
	g.Base, g.Active = 0, 0
	g.postponed, g.passes, g.misses, g.ends = 0, 0, 0, 0
	g.trials.Add(1)
}

// pair takes one difference. native is what a pass took before there was code, 0 if that is not known, growth tells how
// its path does, long that the windows were long ones.
func (g *Gap) pair(c *Config, now uint64, base, active *side, native uint64, growth Growth, long bool) Event {
	if g.State != Trial && g.State != Kept || g.long && !long || g.grows.Load() != 0 {
		return Nothing
	}
	g.Base = mean(g.Base, base.sum/uint64(base.n))
	g.Active = mean(g.Active, active.sum/uint64(active.n))
	g.base.Store(g.Base)
	if growth == Full && active.misses*2 >= active.n && !g.capped && g.Level+1 < c.Levels {
		// Most passes end where the path may not go on: no need to wait for a decision.
		g.hasBelow = false
		g.Level++
		g.restart()
		if g.State == Trial {
			g.growEnd = now + c.GrowMax
			g.grow(c, now)
		}
		return Extend
	}
	if g.State == Trial && growth != Full && 2*active.misses >= active.n && (growth == Growing || g.grown) && g.regrow(c, now) {
		// It gets on, but not yet to a syscall: nothing can be measured before, and in windows alone it would get on slowly.
		return Nothing
	}
	if growth == Growing && g.postponed < maxPostponed {
		// What it takes to miss, in a path that will be another one in a moment, says nothing.
		g.postponed++
		return Nothing
	}
	g.trial.add(c, base, active)
	if g.passes > 1<<12 {
		g.passes, g.misses, g.ends = g.passes/2, g.misses/2, g.ends/2 // what counts is how it is now
	}
	g.passes += uint64(active.n)
	g.misses += uint64(active.misses)
	g.ends += uint64(active.misses) + uint64(active.stops)
	if few := c.MinPairs / 2; !g.long && g.trial.n >= few && g.trial.last(c, few) == few && c.marginal(g.Base, g.Active) {
		// That it does not pay would be certain; that it does is not, see Config.LongWarm. Until it is, the gap has the benefit of
		// the doubt, if it is faster than it was before there was any code for it: long windows take a while, and the rest of the time would be without
		// bypass.
		doubt := g.Active >= native && native != 0
		g.long = true
		if g.restart(); !doubt {
			g.gate.Store(GateKept)
		}
		return Nothing
	}
	if g.trial.n >= c.MinPairs/2 && !g.yields(c) {
		// Whatever the windows say: what does not save a crossing saves nothing.
		if g.State == Trial && growth != Full && g.grown && 2*g.misses > g.ends && g.regrow(c, now) {
			return Nothing // it still gets on
		}
		return g.lost(c, now, c.DropPermille)
	}
	if g.State == Kept {
		return g.recheck(c, now)
	}
	switch {
	case g.trial.wins(c), g.long && g.trial.n == c.MaxPairs && g.trial.outranks(c):
		return g.won(c, now)
	case g.trial.loses(c, c.DropPermille) && g.trial.payoff() <= 0, g.trial.n == c.MaxPairs: // the last few do not outweigh all of them
		return g.lost(c, now, c.DropPermille)
	}
	return Nothing
}

func mean(old, v uint64) uint64 {
	if old == 0 {
		return v
	}
	return old - old/4 + v/4
}

// recheck looks at a gap that is kept.
func (g *Gap) recheck(c *Config, now uint64) Event {
	recent := c.MaxPairs * 2 / 3
	switch {
	case g.trial.loses(c, c.KeepPermille), g.trial.n >= recent && g.trial.last(c, recent) <= recent/2:
		return g.lost(c, now, c.KeepPermille)
	case g.Setbacks > 0 && now-g.Since > g.delay(c):
		g.Setbacks = 0
	}
	// A path that was changed while the gap was kept is judged when there is enough to say.
	if g.hasBelow && g.trial.wins(c) {
		return g.won(c, now)
	}
	return Nothing
}

// won decides how a gap that pays goes on.
func (g *Gap) won(c *Config, now uint64) Event {
	p := g.trial.payoff()
	ev := Nothing
	if g.State != Kept {
		g.enter(Kept, WhySaves, now)
		ev = Changed
	}
	worse := g.hasBelow && p < g.below-int64(c.MinPayoff)-g.below/8
	g.hasBelow = false
	switch {
	case worse:
		return g.shrink()
	case !g.capped && g.atLimits(c) && g.Level+1 < c.Levels:
		g.below, g.hasBelow = p, true
		g.Level++
		g.restart()
		return Extend
	}
	return ev
}

// lost decides how a gap that does not pay goes on.
func (g *Gap) lost(c *Config, now uint64, permille uint32) Event {
	switch {
	case g.hasBelow && g.below > int64(c.MinPayoff):
		// It did pay with a smaller path.
		g.hasBelow = false
		g.restart()
		return g.shrink()
	case !g.capped && g.atLimits(c) && g.Level+1 < c.Levels:
		g.Level++
		g.restart()
		if g.State == Trial {
			g.growEnd = now + c.GrowMax
			g.grow(c, now)
		}
		return Extend
	}
	why := WhyNoGain
	switch losses := g.trial.n - g.trial.last(c, g.trial.n); {
	case !g.yields(c):
		why = WhyNoEnd
	case unlikely(losses, g.trial.n, permille):
		why = WhySlower
	case g.trial.payoff() < 0 && g.trial.long() < 0:
		why = WhyLongPass
	case g.trial.payoff() < 0:
		why = WhySlower
	}
	g.RollBack(c, now, why)
	return Changed
}

// yields reports whether enough passes reach a syscall.
func (g *Gap) yields(c *Config) bool {
	return (g.passes-g.ends)*100 >= g.passes*uint64(c.YieldPercent)
}

func (g *Gap) shrink() Event {
	g.capped = true
	g.Level--
	return Shrink
}

// atLimits reports whether passes often end where the path does.
func (g *Gap) atLimits(c *Config) bool {
	return g.passes > 0 && g.misses*100 >= g.passes*uint64(c.ExtendPercent)
}

// RollBack ends bypass of the gap for a while.
func (g *Gap) RollBack(c *Config, now uint64, why Why) {
	g.Setbacks++
	g.RetryAt = now + g.delay(c)
	s := RolledBack
	if g.Setbacks >= c.RetireAfter {
		s = Retired
	}
	g.enter(s, why, now)
}

// delay is how long to wait after the present number of setbacks.
func (g *Gap) delay(c *Config) uint64 {
	if g.Setbacks == 0 {
		return 0
	}
	return min(c.Retry<<min(g.Setbacks-1, 32), c.RetryMax)
}

// Again gives a gap that was rolled back another trial, whether or not its time has come.
func (g *Gap) Again(c *Config, now uint64) {
	if g.State == RolledBack || g.State == Retired {
		g.RetryAt = now
		g.HasCode(c, now)
	}
}
