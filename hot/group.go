package hot

// Group watches over the sum in one thread group: single gaps that pay can make others dearer, such as the crossings of
// those that are not bypassed, whose stub process has gone to sleep meanwhile. It is to be protected by the caller's lock.
type Group struct {
	trial    trial
	Setbacks uint32
	since    uint64
}

// Payoff is what a pass of any gap saves on average, in ticks, and by how many differences.
func (g *Group) Payoff() (ticks int64, pairs uint32) { return g.trial.payoff(), g.trial.n }

// pair takes the mean difference of all passes of a pair of windows and reports whether bypass is to end for a while.
func (g *Group) pair(c *Config, now uint64, d int64) bool {
	// Here it is about harm, not gain: what is neither is left to the gaps.
	g.trial.put(c, d+2*int64(c.MinPayoff))
	if !g.trial.loses(c, c.KeepPermille) {
		if g.Setbacks > 0 && now-g.since > min(c.Retry<<min(g.Setbacks, 32), c.RetryMax) {
			g.Setbacks = 0
		}
		return false
	}
	g.trial = trial{}
	g.Setbacks++
	g.since = now
	return true
}

// RollBack rolls back one of the group's gaps after the group has lost.
func (g *Group) RollBack(c *Config, gap *Gap, now uint64) {
	if gap.State != Kept && gap.State != Trial {
		return
	}
	gap.Setbacks = max(gap.Setbacks, g.Setbacks-1)
	gap.RollBack(c, now, WhyGroup)
}
