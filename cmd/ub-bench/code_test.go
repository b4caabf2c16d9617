package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"ub/internal/codebench"
)

func someCode() []*codeResult {
	w := func(group, name string, natively float64, native []float64, variants ...[]float64) *codeResult {
		r := &codebench.Result{Workload: codebench.Workload{Group: group, Name: name}, Native: native}
		for i, v := range variants {
			r.Variants = append(r.Variants, codebench.Variant{Without: codeRules[i], NS: v, Natively: natively})
		}
		return newCodeResult(r)
	}
	stopped := w("b", "<stops> & more", 0.99, []float64{1, 1, 1}, []float64{9, 9, 9}, []float64{1, 1, 1})
	stopped.Variants[0].Why = "stop at f+0x1: vaddps"
	failed := w("c", "refused", 0, []float64{1}, nil, nil)
	return []*codeResult{
		w("a", "one", 0, []float64{1, 2, 1}, []float64{2, 4, 9}, []float64{1, 2, 1}),
		w("a", "two", 0.01, []float64{1, 1, 1}, []float64{8, 8, 8}, []float64{4, 4, 4}),
		w("d", "three", 0, []float64{2, 2, 2}, []float64{1, 1, 1}, []float64{1, 1, 1}),
		stopped, failed,
	}
}

func TestCodeRatios(t *testing.T) {
	all := someCode()
	if all[0].slow[0] != 2 || all[1].slow[0] != 8 || !math.IsNaN(all[4].slow[0]) {
		t.Errorf("ratios %v, %v, %v", all[0].slow, all[1].slow, all[4].slow)
	}
	g := groups(all)
	if len(g) != 4 || g[0].name != "a" || g[0].translated != 2 || math.Abs(g[0].slow[0]-4) > 1e-9 || math.Abs(g[0].slow[1]-2) > 1e-9 {
		t.Errorf("groups %+v", g)
	}
	for _, x := range g[2:] {
		if x.translated != 0 || x.total != 1 || !math.IsNaN(x.slow[0]) {
			t.Errorf("%+v counts", x)
		}
	}
	mean, worst, of := overall(all, 0)
	if math.Abs(mean-math.Sqrt(4*0.5)) > 1e-9 || worst != 8 || of != "two" {
		t.Errorf("mean %v, worst %v of %s", mean, worst, of)
	}
	if mean, worst, _ := overall(all[3:], 0); !math.IsNaN(mean) || !math.IsInf(worst, -1) {
		t.Errorf("of nothing: mean %v, worst %v", mean, worst)
	}
	wrong := someCode()[0]
	wrong.Variants[0].Why = "WRONG: 1 is 2"
	if wrong.translated() {
		t.Error("what is wrong counts")
	}
}

func TestCodeRows(t *testing.T) {
	b := &bencher{out: t.TempDir()}
	rows := codeRows(someCode())
	if err := b.write("code", rows); err != nil { // no NaN: JSON has none
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if last.Workload != "worst" || last.SlowDown != 8 {
		t.Errorf("%+v", last)
	}
	for _, r := range rows {
		if r.Workload == "<stops> & more" && r.Mode == "translated" && (math.Abs(*r.Share-0.01) > 1e-9 || r.Note == "") {
			t.Errorf("%+v", r)
		}
	}
	if err := b.write("code", codeRows(someCode()[3:])); err != nil {
		t.Error(err)
	}
}

func TestCodeSVG(t *testing.T) {
	for _, all := range [][]*codeResult{someCode(), someCode()[3:]} {
		svg := codeSVG(all, "CPU <fast>")
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("no number: %s", svg)
		}
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v: %s", err, svg)
			}
		}
	}
}
