package hot

// maxPeriods bounds how often a path that does not yet reach a syscall is given more time to grow.
const maxPeriods = 16

// Growth is how a gap's path does.
type Growth uint8

const (
	Stable  Growth = iota
	Growing        // more of it is being translated
	Full           // it has met its limits
)

// grow bypasses the gap in all but baseline windows for a while. A new path has ends everywhere, and each must be met a few times
// before it is extended: in active windows alone that would take long, and be all that they show.
func (g *Gap) grow(c *Config, now uint64) {
	if now < g.growEnd {
		g.grows.Store(min(now+c.Grow, g.growEnd))
		g.gate.Store(GateKept)
	}
}

// regrow gives a path that still gets on another period to grow in, if it has not had too many.
func (g *Gap) regrow(c *Config, now uint64) bool {
	if g.periods >= maxPeriods {
		return false
	}
	g.periods++
	g.restart()
	g.grown, g.growEnd = false, now+c.GrowMax
	g.grow(c, now)
	return true
}

// never is a time that does not come.
const never = ^uint64(0)

// Await tells that a path that grows ends where more of it is going to be translated, and that it seldom gets any
// further. Until that is there the gap runs natively, however long it takes: each pass would only meet the same end again.
func (g *Gap) Await(now uint64) {
	if g.State == Trial && g.grows.Load() != 0 && g.awaits == 0 {
		g.awaits = now
		g.grows.Store(never)
		g.gate.Store(GateNative)
	}
}

// Resume ends that. The time does not count as time to grow.
func (g *Gap) Resume(c *Config, now uint64) {
	if g.awaits == 0 {
		return
	}
	g.growEnd += now - g.awaits
	g.awaits = 0
	if g.grow(c, now); g.grows.Load() == never {
		g.Settled()
	}
}

// Settled ends that: now it is measured.
func (g *Gap) Settled() {
	if g.grows.Load() != 0 && g.State == Trial && g.awaits == 0 {
		g.grows.Store(0)
		g.gate.Store(GateTrial)
		g.restart()
	}
}

// Grown tells that the gap's path is another one. What is known of it holds no more if many of its passes have ended where
// it did. Else it does: a path that meets a new end now and then would never be measured.
func (g *Gap) Grown(c *Config, now uint64) {
	g.Resume(c, now)
	switch {
	case g.State == Trial && (g.grows.Load() != 0 || g.passes == 0 || g.atLimits(c)):
		g.restart()
		g.grown = true
		g.grow(c, now)
	case g.State == Kept && g.atLimits(c):
		g.restart()
	case (g.State == RolledBack || g.State == Retired) && g.Why == WhyNoEnd && g.regrown < maxRegrown:
		// It has lost for what was missing, and that is there now.
		g.regrown++
		g.Again(c, now)
	}
}

// maxRegrown bounds the trials that a gap gets out of turn because its path has grown.
const maxRegrown = 4
