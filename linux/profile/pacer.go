package profile

import "time"

// Window lengths. A window starts short, so that a program that makes nothing but system calls is asked for little at a
// time, and gets longer while there is budget left.
const (
	minWindow = 4 * time.Millisecond
	maxWindow = 8 * time.Millisecond
	// caution is how many times as much as in calibration a system call is assumed to cost: there, everything was in caches.
	caution = 1.3
	// reserve is the share of the budget that is not used, for what is not booked: caches that have to be filled again, and
	// a program that gets less than all of a CPU's time, of which a window is a larger part.
	reserve = 0.3
	// maxAttachCost bounds what attaching and detaching is charged: it interrupts each CPU for less than that. How long
	// the calls take says little, for they wait for grace periods.
	maxAttachCost = time.Millisecond
)

// pacer decides when there is a window. It keeps an account of the time that windows have cost the thread that was slowed
// down most, and opens no window before that is below a share of the time that has passed. This needs no guess of what the
// programs will do next, and holds for every program of the machine.
type pacer struct {
	budget float64       // share of time
	probe  time.Duration // cost of a window per system call
	spent  time.Duration
	attach time.Duration // booked for attaching the present window
	window time.Duration // booked for it since
}

// newPacer returns a pacer for a share of time, 1 for no limit.
func newPacer(share float64, cal *Calibration) pacer {
	p := pacer{budget: share, probe: time.Duration(caution * cal.Probe)}
	if share < 1 {
		p.budget *= 1 - reserve
	}
	return p
}

// charge books a piece of a window of length d in which a CPU has made at most calls system calls, and returns its cost. No
// thread can lose more than all of it.
func (p *pacer) charge(d time.Duration, calls uint64) time.Duration {
	cost := min(time.Duration(calls)*p.probe, d)
	p.spent += cost
	p.window += cost
	return cost
}

// opened books attaching that took d: a window begins. closed books detaching.
func (p *pacer) opened(d time.Duration) {
	p.attach, p.window = min(d, maxAttachCost), 0
	p.spent += p.attach
}

func (p *pacer) closed(d time.Duration) { p.spent += min(d, maxAttachCost) }

// over tells, a time elapsed after the begin, whether a window must be closed now, after a piece of length d that cost so
// much. Even without budget there is nothing to win by closing while it costs less than its share. Nor while it has cost
// less than attaching: of programs with fewer system calls, longer windows see more for the same price.
func (p *pacer) over(elapsed, d, cost time.Duration) bool {
	return p.wait(elapsed) > 0 && float64(cost) > p.budget*float64(d) && p.window >= p.attach
}

// wait returns how long it takes, a time elapsed after the begin, until there is budget again.
func (p *pacer) wait(elapsed time.Duration) time.Duration {
	return max(time.Duration(float64(p.spent)/p.budget)-elapsed, 0)
}
