// Package top shows what bypass does in a running sandbox, from two readings of its statistics file.
package top

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"time"

	"ub/hot"
	"ub/internal/report"
	"ub/sentry/statfile"
)

// Reading is a statistics file at one moment.
type Reading struct {
	At       time.Time
	Counters statfile.Snapshot
	Threads  []statfile.Thread
	Gaps     []statfile.Gap
	// TicksPerMicro is the rate of the clock that gaps are measured with.
	TicksPerMicro uint64
}

// Read takes a reading.
func Read(f *statfile.File) *Reading {
	return &Reading{At: time.Now(), Counters: f.Snapshot(), Threads: f.Threads(), Gaps: f.Gaps(), TicksPerMicro: f.TicksPerMicro()}
}

// View is what happened between two readings. Rates are per second.
type View struct {
	Sandbox  string  `json:"sandbox"`
	Seconds  float64 `json:"seconds"`
	Syscalls float64 `json:"syscalls_per_second"`
	Share    float64 `json:"share_bypassed"`
	// SavedMS is what bypass has saved per second of wall time, in milliseconds, over all threads, by the gaps' payoffs.
	SavedMS    float64 `json:"saved_ms_per_second"`
	Crossings  float64 `json:"crossings_per_second"`
	Misses     float64 `json:"misses_per_second"`
	Extensions float64 `json:"translations_per_second"`
	Sampled    float64 `json:"share_sampled"`
	// Since the start.
	Kept       uint64 `json:"gaps_kept"`
	RolledBack uint64 `json:"gaps_rolled_back"`

	Threads []Thread `json:"threads"`
	Gaps    []Gap    `json:"gaps"`
}

// Thread is a thread of the program that has made system calls.
type Thread struct {
	TID         uint32  `json:"tid"`
	Space       uint32  `json:"space"`
	Syscalls    float64 `json:"syscalls_per_second"`
	Share       float64 `json:"share_bypassed"`
	SampleEvery uint32  `json:"sample_every"`
	Busy        bool    `json:"busy"`
}

// Gap is the gaps behind one site, or those of one caller of it.
type Gap struct {
	report.Gap
	Rate      float64 `json:"entered_per_second"`
	Share     float64 `json:"share_bypassed"` // of the passes that entered
	MissRate  float64 `json:"misses_per_second"`
	NativeP50 uint64  `json:"native_p50_ns"` // quantiles of the native gap lengths, upper ends of their buckets
	NativeP90 uint64  `json:"native_p90_ns"`
}

// Compare makes a view of what happened from a to b.
func Compare(sandbox string, a, b *Reading) *View {
	d := b.At.Sub(a.At).Seconds()
	if d <= 0 {
		d = 1e-9
	}
	rate := func(c statfile.Counter) float64 { return float64(b.Counters[c]-a.Counters[c]) / d }
	calls, bypassed := b.Counters.Syscalls()-a.Counters.Syscalls(), b.Counters[statfile.Bypassed]-a.Counters[statfile.Bypassed]
	v := &View{
		Sandbox: sandbox, Seconds: d,
		Syscalls: float64(calls) / d, Share: report.Share(bypassed, calls),
		Crossings: rate(statfile.Crossings), Misses: rate(statfile.MissUnknown), Extensions: rate(statfile.Translations),
		Sampled: report.Share(b.Counters[statfile.Sampled]-a.Counters[statfile.Sampled], calls),
		Kept:    b.Counters[statfile.GapsKept], RolledBack: b.Counters[statfile.GapsRolledBack],
		Threads: []Thread{}, Gaps: []Gap{},
	}
	v.threads(a, b, d)
	v.gaps(a, b, d)
	return v
}

func (v *View) threads(a, b *Reading, d float64) {
	type id struct{ tid, space uint32 }
	old := map[id]statfile.Thread{}
	for _, t := range a.Threads {
		old[id{t.TID, t.Space}] = t
	}
	for _, t := range b.Threads {
		o := old[id{t.TID, t.Space}]
		if o.Native > t.Native || o.Bypassed > t.Bypassed {
			o = statfile.Thread{} // another thread of the same number
		}
		bypassed := t.Bypassed - o.Bypassed
		calls := bypassed + t.Native - o.Native
		v.Threads = append(v.Threads, Thread{
			TID: t.TID, Space: t.Space, Syscalls: float64(calls) / d, Share: report.Share(bypassed, calls), SampleEvery: t.SampleEvery, Busy: t.Busy,
		})
	}
	slices.SortStableFunc(v.Threads, func(a, b Thread) int { return cmp.Compare(b.Syscalls, a.Syscalls) })
}

func (v *View) gaps(a, b *Reading, d float64) {
	type id struct {
		site, caller uint64
		space        uint32
	}
	old := map[id]statfile.Gap{}
	for _, g := range a.Gaps {
		old[id{g.Site, g.Caller, g.Space}] = g
	}
	for _, g := range b.Gaps {
		o := old[id{g.Site, g.Caller, g.Space}]
		entered, bypassed := g.Entered-o.Entered, g.Bypassed-o.Bypassed
		v.Gaps = append(v.Gaps, Gap{
			Gap: report.Gaps([]statfile.Gap{g})[0], Rate: float64(entered) / d, Share: report.Share(bypassed, entered),
			MissRate: float64(g.Misses-o.Misses) / d, NativeP50: quantile(&g.Hist, 0.5, b.TicksPerMicro), NativeP90: quantile(&g.Hist, 0.9, b.TicksPerMicro),
		})
		if hot.State(g.State) == hot.Kept {
			v.SavedMS += float64(bypassed) / d * float64(g.PayoffNS) / 1e6
		}
	}
	slices.SortStableFunc(v.Gaps, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Entered, a.Entered))
	})
}

// quantile returns the length in nanoseconds below which a share q of the gaps are.
func quantile(h *[hot.Buckets]uint32, q float64, ticksPerMicro uint64) uint64 {
	var total, sum uint64
	for _, n := range h {
		total += uint64(n)
	}
	if total == 0 || ticksPerMicro == 0 {
		return 0
	}
	for i, n := range h {
		if sum += uint64(n); float64(sum) >= q*float64(total) {
			return hot.BucketEnd(i) * 1000 / ticksPerMicro
		}
	}
	return 0
}

// JSON writes v as one object on one line.
func (v *View) JSON(w io.Writer) error { return json.NewEncoder(w).Encode(v) }
