// Package plot draws line charts as SVG, for results that are looked at in a browser. It does what that takes and no more.
package plot

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Chart is one diagram.
type Chart struct {
	Title, X, Y string
	LogX, LogY  bool
	Series      []Series
	// Marks are vertical lines with a text, at X values.
	Marks []Mark
}

// Series is a line through points.
type Series struct {
	Name string
	X, Y []float64
}

// Mark is a vertical line.
type Mark struct {
	X    float64
	Text string
}

const (
	width, height            = 900, 420
	left, right, top, bottom = 80, 190, 40, 50
)

// colours can be told apart also by those who see fewer of them (Okabe and Ito).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"}

// axis maps values to pixels.
type axis struct {
	lo, hi   float64
	log      bool
	from, to float64 // pixels
}

func (a *axis) at(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		v, lo, hi = math.Log10(max(v, a.lo)), math.Log10(lo), math.Log10(hi)
	}
	return a.from + (v-lo)/(hi-lo)*(a.to-a.from)
}

// fit makes an axis for values. Linear ones begin at 0.
func fit(values []float64, log bool, from, to float64) axis {
	a := axis{log: log, from: from, to: to, lo: math.Inf(1), hi: math.Inf(-1)}
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || log && v <= 0 {
			continue
		}
		a.lo, a.hi = min(a.lo, v), max(a.hi, v)
	}
	switch {
	case a.lo > a.hi && log:
		a.lo, a.hi = 1, 10
	case a.lo > a.hi:
		a.lo, a.hi = 0, 1
	case log:
		a.lo, a.hi = math.Pow(10, math.Floor(math.Log10(a.lo))), math.Pow(10, math.Ceil(math.Log10(a.hi)))
	default:
		a.lo, a.hi = min(0, a.lo), a.hi*1.05
	}
	if a.lo == a.hi {
		a.hi = a.lo + 1
		if log {
			a.hi = a.lo * 10
		}
	}
	return a
}

// ticks are the values that get a line.
func (a *axis) ticks() []float64 {
	var out []float64
	if a.log {
		for v := a.lo; v <= a.hi*1.001; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(a.hi-a.lo)))
	for _, f := range []float64{1, 0.5, 0.2, 0.1} {
		if (a.hi-a.lo)/(step*f) >= 5 {
			step *= f
			break
		}
	}
	for v := math.Ceil(a.lo/step) * step; v <= a.hi; v += step {
		out = append(out, v)
	}
	return out
}

func label(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%gM", math.Round(v/1e4)/100)
	case a >= 1e3:
		return fmt.Sprintf("%gk", math.Round(v/10)/100)
	}
	return fmt.Sprintf("%.4g", v)
}

// SVG writes the chart.
func (c *Chart) SVG(w io.Writer) error {
	var xs, ys []float64
	for _, s := range c.Series {
		xs, ys = append(xs, s.X...), append(ys, s.Y...)
	}
	x, y := fit(xs, c.LogX, left, width-right), fit(ys, c.LogY, height-bottom, top)
	if !c.LogX && len(xs) > 0 {
		x.hi /= 1.05
	}
	var b strings.Builder
	text := func(px, py float64, anchor, s string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", px, py, anchor, html.EscapeString(s))
	}
	line := func(x1, y1, x2, y2 float64, style string) {
		fmt.Fprintf(&b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style)
	}
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height)
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"22\" font-size=\"15\">%s</text>\n", left, html.EscapeString(c.Title))
	for _, v := range y.ticks() {
		line(left, y.at(v), width-right, y.at(v), `stroke="#ddd"`)
		text(left-6, y.at(v)+4, "end", label(v))
	}
	for _, v := range x.ticks() {
		line(x.at(v), top, x.at(v), height-bottom, `stroke="#eee"`)
		text(x.at(v), height-bottom+16, "middle", label(v))
	}
	for _, m := range c.Marks {
		line(x.at(m.X), top, x.at(m.X), height-bottom, `stroke="#888" stroke-dasharray="3,3"`)
		text(x.at(m.X)+3, top+10, "start", m.Text)
	}
	text((left+width-right)/2, height-12, "middle", c.X)
	fmt.Fprintf(&b, "<text transform=\"translate(16,%d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", (top+height-bottom)/2, html.EscapeString(c.Y))
	for i, s := range c.Series {
		colour := colours[i%len(colours)]
		var points []string
		for k := range min(len(s.X), len(s.Y)) {
			if v := s.Y[k]; math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", x.at(s.X[k]), y.at(s.Y[k])))
		}
		fmt.Fprintf(&b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" points=\"%s\"/>\n", colour, strings.Join(points, " "))
		if len(points) <= 40 {
			for _, p := range points {
				px, py, _ := strings.Cut(p, ",")
				fmt.Fprintf(&b, "<circle cx=\"%s\" cy=\"%s\" r=\"2.5\" fill=\"%s\"/>\n", px, py, colour)
			}
		}
		ly := float64(top + 14 + 18*i)
		line(width-right+12, ly-4, width-right+32, ly-4, fmt.Sprintf(`stroke="%s" stroke-width="3"`, colour))
		text(width-right+38, ly, "start", s.Name)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
