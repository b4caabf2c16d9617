package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestSVGIsWellFormed(t *testing.T) {
	for name, c := range map[string]*Chart{
		"empty": {Title: "a < b & c"},
		"one":   {Series: []Series{{"x", []float64{3}, []float64{0}}}},
		"log":   {LogX: true, LogY: true, Series: []Series{{"x", []float64{1, 10, 1000}, []float64{0, 5, 1e7}}, {"y", []float64{0}, []float64{-1}}}},
		"odd":   {Series: []Series{{"<x>", []float64{1, 2, 3, 4}, []float64{math.NaN(), math.Inf(1), -5, 1e-9}}}, Marks: []Mark{{2, "&"}}},
	} {
		var b bytes.Buffer
		if err := c.SVG(&b); err != nil {
			t.Fatal(err)
		}
		if s := b.String(); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Errorf("%s: a coordinate is no number:\n%s", name, s)
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
