package statfile

import (
	"encoding/binary"
	"fmt"
)

// Config is what a launcher tells a sandbox. All fields are plain numbers, so that the file needs no parser.
type Config struct {
	// Bypass is 1 for userspace bypass, 0 for plain systrap.
	Bypass uint64
	// Patching is 1 to let systrap replace syscall instructions by jumps, which makes crossings cheaper for
	// the calls that are not bypassed. Translation reads the original instructions in either case.
	Patching uint64

	// SampleEvery is the mean distance, in syscalls, of those that the identifier looks at while things change; 1 for all.
	// The paper looks at less than every 10th.
	SampleEvery uint64
	// SampleMax is the distance when nothing changes. At 512 a sample costs 0.2 ns per syscall.
	SampleMax uint64
	// SampleWithinUS is the longest time in microseconds between two samples on average, where SampleMax syscalls would take
	// longer: with it a new site that takes a quarter of a thread with long gaps is found within 50 ms. A sample takes 0.1 µs. 0: none.
	SampleWithinUS uint64
	// QuietSamples is how many samples without news it takes to double the distance.
	QuietSamples uint64
	// MinRate is the least number of syscalls per second of a thread whose sites may become candidates. The paper's
	// is 50,000 at 0.2 µs each on bare Linux: threads that spend 1 % of their time in them. A crossing to the Sentry
	// takes 4 µs, so the same 1 % are 2,500 here.
	MinRate uint64
	// ShortGapNS is the time in nanoseconds, beyond that of a crossing, up to which a gap is short. The paper's is
	// 4000 with the crossing, for about 1000 instructions; a crossing here varies by more than that.
	ShortGapNS uint64
	// MaxCrossingNS is what a crossing may cost in nanoseconds: a thread whose shortest gap is longer has no short ones.
	MaxCrossingNS uint64
	// MinShort is the number of sampled short gaps within WindowMS milliseconds that make a site a candidate, when they
	// are at least MinShortPercent of its gaps. The paper's are 900 in a round of 15,000: 6 %. Fewer samples do
	// here, since a candidate is only tried.
	MinShort        uint64
	MinShortPercent uint64
	WindowMS        uint64

	// MaxPathBlocks and MaxPathInsts limit one path.
	MaxPathBlocks uint64
	MaxPathInsts  uint64
	// MaxBlobs and MaxBlobBytes limit the blobs of the whole sandbox; an address space may have half of them.
	MaxBlobs     uint64
	MaxBlobBytes uint64

	// TrialEntries is the number of entries after which a site is judged when there is no Controller: it is retired
	// unless at least MinYieldPercent of them ended in a bypassed syscall.
	TrialEntries    uint64
	MinYieldPercent uint64

	// Controller is 1 to measure what bypass saves, gap by gap, and to keep what pays only; 0 to bypass every site with
	// code, as the paper does. All that follows has no counterpart in the paper; the defaults are measured, see
	// docs/identifier.md.
	Controller uint64
	// WindowPasses is the length of half a pair of windows, in syscalls of the thread, after WarmPasses that
	// are not counted.
	WindowPasses uint64
	WarmPasses   uint64
	// LongPasses is the same where bypass is less than Margin times as fast, after LongWarmUS microseconds: crossings right
	// after bypass are dearer than those of a program without it.
	LongPasses uint64
	LongWarmUS uint64
	Margin     uint64
	// FloorNS is what a crossing costs at least, in nanoseconds, whatever else: two transfers of a cache line to a thread that
	// waits actively. 450 were measured. SlowdownPercent is what translated code may take of the program's own time: 125
	// on average, seldom more than 150, see make bench-code. What is faster than these two allow is kept without long windows.
	FloorNS         uint64
	SlowdownPercent uint64
	// EpochWarmMS is the same in milliseconds for pairs about a whole program that is not Margin times as fast: gVisor
	// waits actively for crossings, which makes them ten times as fast, but tries that again only after up to 200 ms.
	// There are three such pairs at first, then one each EpochEveryMS milliseconds. 0: none.
	EpochWarmMS  uint64
	EpochEveryMS uint64
	// MinSamples is how many passes of a gap in each half make a difference.
	MinSamples uint64
	// MinPairs and MaxPairs bound the differences that a decision rests on.
	MinPairs uint64
	MaxPairs uint64
	// KeepPermille is the error of the sign test, in 1/1000 at each look, at which a gap is kept, or one that was kept is
	// given up; DropPermille that at which one on trial is rolled back.
	KeepPermille uint64
	DropPermille uint64
	// YieldPercent is the share of passes that must reach a syscall in translated code for a gap to be kept: those that do
	// not save nothing, whatever else made a window fast.
	YieldPercent uint64
	// MinPayoffNS is what bypass must save per pass, in nanoseconds.
	MinPayoffNS uint64
	// ClipNS is the length in nanoseconds up to which passes are compared as they are; longer ones are looked at apart.
	// Beyond MaxPassUS microseconds a pass is taken for no longer than that.
	ClipNS    uint64
	MaxPassUS uint64
	// BurstPairs is how many pairs follow each other after a change.
	BurstPairs uint64
	// RecheckMS is the distance of pairs in milliseconds when nothing changes.
	RecheckMS uint64
	// RetryMS is the delay in milliseconds after which a gap that was rolled back is tried again, doubled each time
	// up to RetryMaxMS; after RetireAfter times its code is given up.
	RetryMS     uint64
	RetryMaxMS  uint64
	RetireAfter uint64
	// GrowMS is for how many milliseconds after it last grew a new path is bypassed without being measured, GrowMaxMS for
	// how many altogether.
	GrowMS    uint64
	GrowMaxMS uint64
	// TranslateFirstMS is how many milliseconds translation may take before crossings have paid for it: one path.
	// TranslatePercent is what part of the time that crossings took it may take besides; 0: any. Once crossings have taken
	// TranslateEarlyMS, TranslateLaterPercent of the rest. So a program of tenths of a second loses next to nothing to it, and
	// the hundreds of translations that a server takes are there after a second or two.
	TranslateFirstMS      uint64
	TranslatePercent      uint64
	TranslateEarlyMS      uint64
	TranslateLaterPercent uint64
	// PieceBlocks and PieceInsts limit what is translated for a target that was missed from a path without room for it. Small: it
	// is there within a fraction of a millisecond, and what is executed of it shows where to go on.
	PieceBlocks uint64
	PieceInsts  uint64
	// PathLevels is the number of limits that a path may have: MaxPathInsts, MaxPathBlocks and MaxExtensions, half of
	// each, a quarter, and so on. It begins with the smallest; a larger one is tried when ExtendPercent of the passes
	// end at the limits.
	PathLevels    uint64
	ExtendPercent uint64
	// MaxExtensions is how many times one path is extended by targets seen at run time.
	MaxExtensions uint64

	// Journal is 1 to record every installed blob with the program's bytes.
	Journal uint64
}

