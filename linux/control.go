package linux

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"ub/hot"
)

// window is what holds from one call of device.Window to the next.
type window struct {
	floor         uint32
	timed         bool
	gates         []abiGate
	clip, longest uint64 // in ticks of the time stamp counter
}

// controller has gaps measured, and those run natively that do not pay: hot.Process decides, the module's windows show. Its
// times are nanoseconds since it began.
type controller struct {
	proc   *hot.Process
	policy *hot.Config
	began  time.Time
	ticks  uint64 // of the time stamp counter in a millisecond
	buf    []Passes
	told   window
	grown  time.Time
	passes []hot.Passes
}

func newController(c *hot.Config, v *Version, now time.Time) *controller {
	if !c.Controller || v.TicksKHz == 0 {
		return nil
	}
	return &controller{
		proc: hot.NewProcess(c, uint32(now.UnixNano()), 0), policy: c, began: now, ticks: uint64(v.TicksKHz),
		buf: make([]Passes, v.MaxPasses),
	}
}

func (c *controller) clock(now time.Time) uint64 { return uint64(now.Sub(c.began)) }

// wait is how long until control must be called again.
func (c *controller) wait(now time.Time) time.Duration {
	return max(time.Duration(c.proc.Due())-now.Sub(c.began), 0)
}

// toNS converts ticks, which are at most some seconds.
func (c *controller) toNS(ticks uint64) uint64 { return ticks * 1e6 / c.ticks }

// now returns what is to hold by the schedule.
func (c *controller) now() window {
	w := window{floor: c.proc.Floor(), timed: c.proc.Timed(), clip: c.policy.Clip * c.ticks / 1e6, longest: c.policy.MaxPass * c.ticks / 1e6}
	for rip, gate := range c.proc.Gates() {
		w.gates = append(w.gates, abiGate{rip: rip, gate: gate})
	}
	return w
}

// same reports whether w is what the module has been told already. A window in which passes are timed is always a new one.
func (w *window) same(o *window) bool {
	if w.timed || o.timed || w.floor != o.floor || len(w.gates) != len(o.gates) {
		return false
	}
	for i, g := range w.gates {
		if g != o.gates[i] {
			return false
		}
	}
	return true
}

// measures reports whether it is the controller's schedule that counts: not while the guard compares with and without bypass
// as a whole.
func (s *Session) measures() bool {
	return s.controller != nil && (s.guard == nil || s.guard.state == guardWaits)
}

// pairing reports whether a pair of windows is being measured.
func (s *Session) pairing() bool { return s.controller != nil && s.controller.proc.Pairing() }

// control ends the window, if it is time, and begins the next one.
func (s *Session) control() {
	c, now := s.controller, s.now()
	switch {
	case c == nil:
		return
	case !s.measures():
		if c.proc.Pairing() {
			c.proc.Pause(c.clock(now))
			s.begin(c.now())
		}
		return
	case c.wait(now) > 0:
		return
	}
	passes := c.passes[:0]
	if c.proc.Pairing() {
		var ok bool
		if passes, ok = s.sums(passes); !ok {
			return
		}
	}
	growth := hot.Stable
	// What waits until it is paid for may wait for long: till then its gaps meet the same end each time.
	if len(s.queue) > 0 && s.afford() || now.Sub(c.grown) < time.Duration(c.policy.Grow) {
		growth = hot.Growing
	}
	harm := c.proc.Turn(c.clock(now), passes, growth, func(rip uint64, g *hot.Gap) {
		ns, pairs := g.Payoff()
		s.counts.Decisions++
		s.log.Debug("gap", "site", hex(rip), "state", g.State, "why", g.Why, "saves-ns", ns, "pairs", pairs, "setbacks", g.Setbacks)
	})
	c.passes = passes
	if harm {
		s.log.Info("the program is slower with bypass: none of its gaps has it for a while", "pid", s.pid)
	}
	if s.pairing() && s.guard != nil {
		s.guard.grows(now)
	}
	s.begin(c.now())
}

// sums ends a window in which passes were timed and returns what it has shown, added to to.
func (s *Session) sums(to []hot.Passes) ([]hot.Passes, bool) {
	c := s.controller
	w := window{floor: hot.GateTrial, gates: c.told.gates}
	n, ok := s.window(w, c.buf)
	if !ok {
		return to, false
	}
	s.counts.Windows++
	for i := range c.buf[:n] {
		p := &c.buf[i]
		s.counts.Timed += uint64(p.Count)
		to = append(to, hot.Passes{
			Site: p.RIP, End: p.End ^ uint64(p.NR)<<48, Bypassed: p.How != 0,
			N: p.Count, Misses: p.Misses, Stops: p.Stops, Tails: p.Tails, Sum: c.toNS(p.Sum), Excess: c.toNS(p.Excess),
		})
	}
	return to, true
}

// begin has w hold, if it does not yet.
func (s *Session) begin(w window) {
	if c := s.controller; !c.told.same(&w) {
		s.window(w, nil)
	}
}

// window tells the module what holds from now on.
func (s *Session) window(w window, buf []Passes) (n int, ok bool) {
	c := s.controller
	if most := int(s.version.MaxGates); len(w.gates) > most {
		w.gates = w.gates[:most] // the others are bypassed
	}
	n, err := s.dev.Window(&w, buf)
	if err != nil {
		if !errors.Is(err, unix.ENOTCONN) {
			s.log.Warn("gaps are no longer measured", "pid", s.pid, "error", err)
		}
		s.controller = nil
		return 0, false
	}
	c.told = w
	return n, true
}

// installed tells the controller that there is a new blob.
func (s *Session) installed(b *blob) {
	c := s.controller
	if c == nil {
		return
	}
	now := s.now()
	c.grown = now
	if b.root.seen > 0 {
		c.proc.HasCode(b.root.rip, c.clock(now))
	}
	c.proc.Grown(c.clock(now))
}

// gone tells it that there is no code for rip any more.
func (s *Session) gone(rip uint64) {
	if s.controller != nil {
		s.controller.proc.NoCode(rip)
	}
}

// GapStatus is what a session shows of a gap: the instructions from RIP, behind a system call, to the next one.
type GapStatus struct {
	RIP      uint64 `json:"rip"`
	State    string `json:"state"`
	Why      string `json:"why,omitempty"`
	NativeNS uint64 `json:"native_ns"`   // what a pass takes
	BypassNS uint64 `json:"bypass_ns"`   // with bypass
	Saves    int64  `json:"saves_ns"`    // the median difference
	Pairs    uint32 `json:"pairs"`       // it is of so many
	Setbacks uint32 `json:"rolled_back"` // how often, since it was last kept for long
}

// gaps returns the state of all gaps that are known, by address.
func (c *controller) gaps() []GapStatus {
	out := []GapStatus{}
	if c == nil {
		return out
	}
	for rip, g := range c.proc.Gaps() {
		ns, pairs := g.Payoff()
		out = append(out, GapStatus{
			RIP: rip, State: g.State.String(), Why: g.Why.String(), NativeNS: g.Base, BypassNS: g.Active,
			Saves: ns, Pairs: pairs, Setbacks: g.Setbacks,
		})
	}
	return out
}
