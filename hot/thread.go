package hot

// Exit says how a pass through a gap ended that was bypassed, at least in part.
type Exit uint8

const (
	ExitNative  Exit = iota // not entered
	ExitSyscall             // the next syscall was reached
	ExitMiss                // the path had an end
	ExitStop                // an instruction that is not translated, or a fault
)

// mode is what a thread does in a stretch of passes.
type mode uint8

const (
	free     mode = iota // nothing is measured; gaps that are kept are bypassed
	sampled              // the same, measured
	probe                // the same, and what has code is bypassed
	active               // half a pair: measured; what is on trial is bypassed as well
	baseline             // half a pair: measured; nothing is bypassed
)

// kind is how long the windows of a pair are.
type kind uint8

const (
	shortPair kind = iota
	longPair       // long enough for crossings to be what they are without bypass, mostly
	epochPair      // and in any case
)

// Thread is the identifier and the schedule of one thread of the program. It needs no lock.
//
// Its passes (gaps gone through) form stretches, of which each has a mode. Pass and the other small methods are for every
// pass and cost next to nothing; Turn is called where one stretch ends and another begins.
type Thread struct {
	c     *Config
	left  uint32 // passes in this stretch
	mode  mode
	floor uint32

	warm      uint32 // passes of this window that don't count
	warmUntil uint64 // when a long window begins to be measured, 0 when it is
	half      uint8  // of the pair: 0 or 1
	wants     bool   // a gap on trial or kept was seen: pairs make sense
	busy      bool   // the thread makes many syscalls
	kind      kind   // of the present pair
	nextKind  kind
	alarmed   bool // the present burst is for news that a sample brought
	lenient   bool // a gap is bypassed that is not decided about yet: pairs follow each other sooner
	rng       rng
	dist      uint32 // mean distance of samples
	quiet     uint32 // samples without news at this distance
	burst     uint32 // pairs that follow at once
	hurried   uint32 // pairs that have followed soon after such
	stretch   uint32
	samples   uint32

	next      uint64 // when the next pair is due
	began     uint64 // the present pair
	spacing   uint64
	stirred   uint64 // when a sample last caused a burst
	stirPause uint64 // how long until another one may

	rate  rate
	cross crossing
	table table
}

// NewThread returns a thread that has seen nothing. c must not change afterwards; seed makes the sampling of threads
// differ, so that a loop's period does not hide a site from all of them.
func NewThread(c *Config, seed uint32) *Thread {
	t := &Thread{c: c, rng: rng(seed | 1), dist: c.SampleMin, busy: c.MinRate == 0}
	t.setFloor(free)
	t.start(free, t.distance())
	return t
}

// Pass is called where a gap begins. When it returns true, Turn must be called before anything else.
func (t *Thread) Pass() bool {
	t.left--
	return t.left == 0
}

// Timed reports whether the pass that begins is to be measured and given to Record.
func (t *Thread) Timed() bool { return t.mode != free && t.warmUntil == 0 }

// Floor is what the gate of a gap must exceed for it to be bypassed now.
func (t *Thread) Floor() uint32 { return t.floor }

// Distance is the present mean distance of samples, Busy whether the thread makes many syscalls.
func (t *Thread) Distance() uint32 { return t.dist }
func (t *Thread) Busy() bool       { return t.busy }

// Reset forgets gaps, because the thread is in another address space.
func (t *Thread) Reset() {
	t.table = table{}
	t.wants, t.nextKind = false, shortPair
	t.mode, t.warmUntil = free, 0 // a pair that was begun is void
	t.setFloor(free)
	t.dist, t.quiet = t.c.SampleMin, 0
}

func (t *Thread) start(m mode, passes uint32) {
	if m != t.mode {
		t.setFloor(m)
		t.mode = m
	}
	t.left, t.stretch = passes, passes
}

func (t *Thread) setFloor(m mode) {
	if t.floor = m.floor(); !t.c.Controller {
		t.floor = GateNative
	}
}

// floor is what the gate of a gap must exceed for it to be bypassed.
func (m mode) floor() uint32 {
	switch m {
	case probe:
		return GateNative
	case active:
		return GateProbe
	case baseline:
		return GateKept
	}
	return GateTrial
}

