package hot

import "testing"

// A loop of short gaps that lasts half a second, on a machine where crossings are as cheap as they get: what bypass saves
// is beyond doubt, so nearly every pass is bypassed, and nothing is undone. Comparisons that need long windows without bypass would
// take a second of the program.
func TestClearWinnerIsBypassedNearlyAlways(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    uint64 // what the syscall takes
		btc   uint64
		noise float64
	}{{"getpid", 40, 60, 0}, {"pwrite", 400, 80, 0}, {"write 4 KiB", 450, 200, 0}, {"under load", 400, 80, 0.001}} {
		for seed := range uint64(10) {
			s := newSim(testConfig(), seed+1)
			s.noise = tt.noise
			s.crossing, s.wake, s.spin, s.spinAfter = 2000, 3000, 450, 50*ms
			s.run(500*ms, step{key: 0x1000, user: 20, btc: tt.btc, in: tt.in})
			if share := float64(s.entered) / float64(s.passes); share < 0.95 {
				t.Errorf("%s, seed %d: %.1f %% of the passes are bypassed, in %d pairs", tt.name, seed, 100*share, s.pairs)
			}
			if n := len(s.changes); n != 1 || s.state(0x1000) != Kept {
				t.Errorf("%s, seed %d: %v after %d decisions", tt.name, seed, s.state(0x1000), n)
			}
		}
	}
}

// A gap that takes some microseconds can be judged in long windows only. It is bypassed while it is, if it is faster than it
// was before there was code; and when it has been decided, windows without bypass are few.
func TestMarginalWinnerIsBypassedWhileItIsTried(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(testConfig(), seed+1)
		s.run(1000*ms, step{key: 0x1000, user: 1_500, btc: 2_000, in: 500})
		if share := float64(s.entered) / float64(s.passes); share < 0.9 {
			t.Errorf("seed %d: %v, %.1f %% of the passes are bypassed in the first second, in %d pairs", seed, s.state(0x1000), 100*share, s.pairs)
		}
		s.run(3_000*ms, step{key: 0x1000, user: 1_500, btc: 2_000, in: 500})
		if share := float64(s.entered) / float64(s.passes); share < 0.9 || s.state(0x1000) != Kept {
			t.Errorf("seed %d: %v, %.1f %% of the passes are bypassed in the first seconds, in %d pairs", seed, s.state(0x1000), 100*share, s.pairs)
		}
		s.run(7_000*ms, step{key: 0x1000, user: 1_500, btc: 2_000, in: 500})
		began, entered, passes := s.now, s.entered, s.passes
		s.run(20_000*ms, step{key: 0x1000, user: 1_500, btc: 2_000, in: 500})
		if share := float64(s.entered-entered) / float64(s.passes-passes); share < 0.97 {
			t.Errorf("seed %d: %.1f %% of the passes of %d s later", seed, 100*share, (s.now-began)/1e9)
		}
	}
}

// Crossings that are cheap only without bypass: the loss ends within seconds.
func TestHarmIsSeenSoon(t *testing.T) {
	for seed := range uint64(5) {
		s := newSim(testConfig(), seed+1)
		s.spin, s.spinAfter = 500, 250*ms
		st := step{key: 0x1000, user: 1_000, btc: 3_000, in: 300}
		s.run(5_000*ms, st)
		if s.harms == 0 {
			t.Errorf("seed %d: not seen in 5 s", seed)
		}
	}
}

// A gap that short windows can decide about does not wait for those that need long ones, which come each few seconds: natively
// it would make the crossings of a program dear that has next to none left.
func TestShortWindowsComeFirst(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(testConfig(), seed+1)
		marginal := step{key: 0x1000, user: 1_500, btc: 2_000, in: 500}
		s.run(6_000*ms, marginal)
		if s.state(marginal.key) != Kept {
			t.Fatalf("seed %d: %v", seed, s.state(marginal.key))
		}
		fresh := step{key: 0x2000, user: 100, btc: 150, in: 300}
		began := s.now
		for s.now < began+3_000*ms && s.state(fresh.key) != Kept {
			s.run(ms, marginal, fresh)
		}
		if took := (s.now - began) / ms; took > 200 {
			t.Errorf("seed %d: kept after %d ms", seed, took)
		}
	}
}
