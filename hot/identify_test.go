package hot

import "testing"

// A new hot site is found within 50 ms, also when the program has been stable for long.
func TestNewSiteIsFoundSoon(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(testConfig(), seed+1)
		s.run(2_000*ms, tight)
		s.run(2_000*ms, long)
		fresh := step{key: 0x9000, user: 100, btc: 150, in: 300}
		began := s.now
		s.run(60*ms, fresh)
		if at := s.found[fresh.key]; at == 0 || at-began > 50*ms {
			t.Errorf("seed %d: found after %d ms", seed, int64(at-began)/ms)
		}
	}
}

func TestSlowThreadsAreLeftAlone(t *testing.T) {
	s := newSim(testConfig(), 1)
	s.run(5_000*ms, step{key: 0x1000, user: 100, btc: 100, in: 1 * ms}) // 1000 syscalls per second
	if len(s.found) != 0 {
		t.Error("a thread with few syscalls has a candidate")
	}
}

func TestSitesThatAreSeldomShortAreNone(t *testing.T) {
	s := newSim(testConfig(), 1)
	steps := make([]step, 40)
	for i := range steps {
		steps[i] = step{key: 0x1000, user: 30_000, in: 300}
	}
	steps[0].user = 100
	s.run(3_000*ms, steps...)
	if len(s.found) != 0 {
		t.Error("a site with one short gap in 40 became a candidate")
	}
}

// A loop over as many sites as the sampling distance must not hide any of them.
func TestSamplingDoesNotAlias(t *testing.T) {
	c := testConfig()
	c.SampleMax = c.SampleMin
	for period := 2; period <= 20; period++ {
		s := newSim(c, 5)
		var steps []step
		for i := range period {
			steps = append(steps, step{key: uint64(0x1000 + 16*i), user: 100, btc: 6_000, in: 300})
		}
		s.run(400*ms, steps...)
		if len(s.found) != period {
			t.Errorf("loop over %d sites: %d candidates", period, len(s.found))
		}
	}
}

// The table is bounded, and a busy site stays in it whatever comes by.
func TestManySitesKeepTheBusyOne(t *testing.T) {
	s := newSim(testConfig(), 1)
	for i := range 200_000 {
		s.pass(step{key: 0x1000, user: 100, btc: 150, in: 300})
		s.pass(step{key: uint64(0x100000 + i*16), user: 100, in: 300}) // never the same again
	}
	if s.found[0x1000] == 0 {
		t.Error("the busy site was pushed out by sites seen once")
	}
	if len(s.found) != 1 {
		t.Errorf("%d candidates, want only the busy one", len(s.found))
	}
}

func TestSampleMean(t *testing.T) {
	for _, every := range []uint32{1, 2, 8, 100} {
		c := testConfig()
		c.SampleMin, c.SampleMax, c.Controller = every, every, false
		th := NewThread(&c, 1)
		n := 0
		const calls = 100_000
		for range calls {
			if th.Pass() {
				th.Turn(0)
			}
			if th.Timed() {
				n++
			}
		}
		if want := calls / int(every); n < want*9/10 || n > want*11/10 {
			t.Errorf("distance %d: %d of %d sampled", every, n, calls)
		}
	}
}

func TestWithoutControllerAllIsEntered(t *testing.T) {
	c := testConfig()
	c.Controller = false
	s := newSim(c, 1)
	s.run(500*ms, slow)
	if s.state(slow.key) != Kept || s.pairs != 0 {
		t.Errorf("%v, %d pairs", s.state(slow.key), s.pairs)
	}
}

func BenchmarkPass(b *testing.B) {
	c := testConfig()
	c.SampleMin, c.SampleMax = 1<<30, 1<<30
	th := NewThread(&c, 1)
	var g Gap
	n := 0
	for b.Loop() {
		if th.Pass() {
			th.Turn(0)
		}
		if th.Timed() || g.Gate() > th.Floor() {
			n++
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	c := testConfig()
	th := NewThread(&c, 1)
	var g Gap
	g.HasCode(&c, 1)
	now := uint64(1e9)
	for b.Loop() {
		if th.Pass() {
			th.Turn(now)
		}
		now += 5000
		th.Record(now&0xf0, &g, ExitSyscall, now, 4000)
	}
}

// The same where most gaps are long, and the new site is a quarter of them.
func TestNewSiteIsFoundSoonAmongLongGaps(t *testing.T) {
	for seed := range uint64(20) {
		s := newSim(testConfig(), seed+1)
		s.run(2_000*ms, long, slow, long)
		fresh := step{key: 0x9000, user: 300, btc: 350, in: 300}
		began := s.now
		s.run(60*ms, long, slow, fresh, fresh)
		if at := s.found[fresh.key]; at == 0 || at-began > 50*ms {
			t.Errorf("seed %d: found after %d ms", seed, int64(at-began)/ms)
		}
	}
}
