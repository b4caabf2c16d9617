package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ub/internal/codebench"
)

// codeFlags are the flags of `ub-bench code`.
type codeFlags struct {
	noRules bool
}

// codeRules are the variants that are measured: everything as in production, and without each rule of the policy.
var codeRules = []codebench.Rule{0, codebench.Tags, codebench.Masks, codebench.Jumps, codebench.Fuel, codebench.AllRules}

// nativeLimit is the share of native execution from which on a ratio says nothing about translated code.
const nativeLimit = 0.05

// codeResult is a workload with its ratios: translated / native, by variant; NaN where there is none.
type codeResult struct {
	*codebench.Result
	slow []float64
}

// translated tells whether the workload runs translated, but for a little.
func (r *codeResult) translated() bool {
	v := r.Variants[0]
	return len(v.NS) > 0 && v.Natively <= nativeLimit && !strings.HasPrefix(v.Why, "WRONG")
}

func (b *bencher) code(ctx context.Context, f *codeFlags, args []string) error {
	rules := codeRules
	if f.noRules {
		rules = rules[:1]
	}
	b.heading(fmt.Sprintf("Slow-down of translated code: native and translated by turns in one process, on the same data; medians of %d rounds", b.rounds))
	m, err := codebench.New(b.dir)
	if err != nil {
		return err
	}
	defer m.Close()
	var all []*codeResult
	for _, w := range m.Workloads() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(args) > 0 && !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(w.Group+" "+w.Name, a) }) {
			continue
		}
		progress("%s: %s", w.Group, w.Name)
		r, err := m.Measure(w, b.rounds, rules)
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		all = append(all, newCodeResult(r))
	}
	progress("")
	if len(all) == 0 {
		return errNoValues
	}
	printCode(all, rules)
	svg := filepath.Join(b.out, "code.svg")
	if err := os.WriteFile(svg, []byte(codeSVG(all, b.machine.CPU)), 0o644); err != nil {
		return err
	}
	fmt.Printf("\nPlot: %s\n", svg)
	if err := b.write("code", codeRows(all)); err != nil {
		return err
	}
	for _, r := range all {
		for _, v := range r.Variants {
			if v.Without == 0 && strings.HasPrefix(v.Why, "WRONG") {
				return fmt.Errorf("%s: %s", r.Name, v.Why)
			}
		}
	}
	return nil
}

// newCodeResult works out the ratios: medians of the rounds, in each of which native and translated are neighbours.
func newCodeResult(r *codebench.Result) *codeResult {
	c := &codeResult{Result: r}
	for _, v := range r.Variants {
		var ratios []float64
		for i, ns := range v.NS {
			ratios = append(ratios, ns/r.Native[i])
		}
		if len(ratios) == 0 {
			c.slow = append(c.slow, math.NaN())
		} else {
			c.slow = append(c.slow, median(ratios))
		}
	}
	return c
}

func geomean(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := 0.0
	for _, x := range v {
		s += math.Log(x)
	}
	return math.Exp(s / float64(len(v)))
}

// codeGroup is workloads that count as one, so that having many variants of a function gives it no weight.
type codeGroup struct {
	name              string
	slow              []float64 // geometric mean by variant
	translated, total int
}

// groups averages over those that run translated, in order of appearance.
func groups(all []*codeResult) []codeGroup {
	var out []codeGroup
	for _, r := range all {
		if len(out) == 0 || !slices.ContainsFunc(out, func(g codeGroup) bool { return g.name == r.Group }) {
			out = append(out, codeGroup{name: r.Group})
		}
	}
	for i := range out {
		g := &out[i]
		values := make([][]float64, len(all[0].slow))
		for _, r := range all {
			if r.Group != g.name {
				continue
			}
			g.total++
			if !r.translated() {
				continue
			}
			g.translated++
			for k, s := range r.slow {
				if !math.IsNaN(s) {
					values[k] = append(values[k], s)
				}
			}
		}
		for _, v := range values {
			g.slow = append(g.slow, geomean(v))
		}
	}
	return out
}

