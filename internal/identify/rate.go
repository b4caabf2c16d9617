package identify

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ub/internal/plot"
)

// interval is one line of bench/c/phases.c.
type interval struct {
	ms    float64
	phase string
	ops   float64
}

// runPhases runs the phases program.
func (b *Bench) runPhases(ctx context.Context, bin string, flags []string, everyMS int, phases ...string) ([]interval, error) {
	out, err := capture(b.command(ctx, append([]string{"--network=none"}, flags...), append([]string{bin, strconv.Itoa(everyMS)}, phases...)...))
	if err != nil {
		return nil, err
	}
	var list []interval
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		var v interval
		if _, err := fmt.Sscan(l, &v.ms, &v.phase, &v.ops); err != nil {
			return nil, fmt.Errorf("the program said %q", l)
		}
		list = append(list, v)
	}
	return list, nil
}

func medianOf(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// rate measures two workloads at fixed distances of samples: one that is bypassed, so that sampling is all it costs; and
// one whose gaps are too long, so that bypass can only cost. The latter is compared with runs without bypass before and after, since machines
// change their speed by more than what is to be seen.
func (b *Bench) rate(ctx context.Context) error {
	bin, err := b.program("phases")
	if err != nil {
		return err
	}
	rounds, ms := 9, 900
	if b.Quick {
		rounds, ms = 3, 450
	}
	run := func(w string, flags []string) (float64, error) {
		list, err := b.runPhases(ctx, bin, flags, 30, fmt.Sprintf("%s:%d", w, ms))
		if err != nil {
			return 0, err
		}
		// The first third is for finding and trying.
		var ns []float64
		for _, v := range list[len(list)/3:] {
			ns = append(ns, 30e6/v.ops)
		}
		return medianOf(ns), nil
	}
	type setting struct {
		name               string
		flags              []string
		tight, long, ratio []float64
	}
	var settings []*setting
	distances := []int{1, 4, 16, 64, 256, 1024}
	for _, d := range distances {
		settings = append(settings, &setting{name: fmt.Sprintf("1 in %d", d), flags: []string{fmt.Sprintf("--tune=sample-max=%d", max(d, 16)), fmt.Sprintf("--tune=sample-every=%d", d), fmt.Sprintf("--tune=sample-max=%d", d)}})
	}
	adaptive := &setting{name: "adaptive", flags: bypassOn}
	settings = append(settings, adaptive)
	off := &setting{name: "bypass off", flags: bypassOff}
	for r := range rounds {
		b.progress("rate: round %d of %d", r+1, rounds)
		before, err := run("compute", bypassOff)
		if err != nil {
			return err
		}
		for _, s := range settings {
			long, err := run("compute", s.flags)
			if err != nil {
				return err
			}
			tight, err := run("tight", s.flags)
			if err != nil {
				return err
			}
			after, err := run("compute", bypassOff)
			if err != nil {
				return err
			}
			s.long, s.tight, s.ratio = append(s.long, long), append(s.tight, tight), append(s.ratio, 2*long/(before+after))
			// What a run without bypass is against the one before says what the machine adds by itself.
			off.long, off.ratio = append(off.long, after), append(off.ratio, after/before)
			before = after
		}
		tight, err := run("tight", bypassOff)
		if err != nil {
			return err
		}
		off.tight = append(off.tight, tight)
	}
	rows := [][]string{{"SAMPLES", "bypassed, ns PER OPERATION", "long gaps, ns PER OPERATION", "AGAINST bypass off (QUARTILES)"}}
	for _, s := range append([]*setting{off}, settings...) {
		v := slices.Sorted(slices.Values(s.ratio))
		pct := func(i int) float64 { return 100 * (v[i] - 1) }
		rows = append(rows, []string{s.name, fmt.Sprintf("%.1f", medianOf(s.tight)), fmt.Sprintf("%.0f", medianOf(s.long)),
			fmt.Sprintf("%+.1f %% (%+.1f to %+.1f)", pct(len(v)/2), pct(len(v)/4), pct(len(v)*3/4))})
	}
	chart := &plot.Chart{Title: "Time per system call against the sampling rate", X: "passes per sample", Y: "ns per operation", LogX: true, LogY: true}
	for _, w := range []string{"tight", "compute"} {
		line := plot.Series{Name: w}
		flat := plot.Series{Name: w + ", adaptive"}
		of := func(s *setting) float64 {
			if w == "tight" {
				return medianOf(s.tight)
			}
			return medianOf(s.long)
		}
		for i, d := range distances {
			line.X, line.Y = append(line.X, float64(d)), append(line.Y, of(settings[i]))
			flat.X, flat.Y = append(flat.X, float64(d)), append(flat.Y, of(adaptive))
		}
		chart.Series = append(chart.Series, line, flat)
	}
	b.table(rows)
	return b.chart("rate", chart)
}