// DefaultConfig returns the configuration of a sandbox whose launcher says nothing.
func DefaultConfig() Config {
	return Config{
		Bypass:                1,
		Patching:              1,
		SampleEvery:           16,
		SampleMax:             512,
		SampleWithinUS:        2000,
		QuietSamples:          16,
		MinRate:               2500,
		ShortGapNS:            8000,
		MaxCrossingNS:         20_000,
		MinShort:              16,
		MinShortPercent:       6,
		WindowMS:              500,
		MaxPathBlocks:         256,
		MaxPathInsts:          2048,
		MaxBlobs:              4096,
		MaxBlobBytes:          16 << 20,
		TrialEntries:          256,
		MinYieldPercent:       50,
		Controller:            1,
		WindowPasses:          32,
		WarmPasses:            8,
		LongPasses:            128,
		LongWarmUS:            20_000,
		Margin:                8,
		FloorNS:               300,
		SlowdownPercent:       150,
		EpochWarmMS:           300,
		EpochEveryMS:          30_000,
		MinSamples:            4,
		MinPairs:              6,
		MaxPairs:              24,
		KeepPermille:          20,
		DropPermille:          100,
		YieldPercent:          20,
		MinPayoffNS:           50,
		ClipNS:                50_000,
		MaxPassUS:             10_000,
		BurstPairs:            16,
		RecheckMS:             100,
		RetryMS:               500,
		RetryMaxMS:            60_000,
		RetireAfter:           6,
		GrowMS:                5,
		GrowMaxMS:             60,
		TranslateFirstMS:      10,
		TranslatePercent:      5,
		TranslateEarlyMS:      100,
		TranslateLaterPercent: 50,
		PieceBlocks:           32,
		PieceInsts:            256,
		PathLevels:            2,
		ExtendPercent:         10,
		MaxExtensions:         48,
		Journal:               1,
	}
}

// fields returns the fields in file order.
func (c *Config) fields() []*uint64 {
	return []*uint64{
		&c.Bypass, &c.Patching,
		&c.SampleEvery, &c.SampleMax, &c.SampleWithinUS, &c.QuietSamples, &c.MinRate, &c.ShortGapNS, &c.MaxCrossingNS, &c.MinShort, &c.MinShortPercent, &c.WindowMS,
		&c.MaxPathBlocks, &c.MaxPathInsts, &c.MaxBlobs, &c.MaxBlobBytes,
		&c.TrialEntries, &c.MinYieldPercent,
		&c.Controller, &c.WindowPasses, &c.WarmPasses, &c.LongPasses, &c.LongWarmUS, &c.Margin, &c.FloorNS, &c.SlowdownPercent, &c.EpochWarmMS, &c.EpochEveryMS, &c.MinSamples, &c.MinPairs, &c.MaxPairs, &c.KeepPermille, &c.DropPermille,
		&c.YieldPercent, &c.MinPayoffNS, &c.ClipNS, &c.MaxPassUS, &c.BurstPairs, &c.RecheckMS, &c.RetryMS, &c.RetryMaxMS, &c.RetireAfter,
		&c.GrowMS, &c.GrowMaxMS, &c.TranslateFirstMS, &c.TranslatePercent, &c.TranslateEarlyMS, &c.TranslateLaterPercent, &c.PieceBlocks, &c.PieceInsts, &c.PathLevels, &c.ExtendPercent, &c.MaxExtensions,
		&c.Journal,
	}
}

