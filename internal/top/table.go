package top

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"ub/internal/report"
)

// Table writes v for people: at most rows threads and rows gaps.
func (v *View) Table(w io.Writer, rows int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "sandbox %s: %s syscalls/s, %.1f %% bypassed; %s crossings/s; without bypass a second of this would take %.2f s\n",
		v.Sandbox, count(v.Syscalls), 100*v.Share, count(v.Crossings), 1+v.SavedMS/1000)
	fmt.Fprintf(&b, "%s misses/s, %.1f translations/s; %.2f %% of the gaps measured; decisions so far: %s kept, %s rolled back\n\n",
		count(v.Misses), v.Extensions, 100*v.Sampled, report.Group(v.Kept), report.Group(v.RolledBack))

	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "THREAD\tSPACE\tSYSCALLS/s\tBYPASSED\tSAMPLED")
	for _, r := range v.Threads[:min(rows, len(v.Threads))] {
		fmt.Fprintf(t, "%d\t%d\t%s\t%.1f %%\t1 in %d%s\n", r.TID, r.Space, count(r.Syscalls), 100*r.Share, r.SampleEvery, idle(r.Busy))
	}
	t.Flush()
	more(&b, len(v.Threads), rows)
	b.WriteByte('\n')

	t = tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SITE\tCALLER\tSPACE\tSTATE\tWHY\tENTERED/s\tBYPASSED\tns SAVED\tNATIVE\tBYPASS\tMISSES/s\tEXTENDED\tLEVEL\tGAPS 50 %\t90 %")
	for _, r := range v.Gaps[:min(rows, len(v.Gaps))] {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%.1f %%\t%d\t%d\t%d\t%s\t%d\t%d\t%s\t%s\n", r.Site, dash(r.Caller), r.Space, r.State, dash(r.Why),
			count(r.Rate), 100*r.Share, r.PayoffNS, r.BaseNS, r.ActiveNS, count(r.MissRate), r.Extensions, r.Level, length(r.NativeP50), length(r.NativeP90))
	}
	t.Flush()
	more(&b, len(v.Gaps), rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func count(v float64) string { return report.Group(uint64(v + 0.5)) }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func idle(busy bool) string {
	if busy {
		return ""
	}
	return ", too slow"
}

func length(ns uint64) string {
	if ns == 0 {
		return "-"
	}
	return fmt.Sprintf("<%.1f µs", float64(ns)/1000)
}

func more(b *strings.Builder, n, rows int) {
	if n > rows {
		fmt.Fprintf(b, "... and %d more\n", n-rows)
	}
}
