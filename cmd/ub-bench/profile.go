package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// profileMS is how long the profiler watches at a time: several windows, even of a program that uses up its budget at once.
const profileMS = 2000

// The modes of this benchmark are on native Linux.
const (
	unprofiled mode = "native"
	profiled   mode = "profiled"
)

// profile measures what `ub profile` costs the program that it watches.
func (b *bencher) profile(ctx context.Context, _ []string) error {
	static, _, err := b.build("load")
	if err != nil {
		return err
	}
	b.heading(fmt.Sprintf("CPU time per operation, native, without and with `ub profile`; medians of %d alternating rounds", b.rounds))
	cells := [][]string{{"ns", "native", "profiled", "cost", "by the best rounds", "own estimate", "observed"}}
	var rows []row
	both := []mode{unprofiled, profiled}
	for _, w := range []struct{ kind, name string }{{"getppid", "getppid"}, {"pread-64", "pread 64 B"}, {"compute", "4 µs, pread 64 B"}} {
		kind, cpu := w.kind, map[mode][]float64{}
		var estimates, observed []float64
		for round := range b.rounds {
			for k := range both {
				m := both[(k+round)%len(both)]
				progress("round %d of %d, %s: %s", round+1, b.rounds, kind, m)
				argv := []string{static, kind, strconv.Itoa(profileMS), "/dev/shm"}
				report := filepath.Join(b.dir, "profile.json")
				if m == profiled {
					argv = append([]string{b.ub, "profile", "--json", "-o", report, "--"}, argv...)
				}
				out, err := capture(ctx, argv)
				if err != nil {
					return err
				}
				var c, wall float64
				if _, err := fmt.Sscan(strings.TrimSpace(out), &c, &wall); err != nil {
					return fmt.Errorf("the program said %q: %w", out, err)
				}
				cpu[m] = append(cpu[m], c)
				if m == profiled {
					e, o, err := readProfile(report)
					if err != nil {
						return err
					}
					estimates, observed = append(estimates, e), append(observed, o)
				}
			}
		}
		// Rounds are compared one by one: the machine's speed changes in the meantime.
		var ratios []float64
		for i, v := range cpu[profiled] {
			ratios = append(ratios, v/cpu[unprofiled][i])
		}
		n := median(cpu[unprofiled])
		best := slices.Min(cpu[profiled])/slices.Min(cpu[unprofiled]) - 1
		cells = append(cells, []string{w.name, fmt.Sprintf("%.1f", n), fmt.Sprintf("%.1f", median(cpu[profiled])),
			fmt.Sprintf("%+.2f %%", 100*(median(ratios)-1)), fmt.Sprintf("%+.2f %%", 100*best),
			fmt.Sprintf("%.2f %%", 100*median(estimates)), percent(median(observed))})
		for _, m := range both {
			e := newRow("profile", kind, "static", m, "ns", cpu[m])
			e.Ratio = 1
			if m == profiled {
				e.Ratio = 1 / median(ratios)
			}
			rows = append(rows, e)
		}
	}
	progress("")
	table(cells)
	return b.write("profile", rows)
}

// readProfile returns the cost that `ub profile` itself reports, and the share of the time that it observed.
func readProfile(path string) (cost, observed float64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	var p struct {
		Cost     float64 `json:"cost"`
		Seconds  float64 `json:"seconds"`
		Observed float64 `json:"observed_seconds"`
	}
	if err := json.Unmarshal(data, &p); err != nil || p.Seconds == 0 {
		return 0, 0, fmt.Errorf("%s: no profile: %w", path, err)
	}
	return p.Cost, p.Observed / p.Seconds, nil
}
