package identify

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ub/internal/plot"
)

// phases runs a program that changes what it does every few seconds.
func (b *Bench) phases(ctx context.Context) error {
	bin, err := b.program("phases")
	if err != nil {
		return err
	}
	const every = 20 // ms
	long, rounds := 3000, 3
	if b.Quick {
		long, rounds = 1000, 1
	}
	var plan []string
	for _, p := range []string{"tight", "compute", "server", "idle", "tight", "server", "compute", "tight"} {
		ms := long
		if p == "idle" {
			ms = long / 3
		}
		plan = append(plan, fmt.Sprintf("%s:%d", p, ms))
	}
	ways := []struct {
		name  string
		flags []string
	}{{"bypass off", bypassOff}, {"controller", bypassOn}, {"fixed constants", fixed}}
	runs := make([][][]interval, len(ways)) // by way, by round
	raw := make([][][]interval, len(ways))
	for r := range rounds {
		for k := range ways {
			w := (k + r) % len(ways)
			b.progress("phases: round %d of %d, %s", r+1, rounds, ways[w].name)
			list, err := b.runPhases(ctx, bin, ways[w].flags, every, plan...)
			if err != nil {
				return err
			}
			raw[w] = append(raw[w], list)
			runs[w] = append(runs[w], slots(list, every))
		}
	}
	// The median over the rounds, interval by interval.
	n := math.MaxInt
	for _, w := range runs {
		for _, r := range w {
			n = min(n, len(r))
		}
	}
	median := func(w, i int) float64 {
		var v []float64
		for _, r := range runs[w] {
			v = append(v, r[i].ops)
		}
		return medianOf(v)
	}
	chart := &plot.Chart{Title: "Operations per second while the workload changes", X: "s", Y: "operations/s", LogY: true}
	first := runs[0][0]
	for i := range n {
		if i == 0 || first[i].phase != first[i-1].phase {
			chart.Marks = append(chart.Marks, plot.Mark{X: float64(i) * every / 1000, Text: first[i].phase})
		}
	}
	rows := [][]string{{"WAY", "tight /s", "compute /s", "server /s", "WORST 10 s AGAINST bypass off", "NEW PHASE FOLLOWED WITHIN (MEDIAN, WORST)", "KNOWN ONE"}}
	for w, way := range ways {
		line := plot.Series{Name: way.name}
		sums := map[string][]float64{}
		var ratios []float64
		for i := range n {
			ops := median(w, i) * 1000 / every
			line.X, line.Y = append(line.X, float64(i)*every/1000), append(line.Y, ops)
			sums[first[i].phase] = append(sums[first[i].phase], ops)
			// Where one run has changed its phase and another has not yet, they can't be compared.
			if first[i].phase != "idle" && samePhase(runs, i) {
				ratios = append(ratios, median(w, i)/max(median(0, i), 1))
			}
		}
		chart.Series = append(chart.Series, line)
		worst := worstMean(ratios, 10_000/every)
		var fresh, known []float64
		for _, r := range raw[w] {
			f, k := followed(r, every)
			fresh, known = append(fresh, f...), append(known, k...)
		}
		rows = append(rows, []string{way.name, fmt.Sprintf("%.0f", mean(sums["tight"])), fmt.Sprintf("%.0f", mean(sums["compute"])),
			fmt.Sprintf("%.0f", mean(sums["server"])), fmt.Sprintf("%+.1f %%", 100*(worst-1)),
			fmt.Sprintf("%.0f, %.0f ms", medianOf(fresh), slices.Max(fresh)), fmt.Sprintf("%.0f, %.0f ms", medianOf(known), slices.Max(known))})
	}
	b.table(rows)
	return b.chart("phases", chart)
}

// slots puts a run's intervals where they belong in time: some take longer than they should.
func slots(run []interval, every int) []interval {
	var out []interval
	for _, v := range run {
		for end := int(math.Round(v.ms / float64(every))); len(out) < end; {
			out = append(out, v)
		}
	}
	return out
}

// samePhase reports whether all runs are in the same phase in an interval.
func samePhase(runs [][][]interval, i int) bool {
	for _, w := range runs {
		for _, r := range w {
			if r[i].phase != runs[0][0][i].phase {
				return false
			}
		}
	}
	return true
}

// followed says for each phase of a run, but the idle ones, how many milliseconds pass before it gets done what it does in its later
// half: in the mean of three intervals, at least 90 % of the median there. A phase is known when it was there before.
func followed(run []interval, every float64) (fresh, known []float64) {
	seen := map[string]bool{"idle": true}
	for i := 0; i < len(run); {
		name, end := run[i].phase, i
		var ops []float64
		for ; end < len(run) && run[end].phase == name; end++ {
			ops = append(ops, run[end].ops)
		}
		i = end
		steady := medianOf(ops[len(ops)/2:])
		at := 0
		for at+3 < len(ops) && mean(ops[at:at+3]) < 0.9*steady {
			at++
		}
		switch {
		case name == "idle":
		case seen[name]:
			known = append(known, float64(at)*every)
		default:
			fresh = append(fresh, float64(at)*every)
		}
		seen[name] = true
	}
	return fresh, known
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / max(1, float64(len(v)))
}

// worstMean is the least mean of n values in a row.
func worstMean(v []float64, n int) float64 {
	n = min(n, len(v))
	worst := math.Inf(1)
	for i := 0; n > 0 && i+n <= len(v); i++ {
		worst = min(worst, mean(v[i:i+n]))
	}
	return worst
}
