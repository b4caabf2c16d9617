package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// idle measures a program that only computes, for about half a second at a time.
func (b *bencher) idle(ctx context.Context, _ []string) error {
	static, _, err := b.build("idle")
	if err != nil {
		return err
	}
	b.heading(fmt.Sprintf("Time of a program without system calls; medians of %d alternating rounds", b.rounds))
	cells := [][]string{{"milliseconds", "native", "sandbox", "bypass", "cost of bypass", "by the best rounds"}}
	var rows []row
	for _, w := range []struct{ kind, rounds string }{{"integer", "300"}, {"memory", "300"}} {
		ms := map[mode][]float64{}
		sums := map[string]bool{}
		for round := range b.rounds {
			for k := range modes {
				m := modes[(k+round)%len(modes)]
				progress("round %d of %d, %s: %s", round+1, b.rounds, describe(m), w.kind)
				out, err := capture(ctx, b.command(m, nil, static, w.kind, w.rounds))
				if err != nil {
					return err
				}
				var ns float64
				var sum string
				if _, err := fmt.Sscan(strings.TrimSpace(out), &ns, &sum); err != nil {
					return fmt.Errorf("the program said %q: %w", out, err)
				}
				ms[m] = append(ms[m], ns/1e6)
				sums[sum] = true
			}
		}
		if len(sums) != 1 {
			return fmt.Errorf("%s: the results differ: %v", w.kind, sums)
		}
		f, o := median(ms[off]), median(ms[on])
		// On a busy machine the median says little; the least disturbed rounds say more.
		best := slices.Min(ms[on])/slices.Min(ms[off]) - 1
		cells = append(cells, []string{w.kind, fmt.Sprintf("%.1f", median(ms[native])), fmt.Sprintf("%.1f", f), fmt.Sprintf("%.1f", o),
			fmt.Sprintf("%+.2f %%", 100*(o/f-1)), fmt.Sprintf("%+.2f %%", 100*best)})
		for _, m := range modes {
			e := newRow("idle", w.kind, "static", m, "ms", ms[m])
			e.Ratio = f / e.Value
			rows = append(rows, e)
		}
	}
	progress("")
	table(cells)
	return b.write("idle", rows)
}
