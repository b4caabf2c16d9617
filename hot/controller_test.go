package hot

import "testing"

const ms = 1_000_000

var (
	// A tight loop's gap, a long computation that is slower when translated, one that is never bypassed to its end.
	tight   = step{key: 0x1000, user: 50, btc: 100, in: 300}
	slow    = step{key: 0x2000, user: 3_000, btc: 11_000, in: 300}
	blocked = step{key: 0x3000, user: 500, btc: 700, end: ExitStop, in: 300}
	long    = step{key: 0x4000, user: 60_000, btc: 61_000, in: 300}
)

// noBypass is for the baseline.
var noBypass = Config{Controller: true, SampleMin: 1 << 30, SampleMax: 1 << 30, MinRate: 1 << 40, Second: 1}

func (s *sim) perPass() float64 { return float64(s.now-1e9) / float64(s.passes) }

func TestWhatPaysIsKeptAndTheRestLeftAlone(t *testing.T) {
	s := newSim(testConfig(), 1)
	s.run(400*ms, tight, tight, tight, slow, blocked, long)
	if s.state(tight.key) != Kept {
		t.Errorf("the tight gap is %v", s.state(tight.key))
	}
	for _, st := range []step{slow, blocked} {
		if got := s.state(st.key); got != RolledBack {
			t.Errorf("gap %#x is %v", st.key, got)
		}
	}
	if s.gaps[long.key] != nil {
		t.Error("a long gap was a candidate")
	}
}

// The same under load: something else takes the CPU away during a tenth of all windows.
func TestDecisionsUnderLoad(t *testing.T) {
	wrong := 0
	for seed := range uint64(20) {
		s := newSim(testConfig(), seed+1)
		s.noise = 0.001
		s.run(1000*ms, tight, tight, slow, blocked)
		if s.state(tight.key) != Kept {
			wrong++
		}
		for _, st := range []step{slow, blocked} {
			if got := s.state(st.key); got != RolledBack && got != Trial && got != Retired {
				wrong++
			}
		}
	}
	if wrong > 2 {
		t.Errorf("%d of 60 gaps are in the wrong state", wrong)
	}
}

// A program whose every site is a loss ends within 1 % of baseline.
func TestLosersCostLittle(t *testing.T) {
	const d = 10_000 * ms
	base := newSim(noBypass, 1)
	base.run(d, slow, blocked)
	s := newSim(testConfig(), 1)
	s.run(d, slow, blocked)
	if b, p := base.perPass(), s.perPass(); p > 1.01*b {
		t.Errorf("%.0f ns per pass, %.0f without bypass", p, b)
	}
	if s.gaps[slow.key] == nil || s.gaps[blocked.key] == nil {
		t.Error("nothing was tried: this tested nothing")
	}
}

// On a stationary workload, whatever it pays, decisions don't go back and forth: the number of changes grows with the
// logarithm of time.
func TestNoOscillation(t *testing.T) {
	for _, btc := range []uint64{100, 2_000, 6_000, 6_800, 7_000, 7_200, 9_000} {
		s := newSim(testConfig(), 7)
		s.run(30_000*ms, step{key: 0x1000, user: 3_000, btc: btc, in: 300})
		early := 0
		for _, c := range s.changes {
			if c.at < 16_000*ms {
				early++
			}
		}
		if n := len(s.changes); n > 16 || n-early > 4 {
			t.Errorf("btc %d: %d changes in 30 s, %d of them in the second half: %+v", btc, n, n-early, s.changes)
		}
	}
}

func TestPhaseChangeIsFollowed(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(testConfig(), seed+1)
		good, bad := tight, tight
		bad.user, bad.btc = 3_000, 20_000
		stopped := tight
		stopped.end = ExitStop // takes as long natively as the good ones
		for i, phase := range []struct {
			st   step
			want State
		}{{good, Kept}, {bad, RolledBack}, {good, Kept}, {stopped, RolledBack}, {good, Kept}} {
			s.run(200*ms, phase.st)
			// Retries double, so by the end of a phase a gap may be on trial again, but never kept.
			if got := s.state(0x1000); (got == Kept) != (phase.want == Kept) {
				t.Errorf("seed %d: 200 ms after the begin of phase %d: %v, want %v", seed, i, got, phase.want)
			}
			s.run(2800*ms, phase.st)
			if got := s.state(0x1000); (got == Kept) != (phase.want == Kept) {
				t.Errorf("seed %d: at the end of phase %d: %v, want %v", seed, i, got, phase.want)
			}
		}
	}
}

