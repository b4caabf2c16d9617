package profile

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
)

// Profile is what was seen of the programs in a time. Rates and shares are estimates for all of the time, as it would have
// been without the profiler; Gaps, Cut and histograms are what was counted in windows.
type Profile struct {
	Target string `json:"target"`
	// Seconds is the time that the profile is about, Observed the part of it that was in windows.
	Seconds  float64 `json:"seconds"`
	Observed float64 `json:"observed_seconds"`
	Windows  int     `json:"windows"`
	// Cost is the share of time that the profiler took from the thread that it slowed down most, as it was booked: at most.
	Cost float64 `json:"cost"`
	// ProbeNS is what it adds to a system call in a window.
	ProbeNS float64 `json:"probe_ns"`
	// Crossing is the time of a system call that does nothing.
	Crossing Crossing `json:"crossing"`
	// CPU is the CPU time of the programs, CallsPerSecond their system calls, Gaps and Cut the gaps that ended in a window
	// and that did not, Lost those whose site was evicted before it was read.
	CPU            float64 `json:"cpu_seconds"`
	CallsPerSecond float64 `json:"calls_per_second"`
	Gaps           uint64  `json:"gaps"`
	Cut            uint64  `json:"cut"`
	Lost           uint64  `json:"lost"`
	// Missed is how many system calls of the whole machine went unseen in windows because an eBPF program was busy. Only
	// known at the end.
	Missed uint64 `json:"missed"`
	// Share is the part of the CPU time that went into crossings.
	Share float64 `json:"crossing_share"`
	Saves Saves   `json:"saves"`
	Sites []Site  `json:"sites"`
	// Histogram has all gaps by length.
	Histogram []Bar `json:"histogram"`
}

// Crossing is the time of a system call that does nothing, in ns.
type Crossing struct {
	Linux        float64 `json:"linux_ns"` // measured on this machine, just before
	Sentry       float64 `json:"sentry_ns"`
	SentrySource string  `json:"sentry_source"`
}

// Saves is the estimated share of time that bypass saves: of the CPU time here, and of the time that the same program
// takes in a gVisor sandbox.
type Saves struct {
	Linux  float64 `json:"linux"`
	Sentry float64 `json:"sentry"`
}

// Site is a place that makes a system call, told apart by its caller, with the gaps behind it.
type Site struct {
	Syscall string `json:"syscall"`
	// Site is behind the syscall instruction: where bypass would enter. Caller is the return address of its function.
	Site           Place   `json:"site"`
	Caller         *Place  `json:"caller,omitempty"`
	Gaps           uint64  `json:"gaps"`
	Cut            uint64  `json:"cut"`
	CallsPerSecond float64 `json:"calls_per_second"`
	// GapNS are percentiles of the gaps that ended, MeanNS their mean, KernelNS the mean time inside the system call,
	// blocking included.
	GapNS     Percentiles `json:"gap_ns"`
	MeanNS    float64     `json:"gap_mean_ns"`
	KernelNS  float64     `json:"kernel_mean_ns"`
	Share     float64     `json:"crossing_share"`
	Saves     Saves       `json:"saves"`
	Histogram []Bar       `json:"histogram"`
}

// Percentiles of a distribution.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// Bar is the number of gaps from From to below To, in ns: a power of two.
type Bar struct {
	From  uint64  `json:"from_ns"`
	To    uint64  `json:"to_ns"`
	Count float64 `json:"count"`
}

// Assumptions of what bypass saves.
const (
	// slowdown is how many times as long translated code takes as the original: rounded up from the geometric mean of `make
	// bench-code`, 1.25. (The paper's translator made twice as many instructions.) Code that mostly calls and follows pointers
	// has 2 and more, so for the gaps that limit what bypass gains this is the bright side.
	slowdown = 1.3
	// A gap longer than these is left to run natively and has cost no more than as much: the paper's 4 µs, and this
	// project's for the Sentry.
	linuxGapLimit  = 4000
	sentryGapLimit = 8000
)

// saved returns the time in ns that bypass saves at gaps, with a crossing of the given time.
func saved(gaps *Histogram, crossing, limit float64) float64 {
	var ns float64
	for b, n := range gaps {
		if n > 0 {
			ns += n * (crossing - (slowdown-1)*min(bucketMid(b), limit))
		}
	}
	return max(ns, 0) // a site that does not pay is not bypassed
}

// estimate is a site over all of the time.
type estimate struct {
	rowSums           // as counted
	calls   float64   // per second
	perSec  Histogram // gaps per second
}

