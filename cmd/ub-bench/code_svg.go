package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// codeSVG draws the slow-downs: a bar for each workload, a mark for it without any rule of the policy. The axis is
// logarithmic, so that twice as fast is as far from 1 as half as fast.
func codeSVG(all []*codeResult, cpu string) string {
	const (
		left, right = 250, 60
		width       = 960
		line        = 18
		top         = 64
	)
	low, high := 0.5, 4.0
	for _, r := range all {
		for _, s := range r.slow {
			if r.translated() && !math.IsNaN(s) && !math.IsInf(s, 0) && s > 0 {
				low, high = min(low, s), max(high, s)
			}
		}
	}
	x := func(v float64) float64 {
		return left + (math.Log(v)-math.Log(low))/(math.Log(high)-math.Log(low))*(width-left-right)
	}
	height := top + line*len(all) + 40
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	mean, worst, _ := overall(all, 0)
	title := fmt.Sprintf("Slow-down of translated code: geometric mean %s, worst %s", times(mean), times(worst))
	fmt.Fprintf(&b, `<text x="12" y="22" font-size="15">%s</text>`+"\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<text x="12" y="40" fill="#555">%s. Diamond: without any rule of the safety policy. Grey: vector code or other, not translated.</text>`+"\n", html.EscapeString(cpu))
	for _, v := range []float64{0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 16, 32} {
		if v < low || v > high {
			continue
		}
		color := "#ddd"
		if v == 1 {
			color = "#000"
		} else if v == 1.25 || v == 2 {
			color = "#c60" // the limits for the mean and for one workload
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`, x(v), top-6, x(v), height-30, color)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%gx</text>`+"\n", x(v), height-14, v)
	}
	for i, r := range all {
		y := top + i*line
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+12, html.EscapeString(r.Name))
		s := r.slow[0]
		if !r.translated() || math.IsNaN(s) || s <= 0 {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#999">not translated</text>`+"\n", x(1)+6, y+12)
			continue
		}
		from, to := min(x(1), x(s)), max(x(1), x(s))
		color := "#4a8"
		if s > 2 {
			color = "#d55"
		} else if s > 1.25 {
			color = "#da4"
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, from, y+2, max(1, to-from), line-5, color)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#333">%.2f</text>`, to+8, y+12, s)
		if n := r.slow[len(r.slow)-1]; len(r.slow) > 1 && !math.IsNaN(n) && n > 0 {
			c := y + 2 + (line-5)/2
			fmt.Fprintf(&b, `<path d="M%.1f %d l4 4 l-4 4 l-4 -4 z" fill="#226"/>`, x(n), c-4)
		}
		b.WriteString("\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}