// Turn ends a stretch and begins the next one, with the pass that begins now. When it returns true, a pair of windows is
// complete, and Settle must be called before the pass.
func (t *Thread) Turn(now uint64) (pair bool) {
	if busy, known := t.rate.observe(t.c, now, uint64(t.stretch)); known {
		t.busy = busy
		t.dist = min(t.dist, t.longest())
	}
	switch t.mode {
	case free:
		t.sample()
		return false
	case active, baseline:
		if t.warmUntil != 0 {
			if now < t.warmUntil {
				t.start(t.mode, warmStep)
			} else {
				t.warmUntil = 0
				t.start(t.mode, t.c.LongPasses)
			}
			return false
		}
		if t.half == 0 {
			t.half = 1
			t.startWindow(active+baseline-t.mode, now)
			return false
		}
		pair = true
		t.endPair(now)
	}
	if t.wants && now >= t.next && t.c.Controller {
		t.began = now
		t.half, t.kind = 0, t.nextKind
		// In random order, so that no rhythm of the program's favours one.
		t.startWindow(active+mode(t.rng.next()&1), now)
		return pair
	}
	if d := t.distance(); d > 1 {
		t.start(free, d-1)
	} else {
		t.sample()
	}
	return pair
}

func (t *Thread) sample() {
	const probes = 8 // samples for each
	if t.samples++; t.samples%probes == 0 && t.c.Controller {
		t.start(probe, 1)
	} else {
		t.start(sampled, 1)
	}
}

// warmStep is the number of passes after which a thread looks whether it is warm.
const warmStep = 64

func (t *Thread) startWindow(m mode, now uint64) {
	switch t.kind {
	case longPair:
		t.warmUntil = now + t.c.LongWarm
	case epochPair:
		t.warmUntil = now + t.c.EpochWarm
	}
	if t.warmUntil != 0 {
		t.start(m, warmStep)
		return
	}
	t.warm = t.c.WarmPasses
	t.start(m, t.warm+t.c.WindowPasses)
}

// Stir has the thread look closely for a while: something has changed.
func (t *Thread) Stir(now uint64) {
	t.dist, t.quiet = t.c.SampleMin, 0
	t.burst, t.hurried, t.spacing, t.next, t.alarmed = t.c.Burst, 0, 0, now, false
	t.wants = true
}

// Look has the thread sample as often as it may: there may be news.
func (t *Thread) Look() { t.dist, t.quiet = t.c.SampleMin, 0 }

// alarm is Stir for news that a sample brought. If the burst that follows changes nothing, the next one has to wait longer.
func (t *Thread) alarm(now uint64) {
	if now-t.stirred < t.stirPause {
		return
	}
	t.stirPause = min(max(2*t.stirPause, t.c.Recheck), 20*t.c.Recheck)
	t.stirred = now
	t.Stir(now)
	t.alarmed = true
}

// Record takes a measured pass: key names the site, and the caller if that counts; g is the gap if there is one. took is
// what the caller's Switch took, until the next syscall arrived.
func (t *Thread) Record(key uint64, g *Gap, exit Exit, began, took uint64) Verdict {
	e, fresh := t.table.find(key, began)
	e.gap, e.at = g, began
	gate, grows := GateNative, uint64(0)
	if g != nil {
		grows = g.grows.Load()
		if gate = g.Gate(); gate >= GateTrial && grows == 0 {
			t.wants = true
		}
		if n := g.trials.Load(); n != e.trial {
			// Somebody has begun a trial: take part.
			e.trial, e.levels, e.run, e.bad = n, 0, 0, 0
			if t.stirPause = 0; grows == 0 {
				t.Stir(began)
			} else {
				t.Look()
			}
		}
	}
	if grows != 0 {
		if began >= grows {
			return Settled
		}
		return None
	}
	var v Verdict
	switch t.mode {
	case active, baseline:
		if t.warm > 0 {
			t.warm--
			return None
		}
		if t.mode == baseline {
			e.base.add(t.c, took, exit)
			// The identifier does not stop for a pair.
			if gate == GateNative && (g == nil || g.retry.Load() == 0) {
				v, _ = t.identify(e, began, took)
			} else {
				e.count(took)
				t.limit(took) // what crossings take is known anew
			}
		} else if gate < GateTrial || exit != ExitNative {
			e.active.add(t.c, took, exit)
		}
		return v
	}
	var news bool
	switch {
	case gate == GateProbe && exit != ExitNative:
		v, news = t.probed(e, exit, began)
	case exit != ExitNative:
		news = t.compare(e, exit, began, took)
	case gate >= GateTrial:
		// On trial, and this is no window.
	case g != nil && g.retry.Load() != 0:
		v, news = t.revisit(e, began, took)
	default:
		v, news = t.identify(e, began, took)
	}
	t.adapt(news || fresh)
	return v
}

