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
// one whose gaps are too long, so that bypass can only cost.
func (b *Bench) rate(ctx context.Context) error {
	bin, err := b.program("phases")
	if err != nil {
		return err
	}
	rounds, ms := 3, 1500
	if b.Quick {
		rounds, ms = 1, 600
	}
	workloads := []string{"tight", "compute"}
	type setting struct {
		name  string
		flags []string
	}
	settings := []setting{{"bypass off", bypassOff}}
	distances := []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
	for _, d := range distances {
		settings = append(settings, setting{fmt.Sprintf("1 in %d", d), []string{fmt.Sprintf("--tune=sample-max=%d", max(d, 16)), fmt.Sprintf("--tune=sample-every=%d", d), fmt.Sprintf("--tune=sample-max=%d", d)}})
	}
	settings = append(settings, setting{"adaptive", bypassOn})
	ns := map[string]map[string][]float64{}
	for r := range rounds {
		for k := range settings {
			// Forwards and backwards in turn, so that a slow change of the machine's speed favours none.
			s := settings[k]
			if r%2 == 1 {
				s = settings[len(settings)-1-k]
			}
			b.progress("rate: round %d of %d, %s", r+1, rounds, s.name)
			for _, w := range workloads {
				// The first third is for finding and trying.
				list, err := b.runPhases(ctx, bin, s.flags, 50, fmt.Sprintf("%s:%d", w, ms))
				if err != nil {
					return err
				}
				if ns[s.name] == nil {
					ns[s.name] = map[string][]float64{}
				}
				for _, v := range list[len(list)/3:] {
					ns[s.name][w] = append(ns[s.name][w], 50e6/v.ops)
				}
			}
		}
	}
	rows := [][]string{{"SAMPLES", "bypassed, ns PER OPERATION", "long gaps, ns PER OPERATION", "AGAINST bypass off"}}
	chart := &plot.Chart{Title: "Time per system call against the sampling rate", X: "passes per sample", Y: "ns per operation", LogX: true, LogY: true}
	for _, s := range settings {
		t, c := medianOf(ns[s.name]["tight"]), medianOf(ns[s.name]["compute"])
		rows = append(rows, []string{s.name, fmt.Sprintf("%.1f", t), fmt.Sprintf("%.0f", c), fmt.Sprintf("%+.1f %%", 100*(c/medianOf(ns["bypass off"]["compute"])-1))})
	}
	for _, w := range workloads {
		line := plot.Series{Name: w}
		flat := plot.Series{Name: w + ", adaptive"}
		for _, d := range distances {
			line.X, line.Y = append(line.X, float64(d)), append(line.Y, medianOf(ns[fmt.Sprintf("1 in %d", d)][w]))
			flat.X, flat.Y = append(flat.X, float64(d)), append(flat.Y, medianOf(ns["adaptive"][w]))
		}
		chart.Series = append(chart.Series, line, flat)
	}
	b.table(rows)
	return b.chart("rate", chart)
}
