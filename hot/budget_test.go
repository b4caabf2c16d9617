package hot

import "testing"

// Translation takes a bounded part of what crossings have taken, whatever a single one takes, and begins at once.
func TestTranslationIsPaidFromCrossings(t *testing.T) {
	c := testConfig()
	c.TranslateFirst, c.TranslatePercent = 5*ms, 10
	for _, each := range []uint64{1 * ms / 2, 5 * ms, 30 * ms} {
		var b Budget
		n, crossings := 0, uint64(0)
		for range 100_000 { // half a second of crossings
			for b.Allows(&c) {
				b.Spend(each)
				n++
			}
			b.Lost(1, 5_000)
			crossings += 5_000
		}
		if most := c.TranslateFirst + c.TranslateEarly/10 + (crossings-c.TranslateEarly)/2 + each; uint64(n)*each > most {
			t.Errorf("%d translations of %d µs in %d ms of crossings", n, each/1000, crossings/ms)
		}
		if n < 2 {
			t.Errorf("%d translations of %d µs", n, each/1000)
		}
	}
	var b Budget
	b.Spend(100 * ms)
	if b.Lost(1, 250*ms); b.Allows(&c) {
		t.Error("100 ms of translation for 250 ms of crossings")
	}
	if b.Lost(1, 250*ms); !b.Allows(&c) {
		t.Error("no 100 ms of translation for half a second of crossings")
	}
	c.TranslatePercent = 0
	if b.Spend(1 << 40); !b.Allows(&c) {
		t.Error("0 does not mean that there is no bound")
	}
}

// A program that crosses little pays for few translations.
func TestThreadsWithFewSyscallsEarnNothing(t *testing.T) {
	s := newSim(testConfig(), 1)
	s.run(500*ms, step{key: 0x1000, user: 100, in: 1 * ms})
	if n := s.th.Crossing(); n != 0 {
		t.Errorf("%d ticks per crossing of a slow thread count", n)
	}
	s = newSim(testConfig(), 1)
	s.run(500*ms, long, step{key: 0x1000, user: 100, in: 300})
	if n := s.th.Crossing(); n < s.crossing || n > s.crossing*5/4 {
		t.Errorf("a crossing counts as %d ticks, and takes %d", n, s.crossing)
	}
	s = newSim(testConfig(), 1)
	s.noise = 0.02
	s.run(500*ms, step{key: 0x1000, user: 100, in: 300})
	if n := s.th.Crossing(); n > 2*s.crossing*5/4+4_000 {
		t.Errorf("on a busy machine a crossing counts as %d ticks, and takes %d", n, s.crossing)
	}
}
