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