// newProfile makes estimates from what has been seen in successive times. Each is scaled by itself.
func newProfile(o *Options, cal *Calibration, times ...*sums) *Profile {
	p := &Profile{
		Target:    o.Target,
		ProbeNS:   cal.Probe,
		Crossing:  Crossing{Linux: cal.Crossing, Sentry: o.SentryCrossing, SentrySource: o.SentrySource},
		Sites:     []Site{},
		Histogram: []Bar{},
	}
	cost := 0.0
	for _, s := range times {
		p.Seconds += s.elapsed.Seconds()
		p.Observed += s.observed.Seconds()
		p.Windows += s.windows
		p.CPU += s.cpu.Seconds()
		p.Gaps += s.gaps
		p.Lost += s.lost()
		cost += s.cost.Seconds()
	}
	p.Windows = max(p.Windows, 1)
	p.Cost = ratio(cost, p.Seconds)
	rows := map[rowKey]*estimate{}
	var all Histogram
	for _, s := range times {
		perSecond := ratio(s.scale(cal), p.Seconds)
		for k, r := range s.rows {
			e := rows[k]
			if e == nil {
				e = &estimate{}
				rows[k] = e
			}
			e.add(r)
			e.calls += perSecond * float64(r.gaps+r.cut)
			p.Cut += r.cut
			for b, n := range r.hist {
				e.perSec[b] += perSecond * n
				all[b] += n
			}
		}
	}
	for _, e := range rows {
		p.CallsPerSecond += e.calls
	}
	// Time of the programs per second, in ns: here, and in a sandbox.
	here := 1e9 * ratio(p.CPU, p.Seconds)
	sandbox := here + p.CallsPerSecond*max(p.Crossing.Sentry-p.Crossing.Linux, 0)
	for k, e := range rows {
		site := newSite(k, e)
		site.Share = share(e.calls*p.Crossing.Linux, here)
		site.Saves.Linux = share(saved(&e.perSec, p.Crossing.Linux, linuxGapLimit), here)
		site.Saves.Sentry = share(saved(&e.perSec, p.Crossing.Sentry, sentryGapLimit), sandbox)
		p.Share += site.Share
		p.Saves.Linux += site.Saves.Linux
		p.Saves.Sentry += site.Saves.Sentry
		p.Sites = append(p.Sites, site)
	}
	p.Share, p.Saves.Linux, p.Saves.Sentry = min(p.Share, 1), min(p.Saves.Linux, 1), min(p.Saves.Sentry, 1)
	slices.SortFunc(p.Sites, func(a, b Site) int {
		return cmp.Or(-cmp.Compare(a.CallsPerSecond, b.CallsPerSecond), cmp.Compare(a.Syscall, b.Syscall),
			cmp.Compare(a.Site.File, b.Site.File), cmp.Compare(a.Site.Address, b.Site.Address))
	})
	p.Histogram = bars(&all)
	return p
}

func newSite(k rowKey, e *estimate) Site {
	s := Site{
		Syscall: syscallName(k.nr), Site: k.site, Gaps: e.gaps, Cut: e.cut, CallsPerSecond: e.calls,
		GapNS:     Percentiles{e.perSec.Quantile(0.5), e.perSec.Quantile(0.9), e.perSec.Quantile(0.99)},
		MeanNS:    ratio(e.gapNS, float64(e.gaps)),
		KernelNS:  ratio(e.sysNS, float64(e.sysN)),
		Histogram: bars(&e.hist),
	}
	if !k.caller.IsZero() {
		s.Caller = &k.caller
	}
	return s
}

// ratio returns a/b, 0 if b is 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// share returns a/b as a part of the whole. The CPU time of a short run is only known to 10 ms.
func share(a, b float64) float64 { return min(ratio(a, b), 1) }

// bars returns the part of the histogram that is not empty, by powers of two.
func bars(h *Histogram) []Bar {
	out := []Bar{}
	for e := range octaves {
		n := h.octave(e)
		if n == 0 && len(out) == 0 {
			continue
		}
		from := uint64(1) << e
		if e == 0 {
			from = 0
		}
		out = append(out, Bar{from, uint64(2) << e, n})
	}
	for len(out) > 0 && out[len(out)-1].Count == 0 {
		out = out[:len(out)-1]
	}
	return out
}

// JSON writes the profile as one object, on one line or indented.
func (p *Profile) JSON(w io.Writer, indent bool) error {
	e := json.NewEncoder(w)
	if indent {
		e.SetIndent("", "  ")
	}
	return e.Encode(p)
}
