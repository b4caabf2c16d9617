package hot

// Group watches over the sum in one thread group: single gaps that pay can make others dearer, such as the crossings of
// those that are not bypassed, whose stub process has gone to sleep meanwhile. It is to be protected by the caller's lock.
type Group struct {
	trial    trial
	Setbacks uint32
	since    uint64

	marginal  uint32 // pairs in a row that found bypass not much faster
	epochs    trial
	nextEpoch uint64
}

// epochsNeeded is how many epochs in a row must tell of harm, one if there has been some before. Each is hundreds of
// milliseconds, so chance evens out in one.
func (g *Group) epochsNeeded() uint32 {
	if g.Setbacks > 0 {
		return 1
	}
	return 3
}

// epochDue reports whether the calling thread is to make a pair of the longest windows now.
func (g *Group) epochDue(c *Config, now uint64) bool {
	if g.marginal < c.MinPairs || now < g.nextEpoch || c.EpochWarm == 0 {
		return false
	}
	// A few at once, then few.
	if g.nextEpoch = now; g.epochs.n >= g.epochsNeeded() {
		g.nextEpoch += c.EpochEvery
	}
	return true
}

// epoch takes the mean difference of such a pair, in which a pass took base ticks without bypass.
func (g *Group) epoch(c *Config, now uint64, d, base int64) bool {
	// A twentieth is what two epochs differ by without a reason.
	g.epochs.put(c, d+base/20)
	if g.epochs.last(c, 1) > 0 {
		// Only several in a row tell of harm: no need to hurry.
		g.nextEpoch = max(g.nextEpoch, now+c.EpochEvery/8)
		return false
	}
	if n := g.epochsNeeded(); g.epochs.n < n || g.epochs.last(c, n) > 0 {
		return false
	}
	g.lost(now)
	return true
}

func (g *Group) lost(now uint64) {
	g.trial, g.epochs, g.nextEpoch = trial{}, trial{}, 0
	g.Setbacks++
	g.since = now
}

// Payoff is what a pass of any gap saves on average, in ticks, and by how many differences.
func (g *Group) Payoff() (ticks int64, pairs uint32) { return g.trial.payoff(), g.trial.n }

// pair takes the mean difference of all passes of a pair of windows, in which a pass took base ticks without bypass, and reports whether bypass is to end for a while.
func (g *Group) pair(c *Config, now uint64, d, base int64) bool {
	// Here it is about harm, not gain: what is neither is left to the gaps. And the gaps themselves have been found to pay, so
	// there must be more evidence; or a loss that is as large as it is frequent.
	g.trial.put(c, d+base/20+int64(c.MinPayoff))
	harm := g.trial.loses(c, max(1, c.KeepPermille/8)) || g.trial.n >= c.MinPairs && g.trial.payoff() < -int64(c.MinPayoff)
	if !harm {
		if g.Setbacks > 0 && now-g.since > 2*c.RetryMax {
			g.Setbacks = 0
		}
		return false
	}
	g.lost(now)
	return true
}

// RollBack rolls back one of the group's gaps after the group has lost.
func (g *Group) RollBack(c *Config, gap *Gap, now uint64) {
	if gap.State != Kept && gap.State != Trial {
		return
	}
	// It takes long to see, so it is not tried often.
	gap.Setbacks = max(gap.Setbacks, g.Setbacks+3)
	gap.RollBack(c, now, WhyGroup)
}
