package identify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ub/internal/plot"
	"ub/internal/report"
	"ub/sentry/statfile"
)

// growth watches how the paths of four programs grow.
func (b *Bench) growth(ctx context.Context) error {
	d := 12 * time.Second
	if b.Quick {
		d = 4 * time.Second
	}
	list, err := b.servers(d.Seconds())
	if err != nil {
		return err
	}
	rows := [][]string{{"PROGRAM", "SYSCALLS/s", "BYPASSED, LAST HALF", "TRANSLATIONS", "IN THE LAST HALF", "MISSES", "IN THE LAST HALF", "PER 1000 SYSCALLS", "GAPS KEPT", "ROLLED BACK"}}
	translations := &plot.Chart{Title: "Translations (first ones and extensions) since the start", X: "s", Y: "translations"}
	misses := &plot.Chart{Title: "Misses that went native, per 100 ms", X: "s", Y: "misses"}
	for _, p := range list {
		b.progress("growth: %s", p.name)
		var snaps []statfile.Snapshot
		var at []float64
		took, err := b.observe(ctx, p, d, func(since time.Duration, f *statfile.File) {
			snaps, at = append(snaps, f.Snapshot()), append(at, since.Seconds())
		})
		if errors.Is(err, errMissing) {
			rows = append(rows, []string{p.name, "not installed"})
			continue
		}
		if err != nil {
			return err
		}
		if len(snaps) < 3 {
			return fmt.Errorf("%s ended too soon", p.name)
		}
		t, m := plot.Series{Name: p.name}, plot.Series{Name: p.name}
		for i := range snaps {
			t.X, t.Y = append(t.X, at[i]), append(t.Y, float64(snaps[i][statfile.Translations]))
			if i > 0 {
				m.X, m.Y = append(m.X, at[i]), append(m.Y, float64(snaps[i][statfile.MissUnknown]-snaps[i-1][statfile.MissUnknown]))
			}
		}
		translations.Series, misses.Series = append(translations.Series, t), append(misses.Series, m)
		half, last := &snaps[len(snaps)/2], &snaps[len(snaps)-1]
		late := func(c statfile.Counter) uint64 { return last[c] - half[c] }
		calls := last.Syscalls() - half.Syscalls()
		rows = append(rows, []string{
			p.name, fmt.Sprintf("%.0f", float64(last.Syscalls())/took.Seconds()), fmt.Sprintf("%.1f %%", 100*report.Share(late(statfile.Bypassed), calls)),
			report.Group(last[statfile.Translations]), report.Group(late(statfile.Translations)), report.Group(last[statfile.MissUnknown]),
			report.Group(late(statfile.MissUnknown)), fmt.Sprintf("%.2f", 1000*report.Share(late(statfile.MissUnknown), calls)),
			report.Group(last[statfile.GapsKept]), report.Group(last[statfile.GapsRolledBack]),
		})
	}
	b.table(rows)
	if err := b.chart("growth-translations", translations); err != nil {
		return err
	}
	return b.chart("growth-misses", misses)
}
