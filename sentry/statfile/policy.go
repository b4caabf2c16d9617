package statfile

import "ub/hot"

// Policy is the configuration of package hot, in ticks of a clock that makes so many of them in a microsecond.
func (c *Config) Policy(ticksPerMicro uint64) hot.Config {
	const ms = 1_000_000
	nsToTicks := func(ns uint64) uint64 { return ns / 1000 * ticksPerMicro }
	return hot.Config{
		Controller:            c.Controller != 0,
		SampleMin:             uint32(c.SampleEvery),
		SampleMax:             uint32(c.SampleMax),
		SampleWithin:          nsToTicks(c.SampleWithinUS * 1000),
		QuietSamples:          uint32(c.QuietSamples),
		MinRate:               c.MinRate,
		Second:                nsToTicks(1000 * ms),
		Short:                 nsToTicks(c.ShortGapNS),
		MaxCrossing:           nsToTicks(c.MaxCrossingNS),
		MinShort:              uint32(c.MinShort),
		MinShortPercent:       uint32(c.MinShortPercent),
		Window:                nsToTicks(c.WindowMS * ms),
		WindowPasses:          uint32(c.WindowPasses),
		WarmPasses:            uint32(c.WarmPasses),
		LongPasses:            uint32(c.LongPasses),
		LongWarm:              nsToTicks(c.LongWarmUS * 1000),
		Margin:                uint32(c.Margin),
		Floor:                 c.FloorNS * ticksPerMicro / 1000,
		Slowdown:              c.SlowdownPercent,
		EpochWarm:             nsToTicks(c.EpochWarmMS * ms),
		EpochEvery:            nsToTicks(c.EpochEveryMS * ms),
		MinSamples:            uint32(c.MinSamples),
		MinPairs:              uint32(c.MinPairs),
		MaxPairs:              uint32(c.MaxPairs),
		KeepPermille:          uint32(c.KeepPermille),
		DropPermille:          uint32(c.DropPermille),
		YieldPercent:          uint32(c.YieldPercent),
		MinPayoff:             c.MinPayoffNS * ticksPerMicro / 1000,
		Clip:                  nsToTicks(c.ClipNS),
		MaxPass:               nsToTicks(c.MaxPassUS * 1000),
		Burst:                 uint32(c.BurstPairs),
		Recheck:               nsToTicks(c.RecheckMS * ms),
		Retry:                 nsToTicks(c.RetryMS * ms),
		RetryMax:              nsToTicks(c.RetryMaxMS * ms),
		RetireAfter:           uint32(c.RetireAfter),
		Grow:                  nsToTicks(c.GrowMS * ms),
		GrowMax:               nsToTicks(c.GrowMaxMS * ms),
		TranslateFirst:        nsToTicks(c.TranslateFirstMS * ms),
		TranslatePercent:      c.TranslatePercent,
		TranslateEarly:        nsToTicks(c.TranslateEarlyMS * ms),
		TranslateLaterPercent: c.TranslateLaterPercent,
		Levels:                uint32(c.PathLevels),
		ExtendPercent:         uint32(c.ExtendPercent),
	}
}
