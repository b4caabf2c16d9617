package identify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ub/internal/plot"
	"ub/internal/report"
	"ub/sentry/statfile"
)

// census looks at what programs do: how many system calls they make, and what becomes of the gaps between them.
func (b *Bench) census(ctx context.Context) error {
	d := 6 * time.Second
	if b.Quick {
		d = 2 * time.Second
	}
	list, err := b.servers(d.Seconds())
	if err != nil {
		return err
	}
	shell := func(name, need, script string) program {
		return program{name: name, need: need, argv: []string{"sh", "-c", script}}
	}
	limit := fmt.Sprintf("timeout -s INT %.0f ", d.Seconds())
	list = append(list,
		shell("dd bs=64", "dd", limit+"dd if=/dev/zero of=/dev/null bs=64 2>/dev/null; true"),
		shell("cp of a tree", "cp", fmt.Sprintf("end=$(($(date +%%s)+%.0f)); while [ $(date +%%s) -lt $end ]; do rm -rf /tmp/c; cp -r /usr/include /tmp/c; done", d.Seconds())),
		shell("find", "find", limit+"sh -c 'while :; do find /usr/share -name x; done'; true"),
		shell("tar", "tar", limit+"sh -c 'while :; do tar cf - /usr/include | cat >/dev/null; done'; true"),
		shell("gzip", "gzip", limit+"sh -c 'head -c 1000000000 /dev/zero | gzip >/dev/null'; true"),
		shell("sort", "sort", limit+"sh -c 'while :; do seq 200000 | sort -R | tail -n 1; done' >/dev/null; true"),
		shell("shell loop", "sh", limit+"sh -c 'i=0; while :; do i=$((i+1)); echo $i; done' >/dev/null; true"),
	)
	type result struct {
		name                  string
		n                     statfile.Snapshot
		took                  time.Duration
		kept, rolledBack, all int
	}
	var results []result
	for _, p := range list {
		b.progress("census: %s", p.name)
		r := result{name: p.name}
		took, err := b.observe(ctx, p, d, func(_ time.Duration, f *statfile.File) {
			r.n = f.Snapshot()
			r.all = len(f.Gaps())
		})
		if errors.Is(err, errMissing) {
			continue
		}
		if err != nil {
			return err
		}
		r.took = took
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b result) int {
		return cmp.Compare(float64(b.n.Syscalls())/b.took.Seconds(), float64(a.n.Syscalls())/a.took.Seconds())
	})
	rows := [][]string{{"PROGRAM", "SYSCALLS/s", "SHORT (OF SAMPLED GAPS)", "CANDIDATES", "GAPS TRIED", "KEPT", "ROLLED BACK", "BYPASSED"}}
	calls, share := plot.Series{Name: "syscalls/s"}, plot.Series{Name: "bypassed/s"}
	chart := &plot.Chart{Title: "System calls of programs in the sandbox, most first", X: "program (see the table)", Y: "per second", LogY: true}
	for i, r := range results {
		perSecond := float64(r.n.Syscalls()) / r.took.Seconds()
		s := report.Share(r.n[statfile.Bypassed], r.n.Syscalls())
		rows = append(rows, []string{
			r.name, fmt.Sprintf("%.0f", perSecond), fmt.Sprintf("%.0f %%", 100*report.Share(r.n[statfile.ShortGaps], r.n[statfile.Sampled])),
			report.Group(r.n[statfile.Candidates]), fmt.Sprint(r.all), report.Group(r.n[statfile.GapsKept]), report.Group(r.n[statfile.GapsRolledBack]),
			fmt.Sprintf("%.1f %%", 100*s),
		})
		x := float64(i + 1)
		calls.X, calls.Y = append(calls.X, x), append(calls.Y, perSecond)
		share.X, share.Y = append(share.X, x), append(share.Y, max(1, perSecond*s))
		chart.Marks = append(chart.Marks, plot.Mark{X: x, Text: r.name})
	}
	chart.Series = []plot.Series{calls, share}
	b.table(rows)
	return b.chart("census", chart)
}