// compare looks at a sample with bypass: whether it took longer than it would have without. Enough of these tell of a
// change.
func (t *Thread) compare(e *track, exit Exit, now, took uint64) (news bool) {
	const enough = 4
	if base := e.gap.base.Load(); exit == ExitSyscall && (took <= base || base == 0) {
		e.bad -= min(e.bad, 3)
		return false
	}
	if e.bad++; e.bad >= enough {
		e.bad = 0
		t.alarm(now)
	}
	return e.rare(t.c, now) || e.bad != 1
}

// rare reports whether the last odd sample is long ago: a single one is no news where they are frequent.
func (e *track) rare(c *Config, now uint64) bool {
	was := e.odd
	e.odd = now
	return now-was > c.Recheck
}

// revisit looks at a native sample of a gap that was rolled back. It is due when its gaps are short and its time has come;
// or when they have become much shorter than they were, since the program does something else then.
func (t *Thread) revisit(e *track, now, took uint64) (v Verdict, news bool) {
	const first, enough = 32, 12
	e.count(took)
	isShort := took <= t.limit(took)
	if isShort && now >= e.gap.retry.Load() {
		return Due, true
	}
	if e.levels < first {
		e.levels++
		e.level = uint64(int64(e.level) + (int64(took)-int64(e.level))/int64(e.levels))
		return Short, true
	}
	if !isShort || 3*took > 2*e.level {
		e.run = 0
		return Short, false
	}
	if e.run++; e.run < enough || now < e.gap.early.Load() {
		return Short, e.rare(t.c, now) || e.run > 1
	}
	e.run = 0
	return Due, true
}

// probed looks at a probe of a gap that was rolled back since bypass seldom reached a syscall. When it does so by now,
// the program does something else.
func (t *Thread) probed(e *track, exit Exit, now uint64) (v Verdict, news bool) {
	const enough = 3
	if exit != ExitSyscall {
		e.bad = 0
		return None, false
	}
	if e.bad++; e.bad < enough || now < e.gap.early.Load() {
		return None, true
	}
	e.bad = 0
	return Due, true
}

// adapt sets the distance of samples: the shortest on news, and ever longer without any.
func (t *Thread) adapt(news bool) {
	if news {
		t.dist, t.quiet = t.c.SampleMin, 0
		return
	}
	if t.quiet++; t.quiet >= t.c.QuietSamples && t.dist < t.longest() {
		t.dist, t.quiet = min(2*t.dist, t.longest()), 0
	}
}

// longest is the longest mean distance of samples at the thread's present rate.
func (t *Thread) longest() uint32 {
	if t.c.SampleWithin == 0 || t.rate.pace == 0 {
		return t.c.SampleMax
	}
	return max(t.c.SampleMin, uint32(min(uint64(t.c.SampleMax), t.c.SampleWithin/t.rate.pace)))
}

// distance returns a number with the mean dist, from 1 to 2*dist-1: not a constant, since a loop over as many sites would
// have but one of them sampled.
func (t *Thread) distance() uint32 {
	if t.dist <= 1 {
		return 1
	}
	return 1 + t.rng.next()%(2*t.dist-1)
}

// rng is Marsaglia's xorshift; its state is never 0.
type rng uint32

func (r *rng) next() uint32 {
	*r ^= *r << 13
	*r ^= *r >> 17
	*r ^= *r << 5
	return uint32(*r)
}
