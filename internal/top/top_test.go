package top

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ub/hot"
	"ub/sentry/statfile"
)

func readings() (a, b *Reading) {
	at := time.Unix(1000, 0)
	a, b = &Reading{At: at, TicksPerMicro: 1000}, &Reading{At: at.Add(2 * time.Second), TicksPerMicro: 1000}
	a.Counters[statfile.Native], b.Counters[statfile.Native] = 100, 300
	a.Counters[statfile.Bypassed], b.Counters[statfile.Bypassed] = 1000, 2800
	b.Counters[statfile.MissUnknown], b.Counters[statfile.GapsKept] = 10, 1
	a.Threads = []statfile.Thread{{TID: 1, Space: 1, Native: 100, Bypassed: 1000, SampleEvery: 16, Busy: true}, {TID: 2, Space: 1, Native: 900}}
	b.Threads = []statfile.Thread{{TID: 2, Space: 1, Native: 50}, {TID: 1, Space: 1, Native: 250, Bypassed: 2800, SampleEvery: 512, Busy: true}}
	g := statfile.Gap{
		Site: 0x401000, Caller: 0x402000, Space: 1, State: uint8(hot.Kept), Why: uint8(hot.WhySaves), Entered: 1000, Bypassed: 1000,
		PayoffNS: 4000, BaseNS: 4100, ActiveNS: 100, Hist: [16]uint32{4: 9, 7: 1},
	}
	a.Gaps = []statfile.Gap{g}
	quiet := g
	quiet.Site, quiet.State, quiet.Why = 0x500000, uint8(hot.RolledBack), uint8(hot.WhySlower)
	g.Entered, g.Bypassed, g.Misses = 3000, 2800, 200
	b.Gaps = []statfile.Gap{quiet, g}
	a.Gaps = append(a.Gaps, quiet)
	return a, b
}

func TestCompare(t *testing.T) {
	a, b := readings()
	v := Compare("42", a, b)
	if v.Syscalls != 1000 || v.Share != 0.9 || v.Misses != 5 || v.SavedMS != 3.6 {
		t.Errorf("%+v", v)
	}
	if len(v.Threads) != 2 || v.Threads[0].TID != 1 || v.Threads[0].Syscalls != 975 || v.Threads[1].Syscalls != 25 {
		t.Errorf("threads %+v", v.Threads)
	}
	g := v.Gaps[0]
	if len(v.Gaps) != 2 || g.Site != "0x401000" || g.Rate != 1000 || g.Share != 0.9 || g.MissRate != 100 || g.State != "kept" {
		t.Errorf("gaps %+v", v.Gaps)
	}
	// Bucket 4 ends at 2^12 ticks, 1000 to the microsecond.
	if g.NativeP50 != 4096 || g.NativeP90 != 4096 {
		t.Errorf("quantiles %d %d", g.NativeP50, g.NativeP90)
	}
}

func TestOutput(t *testing.T) {
	a, b := readings()
	v := Compare("42", a, b)
	var out bytes.Buffer
	if err := v.Table(&out, 1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sandbox 42: 1,000 syscalls/s, 90.0 % bypassed", "0x401000", "0x402000", "saves time", "... and 1 more"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "0x500000") {
		t.Error("more than one gap")
	}
	out.Reset()
	if err := v.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back View
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || strings.Count(out.String(), "\n") != 1 || back.Gaps[0].Site != "0x401000" {
		t.Errorf("%v: %s", err, out.String())
	}
}

// A sandbox may write anything into its file.
func TestNonsenseIsShown(t *testing.T) {
	a, b := readings()
	b.At = a.At
	b.Gaps[0].State, b.Gaps[0].Why = 255, 255
	b.Counters = statfile.Snapshot{}
	b.Threads[0].Native = 1
	var out bytes.Buffer
	if err := Compare("x", a, b).Table(&out, 10); err != nil {
		t.Fatal(err)
	}
}