// Check says what is wrong with c.
func (c Config) Check() error {
	for _, r := range []struct {
		name       string
		v, min, mx uint64
	}{
		{"Bypass", c.Bypass, 0, 1},
		{"Patching", c.Patching, 0, 1},
		{"SampleEvery", c.SampleEvery, 1, 1 << 20},
		{"SampleMax", c.SampleMax, c.SampleEvery, 1 << 20},
		{"SampleWithinUS", c.SampleWithinUS, 0, 1 << 32},
		{"QuietSamples", c.QuietSamples, 1, 1 << 20},
		{"MinRate", c.MinRate, 0, 1 << 32},
		{"ShortGapNS", c.ShortGapNS, 1, 1 << 32},
		{"MaxCrossingNS", c.MaxCrossingNS, 0, 1 << 32},
		{"MinShort", c.MinShort, 1, 1 << 20},
		{"MinShortPercent", c.MinShortPercent, 0, 100},
		{"WindowMS", c.WindowMS, 1, 1 << 32},
		{"MaxPathBlocks", c.MaxPathBlocks, 1, 1 << 16},
		{"MaxPathInsts", c.MaxPathInsts, 1, 1 << 20},
		{"MaxBlobs", c.MaxBlobs, 1, 1 << 20},
		{"MaxBlobBytes", c.MaxBlobBytes, 4096, 1 << 30},
		{"TrialEntries", c.TrialEntries, 1, 1 << 32},
		{"MinYieldPercent", c.MinYieldPercent, 0, 100},
		{"Controller", c.Controller, 0, 1},
		{"WindowPasses", c.WindowPasses, 1, 1 << 16},
		{"WarmPasses", c.WarmPasses, 0, 1 << 16},
		{"LongPasses", c.LongPasses, 1, 1 << 16},
		{"LongWarmUS", c.LongWarmUS, 0, 1 << 32},
		{"Margin", c.Margin, 1, 100},
		{"FloorNS", c.FloorNS, 0, 1 << 20},
		{"SlowdownPercent", c.SlowdownPercent, 100, 10_000},
		{"EpochWarmMS", c.EpochWarmMS, 0, 1 << 32},
		{"EpochEveryMS", c.EpochEveryMS, 1, 1 << 32},
		{"MinSamples", c.MinSamples, 1, 1 << 16},
		{"MinPairs", c.MinPairs, 2, c.MaxPairs},
		{"MaxPairs", c.MaxPairs, 2, 32},
		{"KeepPermille", c.KeepPermille, 1, 500},
		{"DropPermille", c.DropPermille, 1, 500},
		{"YieldPercent", c.YieldPercent, 0, 100},
		{"MinPayoffNS", c.MinPayoffNS, 0, 1 << 32},
		{"ClipNS", c.ClipNS, 1, 1 << 32},
		{"MaxPassUS", c.MaxPassUS, c.ClipNS/1000 + 1, 1 << 32},
		{"BurstPairs", c.BurstPairs, c.MinPairs, 1 << 20},
		{"RecheckMS", c.RecheckMS, 1, 1 << 32},
		{"RetryMS", c.RetryMS, 1, 1 << 32},
		{"RetryMaxMS", c.RetryMaxMS, c.RetryMS, 1 << 32},
		{"RetireAfter", c.RetireAfter, 1, 1 << 20},
		{"GrowMS", c.GrowMS, 0, 1 << 32},
		{"GrowMaxMS", c.GrowMaxMS, 0, 1 << 32},
		{"TranslateFirstMS", c.TranslateFirstMS, 0, 1 << 32},
		{"TranslatePercent", c.TranslatePercent, 0, 100},
		{"TranslateEarlyMS", c.TranslateEarlyMS, 0, 1 << 32},
		{"TranslateLaterPercent", c.TranslateLaterPercent, 0, 1000},
		{"PieceBlocks", c.PieceBlocks, 1, 1 << 16},
		{"PieceInsts", c.PieceInsts, 1, 1 << 20},
		{"PathLevels", c.PathLevels, 1, 8},
		{"ExtendPercent", c.ExtendPercent, 1, 100},
		{"MaxExtensions", c.MaxExtensions, 0, 1 << 10},
		{"Journal", c.Journal, 0, 1},
	} {
		if r.v < r.min || r.v > r.mx {
			return fmt.Errorf("configuration: %s is %d, must be %d to %d", r.name, r.v, r.min, r.mx)
		}
	}
	return nil
}

func (c *Config) encode(b []byte) {
	for i, f := range c.fields() {
		binary.LittleEndian.PutUint64(b[8*i:], *f)
	}
}

// Config returns the configuration section. It fails when a value is out of range.
func (s *File) Config() (Config, error) {
	var c Config
	for i, f := range c.fields() {
		*f = binary.LittleEndian.Uint64(s.mem[configOff+8*i:])
	}
	return c, c.Check()
}
