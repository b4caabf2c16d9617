package hot

import "testing"

// trace is a synthetic thread with a virtual clock in nanoseconds.
type trace struct {
	t          *Thread
	now        uint64
	candidates map[uint64]int
}

func newTrace(c Config) *trace {
	return &trace{t: NewThread(&c, 12345), candidates: map[uint64]int{}}
}

// gap lets one gap of the given user time pass, with a crossing.
func (tr *trace) gap(site, user, crossing uint64) {
	sampled := tr.t.Sample()
	began := tr.now
	tr.now += user + crossing
	if sampled && tr.t.Observe(site, began, user+crossing) == Candidate {
		tr.candidates[site]++
	}
}

var config = Config{SampleEvery: 4, Short: 5_000, MinShort: 32, Window: 100_000_000}

func TestTightLoopIsCandidateSoon(t *testing.T) {
	tr := newTrace(config)
	for n := 1; ; n++ {
		tr.gap(0x1000, 50, 4_000)
		if tr.candidates[0x1000] > 0 {
			if n < 32 || n > 32*8 {
				t.Errorf("candidate after %d gaps, want about 128", n)
			}
			return
		}
		if n > 1000 {
			t.Fatal("never a candidate")
		}
	}
}

func TestLongGapsAreNone(t *testing.T) {
	tr := newTrace(config)
	for range 20_000 {
		tr.gap(0x1000, 50_000, 4_000)
		tr.gap(0x2000, 100, 4_000) // the short one that makes the other look long
	}
	if tr.candidates[0x1000] != 0 {
		t.Errorf("a site with long gaps became a candidate")
	}
	if tr.candidates[0x2000] == 0 {
		t.Errorf("the site with short gaps did not")
	}
}

func TestRareShortGapsAreNone(t *testing.T) {
	tr := newTrace(config)
	for range 10_000 {
		tr.gap(0x1000, 100, 4_000)
		tr.now += 20_000_000 // the program sleeps in the kernel
	}
	if n := tr.candidates[0x1000]; n != 0 {
		t.Errorf("50 short gaps a second made a candidate %d times", n)
	}
}

func TestMostlyLongIsNone(t *testing.T) {
	tr := newTrace(config)
	for i := range 40_000 {
		user := uint64(100)
		if i%4 != 0 {
			user = 30_000
		}
		tr.gap(0x1000, user, 4_000)
	}
	if n := tr.candidates[0x1000]; n != 0 {
		t.Errorf("a site with three long gaps of four became a candidate %d times", n)
	}
}

// A loop over as many sites as the sampling distance must not hide any of them.
func TestSamplingDoesNotAlias(t *testing.T) {
	for period := 2; period <= 16; period++ {
		tr := newTrace(config)
		for range 4_000 {
			for s := range period {
				tr.gap(uint64(0x1000+16*s), 100, 4_000)
			}
		}
		if len(tr.candidates) != period {
			t.Errorf("loop over %d sites: %d candidates", period, len(tr.candidates))
		}
	}
}

func TestCrossingThatGetsDearer(t *testing.T) {
	tr := newTrace(config)
	for range 1000 {
		tr.gap(0x1000, 100, 800)
	}
	// Crossings now cost 12 µs, more than the old cost + Short: after a while they are the new measure.
	before := tr.candidates[0x1000]
	for range 10_000 {
		tr.gap(0x1000, 100, 12_000)
	}
	if tr.candidates[0x1000] <= before+10 {
		t.Errorf("short gaps are not recognised after crossings became dearer: %d candidates before, %d after", before, tr.candidates[0x1000])
	}
}

func TestManySitesKeepTheBusyOne(t *testing.T) {
	tr := newTrace(config)
	for i := range 40_000 {
		tr.gap(0x1000, 100, 4_000)
		tr.gap(uint64(0x100000+i*16), 100, 4_000) // never the same again
	}
	if tr.candidates[0x1000] == 0 {
		t.Error("the busy site was pushed out by sites seen once")
	}
	if len(tr.candidates) != 1 {
		t.Errorf("%d candidates, want only the busy one", len(tr.candidates))
	}
}

func TestSampleMean(t *testing.T) {
	for _, every := range []uint32{1, 2, 8, 100} {
		c := config
		c.SampleEvery = every
		th := NewThread(&c, 1)
		n := 0
		const calls = 100_000
		for range calls {
			if th.Sample() {
				n++
			}
		}
		if want := calls / int(every); n < want*9/10 || n > want*11/10 {
			t.Errorf("SampleEvery %d: %d of %d sampled", every, n, calls)
		}
	}
}

func BenchmarkNotSampled(b *testing.B) {
	th := NewThread(&Config{SampleEvery: 1 << 30, Short: 1, MinShort: 1, Window: 1}, 1)
	for b.Loop() {
		th.Sample()
	}
}

func BenchmarkObserve(b *testing.B) {
	th := NewThread(&config, 1)
	var now uint64
	for b.Loop() {
		now += 5000
		th.Observe(now&0xf0, now, 4000)
	}
}
