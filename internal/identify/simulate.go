package identify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"ub/hot"
	"ub/internal/plot"
	"ub/sentry/statfile"
)

// synthetic is a thread on a virtual clock, one tick to the nanosecond. For 2 s it goes through old sites; then a new hot one
// appears, and takes a share of the passes.
type synthetic struct {
	c     hot.Config
	th    *hot.Thread
	rng   *rand.Rand
	now   uint64
	found map[uint64]uint64
}

// behaviour of a site: its gaps in nanoseconds, how many of 100 are long, and how many ns each of those takes.
type behaviour struct {
	key         uint64
	gap         uint64
	longPercent int
	longGap     uint64
	weight      int  // passes of 100 through all sites
	worth       bool // bypass would pay
}

var oldSites = []behaviour{
	{0x100, 30_000, 0, 0, 20, false},      // computes
	{0x200, 2_000, 97, 60_000, 20, false}, // seldom short
	{0x300, 14_000, 0, 0, 20, false},      // about as long as what bypass saves is worth
	{0x400, 1_000, 5, 40_000, 10, true},
}

var newSite = behaviour{0x900, 300, 2, 20_000, 30, true}

const crossing = 4000

func simulate(c statfile.Config, seed uint64) (detectedMS float64, false_ int, missed bool) {
	s := &synthetic{c: c.Policy(1000), rng: rand.New(rand.NewPCG(seed, 9)), now: 1e9, found: map[uint64]uint64{}}
	s.th = hot.NewThread(&s.c, uint32(seed)*2654435761)
	const settle, watch = 2_000_000_000, 1_000_000_000
	s.run(settle, oldSites)
	began := s.now
	s.run(watch, append(slices.Clone(oldSites), newSite))
	for _, site := range oldSites {
		if !site.worth && s.found[site.key] != 0 {
			false_++
		}
	}
	at := s.found[newSite.key]
	if at == 0 {
		return watch / 1e6, false_, true
	}
	return float64(at-began) / 1e6, false_, false
}

// run makes passes through sites, chosen at random by their weights, until d ticks are over.
func (s *synthetic) run(d uint64, sites []behaviour) {
	total := 0
	for _, b := range sites {
		total += b.weight
	}
	for end := s.now + d; s.now < end; {
		n := s.rng.IntN(total)
		i := 0
		for n >= sites[i].weight {
			n -= sites[i].weight
			i++
		}
		site := &sites[i]
		if s.th.Pass() {
			s.th.Turn(s.now)
		}
		gap := site.gap
		if s.rng.IntN(100) < site.longPercent {
			gap = site.longGap
		}
		gap += crossing
		gap += uint64(s.rng.Int64N(int64(gap/5 + 1)))
		if s.th.Timed() && s.th.Record(site.key, nil, hot.ExitNative, s.now, gap) == hot.Candidate && s.found[site.key] == 0 {
			s.found[site.key] = s.now + gap
		}
		s.now += gap + 1000
	}
}

// thresholds varies one parameter at a time.
func (b *Bench) thresholds(ctx context.Context) error {
	seeds := uint64(20)
	if b.Quick {
		seeds = 5
	}
	rows := [][]string{{"PARAMETER", "VALUE", "DETECTED AFTER (MEDIAN)", "WORST", "NOT WITHIN 1 s", "FALSE CANDIDATES (OF 3)"}}
	times := &plot.Chart{Title: "Time until a new hot site is a candidate (median)", X: "value, as multiple of the default", Y: "ms", LogX: true, LogY: true}
	wrong := &plot.Chart{Title: "Sites nominated though bypass would not pay", X: "value, as multiple of the default", Y: "sites (of 3)", LogX: true}
	for _, p := range []struct {
		name string
		set  func(*statfile.Config) *uint64
	}{
		{"sample-every", func(c *statfile.Config) *uint64 { return &c.SampleEvery }},
		{"sample-max", func(c *statfile.Config) *uint64 { return &c.SampleMax }},
		{"short-gap-ns", func(c *statfile.Config) *uint64 { return &c.ShortGapNS }},
		{"min-short", func(c *statfile.Config) *uint64 { return &c.MinShort }},
		{"min-short-percent", func(c *statfile.Config) *uint64 { return &c.MinShortPercent }},
		{"min-rate", func(c *statfile.Config) *uint64 { return &c.MinRate }},
		{"window-ms", func(c *statfile.Config) *uint64 { return &c.WindowMS }},
	} {
		var x, ms, falses []float64
		var last uint64
		for _, factor := range []float64{1. / 16, 1. / 8, 1. / 4, 1. / 2, 1, 2, 4, 8, 16} {
			if err := ctx.Err(); err != nil {
				return err
			}
			c := statfile.DefaultConfig()
			v := p.set(&c)
			value := max(1, uint64(float64(*v)*factor))
			if value == last {
				continue // there are no halves of it
			}
			*v, last = value, value
			c.SampleMax = max(c.SampleMax, c.SampleEvery)
			if c.Check() != nil {
				continue // beyond what the parameter can be
			}
			var detected []float64
			sum, missed := 0, 0
			for seed := range seeds {
				d, f, m := simulate(c, seed+1)
				detected = append(detected, d)
				sum += f
				if m {
					missed++
				}
			}
			slices.Sort(detected)
			median, worst := detected[len(detected)/2], detected[len(detected)-1]
			f := float64(sum) / float64(seeds)
			rows = append(rows, []string{p.name, fmt.Sprint(*v), fmt.Sprintf("%.1f ms", median), fmt.Sprintf("%.1f ms", worst),
				fmt.Sprintf("%d of %d", missed, seeds), fmt.Sprintf("%.2f", f)})
			x, ms, falses = append(x, factor), append(ms, median), append(falses, f)
		}
		times.Series = append(times.Series, plot.Series{Name: p.name, X: x, Y: ms})
		wrong.Series = append(wrong.Series, plot.Series{Name: p.name, X: x, Y: falses})
	}
	b.table(rows)
	if err := b.chart("thresholds-detection", times); err != nil {
		return err
	}
	return b.chart("thresholds-false", wrong)
}