// A few passes that are very long and slower when translated: the others hide them from the median.
func TestRareLongPasses(t *testing.T) {
	s := newSim(testConfig(), 3)
	steps := make([]step, 50)
	for i := range steps {
		steps[i] = tight
	}
	steps[17].user, steps[17].btc = 1*ms, 3*ms
	s.run(20_000*ms, steps...)
	if got := s.state(tight.key); got == Kept {
		t.Error("kept: each 50th pass takes 2 ms longer")
	}
}

// Bypass of some gaps makes the crossings of the others dearer, by more than it saves.
func TestProgramThatIsSlowerAsAWhole(t *testing.T) {
	var steps []step
	for range 10 {
		steps = append(steps, step{key: 0x1000, user: 50, btc: 100, in: 300})
	}
	steps = append(steps, step{key: 0x2000, user: 15_000, btc: 15_000, in: 300})
	run := func(c Config) *sim {
		s := newSim(c, 3)
		s.crossing, s.wake = 1000, 30_000
		s.run(30_000*ms, steps...)
		return s
	}
	base, s := run(noBypass), run(testConfig())
	if s.harms == 0 {
		t.Error("the harm was not seen")
	}
	if b, p := base.perPass(), s.perPass(); p > 1.02*b {
		t.Errorf("%.0f ns per pass, %.0f without bypass", p, b)
	}
}

// Without bypass crossings become cheap, but only after 250 ms: bypass seems to pay, and does not.
func TestCheapCrossingsThatBypassPrevents(t *testing.T) {
	run := func(c Config, btc uint64) *sim {
		s := newSim(c, 3)
		s.spin, s.spinAfter = 500, 250*ms
		s.run(60_000*ms, step{key: 0x1000, user: 1_000, btc: btc, in: 300})
		return s
	}
	base, s := run(noBypass, 3_000), run(testConfig(), 3_000)
	if s.harms == 0 {
		t.Error("the harm was not seen")
	}
	if b, p := base.perPass(), s.perPass(); p > 1.12*b { // over a minute, ever less later
		t.Errorf("%.0f ns per pass, %.0f without bypass", p, b)
	}
	// The same, but bypass is faster than cheap crossings as well.
	if s := run(testConfig(), 800); s.state(0x1000) != Kept {
		t.Errorf("%v, with 0.8 µs instead of 1.5", s.state(0x1000))
	}
}

// Profiling is below 10 % of the passes while things change, and near zero when they don't.
func TestSamplingAdapts(t *testing.T) {
	s := newSim(testConfig(), 1)
	s.run(3_000*ms, tight)
	timed, passes := s.timed, s.passes
	s.run(3_000*ms, tight)
	if share := float64(s.timed-timed) / float64(s.passes-passes); share > 0.005 {
		t.Errorf("%.2f %% of the passes of a stable program are measured", 100*share)
	}
	s = newSim(testConfig(), 1)
	s.run(3_000*ms, long)
	timed = s.timed
	began := s.now
	s.run(9_000*ms, long)
	// A sample takes some 100 ns.
	if share := float64(s.timed-timed) * 100 / float64(s.now-began); share > 0.0005 {
		t.Errorf("%.3f %% of the time of a program without short gaps goes into samples", 100*share)
	}
}

// A path that ends too early is allowed to grow, and made smaller again when that does not pay.
func TestPathLimits(t *testing.T) {
	for _, grown := range []uint64{100, 3_000} {
		s := newSim(testConfig(), 1)
		s.wake = 0
		st := step{key: 0x1000, user: 50, btc: 100, end: ExitMiss, in: 300}
		for range 800_000 {
			g := s.gaps[st.key]
			st.end, st.btc = ExitMiss, 100
			if g != nil && g.Level >= 1 {
				st.end, st.btc = ExitNative, grown
			} else if s.rng.IntN(3) > 0 {
				st.end = ExitNative // a third of the passes end at the path's
			}
			s.pass(st)
		}
		want := uint32(1)
		if grown > 2_000 {
			want = 0
		}
		if g := s.gaps[st.key]; g.State != Kept || g.Level != want {
			t.Errorf("passes of the larger path take %d: %v at level %d, want %d", grown, g.State, g.Level, want)
		}
	}
}

// On a machine that is hopelessly overloaded a program that clearly gains must not be taken for one that loses.
func TestOverloadIsNoHarm(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		s := newSim(testConfig(), seed+1)
		s.noise = 0.01
		s.run(10_000*ms, tight, tight, tight, long, step{key: 0x5000, user: 300, btc: 400, end: ExitStop, in: 300})
		if s.harms > 0 || s.state(tight.key) != Kept {
			lost++
		}
	}
	if lost > 3 {
		t.Errorf("%d of 20 programs lost bypass", lost)
	}
}
