package hot

import "math/rand/v2"

// sim is a synthetic program on a virtual clock, one tick to the nanosecond. It does with a Thread what a platform does,
// but that translations are there at once.
type sim struct {
	c     *Config
	th    *Thread
	now   uint64
	rng   *rand.Rand
	gaps  map[uint64]*Gap
	group Group

	crossing uint64  // what one costs
	wake     uint64  // what one costs more when the last passes were bypassed
	noise    float64 // share of passes during which something else has the CPU, for 2 ms

	growth func(*Gap) Growth

	spin      uint64 // what a crossing costs after spinAfter ticks without bypass, if not 0
	spinAfter uint64
	bypassed  uint64 // when a pass was last bypassed

	asleep                        int // bypassed passes in a row
	passes, entered, timed, pairs int
	harms                         int
	inGaps                        uint64 // ticks spent in gaps
	changes                       []change
	found                         map[uint64]uint64 // when a site became a candidate
}

type change struct {
	key uint64
	at  uint64
	s   State
	w   Why
}

// step is one pass of the program.
type step struct {
	key  uint64
	user uint64 // ticks natively
	btc  uint64 // ticks in translated code
	end  Exit   // how bypass ends, ExitSyscall if zero
	in   uint64 // ticks in the syscall that follows
}

func testConfig() Config {
	return Config{
		Controller: true, SampleMin: 16, SampleMax: 512, SampleWithin: 2e6, QuietSamples: 16, MinRate: 2500, Second: 1e9, Short: 8000, MaxCrossing: 20_000,
		MinShort: 16, MinShortPercent: 6, Window: 500e6, WindowPasses: 32, WarmPasses: 8, LongWarm: 20e6, EpochWarm: 300e6, EpochEvery: 30e9, LongPasses: 128, Margin: 8, Floor: 300, Slowdown: 150,
		MinSamples: 4, MinPairs: 6, MaxPairs: 24, KeepPermille: 20, DropPermille: 100, YieldPercent: 20, MinPayoff: 50, Clip: 50e3, MaxPass: 10e6,
		Burst: 16, Recheck: 100e6, Grow: 10e6, GrowMax: 60e6, Retry: 500e6, RetryMax: 60e9, RetireAfter: 6, TranslateFirst: 5e6, TranslatePercent: 5, TranslateEarly: 250e6, TranslateLaterPercent: 50, Levels: 3, ExtendPercent: 10,
	}
}

func newSim(c Config, seed uint64) *sim {
	return &sim{
		c: &c, th: NewThread(&c, uint32(seed)), now: 1e9, rng: rand.New(rand.NewPCG(seed, 1)), gaps: map[uint64]*Gap{},
		crossing: 4000, wake: 3000, growth: func(*Gap) Growth { return Stable }, found: map[uint64]uint64{},
	}
}

// run has the program make passes, in turn those of each step, until d ticks are over.
func (s *sim) run(d uint64, steps ...step) {
	for end := s.now + d; s.now < end; {
		for _, st := range steps {
			s.pass(st)
		}
	}
}

func (s *sim) pass(st step) {
	if s.th.Pass() && s.th.Turn(s.now) {
		s.pairs++
		if s.th.Settle(s.now, &s.group, s.growth, s.changed) {
			s.harms++
			for _, g := range s.gaps {
				s.group.RollBack(s.c, g, s.now)
			}
		}
	}
	began := s.now
	g := s.gaps[st.key]
	exit := ExitNative
	took := uint64(0)
	if g != nil && g.Gate() > s.th.Floor() {
		s.entered++
		took += st.btc + 50
		if exit = ExitSyscall; st.end != ExitNative {
			exit = st.end
		}
	}
	if exit != ExitSyscall {
		if exit == ExitNative {
			took += st.user
		}
		if s.spin != 0 && s.now-s.bypassed > s.spinAfter {
			took += s.spin
		} else {
			took += s.crossing
		}
		if s.asleep > 8 {
			took += s.wake
		}
		s.asleep = 0
	} else {
		s.asleep++
		s.bypassed = s.now
	}
	took += uint64(s.rng.Int64N(int64(took/10 + 1)))
	if s.rng.Float64() < s.noise {
		took += 2_000_000
	}
	s.now += took
	s.inGaps += took
	s.passes++
	if s.th.Timed() {
		s.timed++
		switch s.th.Record(st.key, g, exit, began, took) {
		case Candidate:
			if s.gaps[st.key] == nil {
				s.found[st.key] = s.now
				g := &Gap{Data: st.key}
				s.gaps[st.key] = g
				g.HasCode(s.c, s.now)
			}
		case Settled:
			g.Settled()
		case Due:
			g.Again(s.c, s.now)
		}
	}
	s.now += st.in
}

func (s *sim) changed(g *Gap, ev Event) {
	s.changes = append(s.changes, change{g.Data.(uint64), s.now, g.State, g.Why})
}

func (s *sim) state(key uint64) State {
	if g := s.gaps[key]; g != nil {
		return g.State
	}
	return Waiting
}
