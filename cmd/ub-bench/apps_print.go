package main

import (
	"fmt"
	"math"

	"ub/bench/apps"
	"ub/sentry/statfile"
)

// printCells prints the tables of cells and returns their rows. crossing is what one costs, in nanoseconds.
func (b *bencher) printCells(cells []*appCell, crossing float64) []row {
	speed := [][]string{{"requests/s: " + cells[0].program, "sandbox", "bypass", "ratio", "min", "max", "CPU ratio", "syscalls", "crossings", "bypassed"}}
	costs := [][]string{{"µs per request: " + cells[0].program, "", "clock", "Sentry+BTC", "stub", "client", "others", "idle", "stolen", "crossings", "misses", "stops", "faults"}}
	var rows []row
	logs, cpuLogs := 0.0, 0.0
	for _, c := range cells {
		of, on_ := c.total[off].perRequest(), c.total[on].perRequest()
		// Without bypass nothing is counted; the program is the same, and each of its system calls is a crossing.
		of.crossings = on_.syscalls
		speed = append(speed, []string{c.name, fmt.Sprintf("%.0f", median(c.perSecond[off])), fmt.Sprintf("%.0f", median(c.perSecond[on])),
			fmt.Sprintf("%.2fx", c.ratio()), fmt.Sprintf("%.2fx", minOf(c.paired)), fmt.Sprintf("%.2fx", maxOf(c.paired)), times(of.server() / on_.server()),
			fmt.Sprintf("%.2f", on_.syscalls), fmt.Sprintf("%.2f", on_.crossings), percent(on_.share)})
		for _, m := range appModes {
			p := of
			if m == on {
				p = on_
			}
			us := func(v float64) string { return fmt.Sprintf("%.1f", v) }
			line := []string{c.name, string(m), us(p.wall), us(p.sentry), us(p.stub), us(p.client), us(p.other), us(p.idle), us(p.steal), us(p.crossings * crossing / 1000)}
			if m == on {
				line = append(line, fmt.Sprintf("%.3f", p.misses), fmt.Sprintf("%.3f", p.stops), fmt.Sprintf("%.3f", p.faults))
			} else {
				line = append(line, "", "", "")
			}
			costs = append(costs, line)
			e := newRow("apps", c.name, c.program, m, "requests/s", c.perSecond[m])
			e.Ratio = 1
			e.PerRequest = map[string]float64{
				"wall_us": p.wall, "sentry_us": p.sentry, "stub_us": p.stub, "gofer_us": p.gofer, "client_us": p.client,
				"other_us": p.other, "idle_us": p.idle, "steal_us": p.steal,
				"server_us": p.server(), "crossings": p.crossings, "syscalls": on_.syscalls, "estimated_crossing_us": p.crossings * crossing / 1000,
			}
			if m == on {
				e.Ratio = c.ratio()
				e.Share = &p.share
				e.PerRequest["misses"], e.PerRequest["stops"], e.PerRequest["faults"] = p.misses, p.stops, p.faults
			}
			rows = append(rows, e)
		}
		logs += math.Log(c.ratio())
		cpuLogs += math.Log(of.server() / on_.server())
	}
	table(speed)
	n := float64(len(cells))
	fmt.Printf("\ngeometric mean %s, worst %s; of the server's processor time per request %s\n\n", times(math.Exp(logs/n)), times(worst(cells)), times(math.Exp(cpuLogs/n)))
	table(costs)
	fmt.Println(`
Sentry+BTC, stub (the program's own code, run natively) and client are processor time; others is the rest of the machine's load.
"crossings" is what the crossings of a request would cost if each cost what that of a getpid does: it is part of Sentry and stub.`)
	fmt.Println()
	return rows
}

func worst(cells []*appCell) float64 {
	w := math.Inf(1)
	for _, c := range cells {
		w = min(w, c.ratio())
	}
	return w
}

func minOf(v []float64) float64 {
	m := math.Inf(1)
	for _, x := range v {
		m = min(m, x)
	}
	return m
}

func maxOf(v []float64) float64 {
	m := math.Inf(-1)
	for _, x := range v {
		m = max(m, x)
	}
	return m
}

// maxSites bounds how many sites are listed of a server, maxStops of how many places of each.
const (
	maxSites = 16
	maxStops = 6
)

// printSites lists the sites of the servers with bypass: which calls are followed by a gap that is run by BTC, and how that
// ends. Calls that are not in the list cross always.
func printSites(cells []*appCell) error {
	syms, err := apps.LibcSymbols()
	if err != nil {
		return err
	}
	if err := syms.SetProgram(apps.Program(cells[0].program)); err != nil {
		return err
	}
	for _, s := range bypassing(cells) {
		n := s.Counters()
		lines := [][]string{{"gap behind", "space", "state", "entered", "bypassed", "misses", "stops", "versions", "code bytes"}}
		var stops [][]string
		for i, v := range syms.Sites(nil, s.Sites(), s.Blobs()) {
			if i == maxSites {
				break
			}
			for k, x := range v.Stops {
				if v.Stopped == 0 || k == maxStops {
					break
				}
				stops = append(stops, []string{v.Name, x.Name, x.Text})
			}
			lines = append(lines, []string{v.Name, fmt.Sprint(v.Space), v.State, fmt.Sprint(v.Entered), fmt.Sprint(v.Bypassed), fmt.Sprint(v.Misses),
				fmt.Sprint(v.Stopped), fmt.Sprint(v.Translations), fmt.Sprint(v.CodeBytes)})
		}
		table(lines)
		fmt.Println()
		if len(stops) > 0 {
			table(append([][]string{{"gap behind", "its translation ends at", "instruction"}}, stops...))
			fmt.Println()
		}
		cells := [][]string{{"counter of the whole sandbox", ""}}
		for i, v := range n {
			if v != 0 {
				cells = append(cells, []string{counterName(i), fmt.Sprint(v)})
			}
		}
		table(cells)
		fmt.Println()
	}
	return nil
}

func counterName(i int) string { return statfile.Counter(i).Name() }