// overall is the geometric mean over groups of a variant, and the worst single workload.
func overall(all []*codeResult, variant int) (mean, worst float64, of string) {
	var v []float64
	for _, g := range groups(all) {
		if s := g.slow[variant]; !math.IsNaN(s) {
			v = append(v, s)
		}
	}
	worst = math.Inf(-1)
	for _, r := range all {
		if s := r.slow[variant]; r.translated() && s > worst {
			worst, of = s, r.Name
		}
	}
	return geomean(v), worst, of
}

func times(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.2fx", v)
}

func variantName(r codebench.Rule) string {
	switch r {
	case 0:
		return "translated"
	case codebench.AllRules:
		return "no rules"
	}
	return "no " + r.String()
}

func printCode(all []*codeResult, rules []codebench.Rule) {
	head := []string{"workload", "native ns", "ns"}
	for _, r := range rules {
		head = append(head, variantName(r))
	}
	rows := [][]string{append(head, "natively", "code")}
	for _, r := range all {
		v := r.Variants[0]
		line := []string{r.Name, fmt.Sprintf("%.2f", median(r.Native)), fmt.Sprintf("%.2f", median(v.NS))}
		for _, s := range r.slow {
			if !r.translated() {
				s = math.NaN()
			}
			line = append(line, times(s))
		}
		rows = append(rows, append(line, percent(v.Natively), fmt.Sprint(v.Bytes)))
	}
	table(rows)

	fmt.Println()
	head = []string{"group", "translated"}
	for _, r := range rules {
		head = append(head, variantName(r))
	}
	rows = [][]string{head}
	for _, g := range groups(all) {
		line := []string{g.name, fmt.Sprintf("%d of %d", g.translated, g.total)}
		for _, s := range g.slow {
			line = append(line, times(s))
		}
		rows = append(rows, line)
	}
	total := []string{"geometric mean", ""}
	for i := range rules {
		mean, _, _ := overall(all, i)
		total = append(total, times(mean))
	}
	table(append(rows, total))
	if mean, worst, of := overall(all, 0); !math.IsNaN(mean) {
		fmt.Printf("\nGeometric mean of the groups %.2fx, worst %.2fx (%s). \"No ...\" leaves a rule of the policy out.\n", mean, worst, of)
	}
	first := true
	for _, r := range all {
		for _, v := range r.Variants {
			if v.Why == "" || v.Without != 0 && !strings.HasPrefix(v.Why, "WRONG") {
				continue
			}
			if first {
				fmt.Println("\nNot, or not only, translated; the rest of the call ran natively (\"natively\": share of the time) and does not count:")
				first = false
			}
			fmt.Printf("  %s (%s): %s\n", r.Name, variantName(v.Without), v.Why)
		}
	}
}

func codeRows(all []*codeResult) []row {
	var out []row
	for _, r := range all {
		out = append(out, newRow("code", r.Name, r.Group, native, "ns", r.Native))
		for i, v := range r.Variants {
			if len(v.NS) == 0 {
				e := newRow("code", r.Name, r.Group, mode(variantName(v.Without)), "ns", nil)
				e.Note = v.Why
				out = append(out, e)
				continue
			}
			e := newRow("code", r.Name, r.Group, mode(variantName(v.Without)), "ns", v.NS)
			e.Ratio, e.SlowDown, e.Note = 1/r.slow[i], r.slow[i], v.Why
			inside := 1 - v.Natively
			e.Share = &inside
			out = append(out, e)
		}
	}
	mean, worst, _ := overall(all, 0)
	for _, v := range []struct {
		name string
		v    float64
	}{{"geometric mean", mean}, {"worst", worst}} {
		if !math.IsNaN(v.v) && !math.IsInf(v.v, 0) {
			e := newRow("code", v.name, "", "translated", "x", []float64{v.v})
			e.SlowDown, e.Ratio = v.v, 1/v.v
			out = append(out, e)
		}
	}
	return out
}
