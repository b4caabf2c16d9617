package profile

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Rows and bars of the text.
const (
	maxRows  = 20
	barWidth = 40
)

// Text writes the profile for people: a table of sites in the manner of strace -c, and a histogram of gaps.
func (p *Profile) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %.1f s, %s of it observed (%s)\n", p.Target, p.Seconds, percent(ratio(p.Observed, p.Seconds)), plural(p.Windows, "window"))
	fmt.Fprintf(&b, "a system call that does nothing: %.0f ns here (measured now), %.0f ns in a sandbox (%s)\n\n",
		p.Crossing.Linux, p.Crossing.Sentry, p.Crossing.SentrySource)
	if len(p.Sites) == 0 {
		b.WriteString("no system calls were seen\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	p.table(&b)
	if p.Gaps > p.Lost {
		p.histogram(&b)
	}
	p.remarks(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Profile) table(b *strings.Builder) {
	var out strings.Builder
	t := tabwriter.NewWriter(&out, 0, 8, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) {
		// The columns of numbers are aligned to the right; what follows them is one cell without a tab behind it.
		fmt.Fprintf(t, "%s\t  %s\n", strings.Join(cells[:7], "\t"), cells[7])
	}
	// The texts have columns of their own, to the left.
	syscalls, sites := len("total"), len("site")
	rows := p.Sites[:min(len(p.Sites), maxRows)]
	for _, s := range rows {
		syscalls, sites = max(syscalls, len(s.Syscall)), max(sites, len(s.Site.String()))
	}
	text := func(syscall, site, caller string) string {
		return strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %s", syscalls, syscall, sites, site, caller), " ")
	}
	row("", "bypass", "saves", "", "", "gap", "", "")
	row("crossings", "linux", "sentry", "calls/s", "p50", "p90", "p99", text("syscall", "site", "called from"))
	line := strings.Repeat("-", 9)
	row(line, line[:6], line[:6], line, line[:6], line[:6], line[:6], text(strings.Repeat("-", syscalls), strings.Repeat("-", sites), strings.Repeat("-", 11)))
	for _, s := range rows {
		caller := "-"
		if s.Caller != nil {
			caller = s.Caller.String()
		}
		q := []string{"-", "-", "-"}
		if s.Gaps > 0 {
			q = []string{times(s.GapNS.P50), times(s.GapNS.P90), times(s.GapNS.P99)}
		}
		row(p.share(s.Share), p.share(s.Saves.Linux), p.share(s.Saves.Sentry), count(s.CallsPerSecond), q[0], q[1], q[2],
			text(s.Syscall, s.Site.String(), caller))
	}
	if n := len(p.Sites) - len(rows); n > 0 {
		var rest Site
		for _, s := range p.Sites[len(rows):] {
			rest.Share += s.Share
			rest.Saves.Linux += s.Saves.Linux
			rest.Saves.Sentry += s.Saves.Sentry
			rest.CallsPerSecond += s.CallsPerSecond
		}
		row(p.share(rest.Share), p.share(rest.Saves.Linux), p.share(rest.Saves.Sentry), count(rest.CallsPerSecond), "", "", "",
			fmt.Sprintf("%s more; --json has all", plural(n, "site")))
	}
	row(line, line[:6], line[:6], line, line[:6], line[:6], line[:6], "")
	row(p.share(p.Share), p.share(p.Saves.Linux), p.share(p.Saves.Sentry), count(p.CallsPerSecond), "", "", "", "total")
	t.Flush()
	for l := range strings.Lines(out.String()) {
		b.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
}

// share shows a share of the CPU time, if that is known.
func (p *Profile) share(v float64) string {
	if p.CPU == 0 {
		return "?"
	}
	return percent(v)
}

func (p *Profile) histogram(b *strings.Builder) {
	var all, top float64
	for _, r := range p.Histogram {
		all += r.Count
		top = max(top, r.Count)
	}
	b.WriteString("\ngaps by length\n")
	for _, r := range p.Histogram {
		n := int(barWidth*r.Count/top + 0.5)
		bar := strings.Repeat("#", n)
		if n == 0 && r.Count > 0 {
			bar = "."
		}
		line := fmt.Sprintf("%8s to %-7s %7s  %s", times(float64(r.From)), times(float64(r.To)), percent(r.Count/all), bar)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

func (p *Profile) remarks(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s gaps seen, %s cut by the end of a window; profiling took at most %s of a thread's time\n",
		count(float64(p.Gaps)), count(float64(p.Cut)), percent(p.Cost))
	if p.Lost > 0 {
		fmt.Fprintf(b, "%s gaps are missing above: more sites than fit into the table\n", count(float64(p.Lost)))
	}
	if p.Missed > 0 {
		fmt.Fprintf(b, "%s events of all programs went unseen: the kernel had preempted the eBPF program on that CPU\n", count(float64(p.Missed)))
	}
	if p.CPU == 0 {
		b.WriteString("CPU time below 10 ms: too short for shares of it\n")
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", count(float64(n)), what)
}

func percent(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.2f %%", 100*v)
	}
	return fmt.Sprintf("%.1f %%", 100*v)
}

// times shows a time in ns with at most three digits before the point.
func times(ns float64) string {
	switch {
	case ns < 1000:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e4:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	case ns < 1e7:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	case ns < 1e9:
		return fmt.Sprintf("%.0f ms", ns/1e6)
	}
	return fmt.Sprintf("%.1f s", ns/1e9)
}

// count shows a number with separators, and with a digit behind the point if it is small.
func count(v float64) string {
	if v > 0 && v < 10 && v != float64(int(v)) {
		return fmt.Sprintf("%.1f", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
