package profile

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	pp "github.com/google/pprof/profile"
)

// madeUp returns a profile of 10 s, 1 % of it observed: 500 short gaps behind a read and 10 long ones behind a write.
func madeUp() *Profile {
	s := newSums()
	s.elapsed, s.observed, s.cpu, s.windows, s.gaps = 10*time.Second, 100*time.Millisecond, 10*time.Second, 25, 512
	read := Place{File: "/lib/libc.so.6", Address: 0x1000, Symbol: "read", Offset: 0xd}
	r := s.row(rowKey{read, Place{File: "/bin/prog", Address: 0x420, Symbol: "main", Offset: 0x20}, 0})
	r.gaps, r.gapNS, r.sysN, r.sysNS = 500, 500*20, 500, 500*1000
	r.hist[bucketOf(20)] = 500
	r = s.row(rowKey{Place{File: "/lib/libc.so.6", Address: 0x2000, Symbol: "write", Offset: 0x10}, Place{}, 1})
	r.gaps, r.cut, r.gapNS = 10, 2, 10e6
	r.hist[bucketOf(1e6)] = 10
	o := Options{Target: "made up", SentryCrossing: 2100, SentrySource: "test"}
	return newProfile(&o, &Calibration{Crossing: 100}, s)
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Abs(b) }

func TestEstimates(t *testing.T) {
	p := madeUp()
	if len(p.Sites) != 2 || p.Gaps != 512 || p.Cut != 2 || p.Lost != 2 {
		t.Fatalf("%+v", p)
	}
	// 512 calls in 1 % of the time are 5120 a second.
	read, write := p.Sites[0], p.Sites[1]
	if !near(p.CallsPerSecond, 5120) || !near(read.CallsPerSecond, 5000) || !near(write.CallsPerSecond, 120) {
		t.Errorf("calls/s: %g, %g, %g", p.CallsPerSecond, read.CallsPerSecond, write.CallsPerSecond)
	}
	if read.Syscall != "read" || read.MeanNS != 20 || read.KernelNS != 1000 || read.Caller == nil || write.Caller != nil {
		t.Errorf("%+v", read)
	}
	if !near(read.Share, 5000*100/1e9) || !near(p.Share, 5120*100/1e9) {
		t.Errorf("shares: %g of %g", read.Share, p.Share)
	}
	// A gap is assumed to take 0.3 of what it takes longer. In a sandbox the program takes 2000 ns longer per call.
	gap := (slowdown - 1) * bucketMid(bucketOf(20))
	if want := 5000 * (100 - gap) / 1e9; !near(read.Saves.Linux, want) {
		t.Errorf("saves %g, want %g", read.Saves.Linux, want)
	}
	if want := 5000 * (2100 - gap) / (1e9 + 5120*2000); !near(read.Saves.Sentry, want) {
		t.Errorf("saves %g in a sandbox, want %g", read.Saves.Sentry, want)
	}
	if write.Saves != (Saves{}) {
		t.Errorf("bypass of long gaps saves %+v", write.Saves)
	}
}

// TestBeginning: what a program does once, in the window at its beginning, is not what it does all the time.
func TestBeginning(t *testing.T) {
	once, often := rowKey{nr: 12}, rowKey{nr: 0}
	start, rest := newSums(), newSums()
	start.elapsed, start.observed, start.windows, start.gaps = 10*time.Millisecond, 10*time.Millisecond, 1, 50
	start.row(once).gaps = 50
	rest.elapsed, rest.observed, rest.windows, rest.gaps = 990*time.Millisecond, 9900*time.Microsecond, 3, 100
	rest.row(often).gaps = 100
	p := newProfile(&Options{}, &Calibration{}, start, rest)
	if !near(p.Seconds, 1) || !near(p.CallsPerSecond, 10_050) || len(p.Sites) != 2 || !near(p.Sites[1].CallsPerSecond, 50) {
		t.Errorf("%+v", p)
	}
	// If nothing else was seen, it has to serve.
	r := runner{cal: &Calibration{}}
	if p = r.profile(start, &sums{elapsed: 90 * time.Millisecond, rows: map[rowKey]*rowSums{}}); !near(p.CallsPerSecond, 5000) {
		t.Errorf("%g calls/s", p.CallsPerSecond)
	}
}

// TestScale: the profiler's own time is not the program's.
func TestScale(t *testing.T) {
	s := newSums()
	s.elapsed, s.observed, s.cpu, s.windows = 10*time.Second, 100*time.Millisecond, 10*time.Second, 25
	r := s.row(rowKey{nr: 39})
	r.gaps, s.gaps = 100_000, 100_000
	r.hist[0] = 100_000
	cal := Calibration{Crossing: 100, Probe: 400}
	if got := s.scale(&cal); !near(got, 10e9/60e6) {
		t.Errorf("%g", got)
	}
	// No thread can be faster than the crossings.
	cal.Probe = 2000
	if got, want := s.scale(&cal), 10e9/(100_000*100.5); !near(got, want) {
		t.Errorf("%g, want %g", got, want)
	}
	// Windows got a quarter of what other times got: what clocks say for sure counts.
	cal.Probe = 100
	s.windowCPU = 25 * time.Millisecond
	if got, want := s.scale(&cal), 10e9/15e6; !near(got, want) {
		t.Errorf("%g, want %g", got, want)
	}
	// Without a CPU time only the time is left.
	s.cpu = 0
	if got := s.scale(&cal); !near(got, 100) {
		t.Errorf("%g", got)
	}
	if got := newSums().scale(&cal); got != 0 {
		t.Errorf("%g of nothing", got)
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := madeUp().Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"made up: 10.0 s, 1.00 % of it observed (25 windows)\n", "100 ns here (measured now), 2100 ns in a sandbox (test)\n",
		"5,000", "read+0xd (libc.so.6)", "main+0x20 (prog)\n", "write+0x10 (libc.so.6)", "total\n", "gaps by length\n", "2 cut by the end", "2 gaps are missing",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for _, l := range strings.Split(b.String(), "\n") {
		if strings.TrimRight(l, " ") != l {
			t.Errorf("spaces at the end of %q", l)
		}
	}
	b.Reset()
	if err := newProfile(&Options{Target: "idle"}, &Calibration{}, newSums()).Text(&b); err != nil || !strings.Contains(b.String(), "no system calls") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := madeUp().JSON(&b, false); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines", n)
	}
	var p Profile
	if err := json.Unmarshal(b.Bytes(), &p); err != nil || len(p.Sites) != 2 || p.Sites[0].Site.Symbol != "read" || len(p.Histogram) == 0 {
		t.Errorf("%v: %+v", err, p)
	}
	// An empty profile has lists, not null.
	b.Reset()
	if err := newProfile(&Options{}, &Calibration{}, newSums()).JSON(&b, false); err != nil || bytes.Contains(b.Bytes(), []byte("null")) {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestPprof(t *testing.T) {
	var b bytes.Buffer
	if err := madeUp().Pprof(&b, time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	p, err := pp.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.SampleType) != 3 || p.SampleType[0].Type != "gaps" || p.SampleType[1].Unit != "nanoseconds" || len(p.Sample) != 2 || p.DurationNanos != 10e9 || p.TimeNanos != 90e9 {
		t.Fatalf("%v", p)
	}
	s := p.Sample[0]
	if s.Value[0] != 50_000 || s.Value[1] != 5_000_000 || s.Label["syscall"][0] != "read" || len(s.Location) != 2 ||
		s.Location[0].Line[0].Function.Name != "read" || s.Location[1].Line[0].Function.Name != "main" {
		t.Errorf("%v", s)
	}
}
