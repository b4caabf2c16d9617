package identify

import (
	"context"
	"fmt"
	"math"

	"ub/internal/plot"
)

// phases runs a program that changes what it does every few seconds.
func (b *Bench) phases(ctx context.Context) error {
	bin, err := b.program("phases")
	if err != nil {
		return err
	}
	const every = 100 // ms
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
	for r := range rounds {
		for k := range ways {
			w := (k + r) % len(ways)
			b.progress("phases: round %d of %d, %s", r+1, rounds, ways[w].name)
			list, err := b.runPhases(ctx, bin, ways[w].flags, every, plan...)
			if err != nil {
				return err
			}
			runs[w] = append(runs[w], list)
		}
	}
	// The median over the rounds, interval by interval: they are at the same places, but for what one took too long.
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
	rows := [][]string{{"WAY", "tight /s", "compute /s", "server /s", "WORST 10 s AGAINST bypass off"}}
	for w, way := range ways {
		line := plot.Series{Name: way.name}
		sums := map[string][]float64{}
		var ratios []float64
		for i := range n {
			ops := median(w, i) * 1000 / every
			line.X, line.Y = append(line.X, float64(i)*every/1000), append(line.Y, ops)
			sums[first[i].phase] = append(sums[first[i].phase], ops)
			if first[i].phase != "idle" {
				ratios = append(ratios, median(w, i)/max(median(0, i), 1))
			}
		}
		chart.Series = append(chart.Series, line)
		worst := worstMean(ratios, 10_000/every)
		rows = append(rows, []string{way.name, fmt.Sprintf("%.0f", mean(sums["tight"])), fmt.Sprintf("%.0f", mean(sums["compute"])),
			fmt.Sprintf("%.0f", mean(sums["server"])), fmt.Sprintf("%+.1f %%", 100*(worst-1))})
	}
	b.table(rows)
	return b.chart("phases", chart)
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
