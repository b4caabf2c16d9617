package profile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// Options say what is profiled and how.
type Options struct {
	// PID is a process whose threads, and whose children from now on, are profiled; 0: All says that all processes of
	// the machine are, but this one.
	PID int
	All bool
	// Child is a program that waits to be profiled and is released when the first window is open. It replaces PID.
	Child *Child
	// Duration is how long; 0: until the program ends or the context does.
	Duration time.Duration
	// Interval is how often OnInterval gets what is new; 0: never.
	Interval   time.Duration
	OnInterval func(*Profile) error
	// MaxCost bounds the share of time that the profiler takes from any thread of the machine, on average. 1: windows have
	// no end, and every system call is counted.
	MaxCost float64
	// SentryCrossing is the time of a system call that does nothing in a gVisor sandbox, in ns, and SentrySource says where
	// it comes from.
	SentryCrossing float64
	SentrySource   string
	// Target is what the profile is called.
	Target string
}

// DefaultMaxCost is 1 %.
const DefaultMaxCost = 0.01

// runner is one run of the profiler.
type runner struct {
	Options
	t    *tracer
	cal  *Calibration
	c    *collector
	pace pacer
	cpu  *cpuClock

	running bool          // the first window is open, or was
	first   bool          // it is a child's, and still open
	began   time.Duration // when it was opened
	tickAt  time.Duration // when the current interval ends

	// What is seen goes to now; what it is about began at mark, when the CPU time and the pacer's account were as they say.
	now   *sums
	mark  time.Duration
	cpuAt time.Duration
	spent time.Duration
	// A child's first window is no sample: it has what happens once at the beginning. It is kept apart, so that it is not
	// taken for what happens all the time.
	start, rest   *sums
	istart, irest *sums // the same of the interval

	ended <-chan struct{}
	until <-chan time.Time
}

// Run profiles and returns what it has seen. It ends without error when ctx does.
func Run(ctx context.Context, o Options) (*Profile, error) {
	p, err := run(ctx, o)
	if err != nil {
		return nil, Explain(err)
	}
	return p, nil
}

func run(ctx context.Context, o Options) (*Profile, error) {
	if o.MaxCost <= 0 || o.MaxCost > 1 {
		return nil, fmt.Errorf("a cost of %g of the time is no share: it must be above 0 and at most 1", o.MaxCost)
	}
	r := &runner{Options: o, now: newSums(), start: newSums(), rest: newSums(), istart: newSums(), irest: newSums()}
	var err error
	if r.cal, err = calibrate(); err != nil {
		return nil, err
	}
	if r.t, err = load(o.All, uint32(os.Getpid())); err != nil {
		return nil, err
	}
	defer r.t.Close()
	r.t.floor = uint64(r.cal.gap)
	switch {
	case o.Child != nil:
		r.ended = o.Child.Done()
		err = r.t.enrol(uint32(o.Child.PID()))
	case o.PID != 0:
		var stop func()
		if r.ended, stop, err = watch(o.PID); err == nil {
			defer stop()
			err = r.t.enrol(uint32(o.PID))
		}
	}
	if err != nil {
		return nil, err
	}
	r.c = newCollector(r.t, r.cal)
	if o.Child != nil {
		r.c.sym.read(image{TGID: uint32(o.Child.PID())}) // it may have ended when it is asked about
	}
	r.pace = newPacer(o.MaxCost, r.cal)
	if o.Child == nil {
		r.pace.spent = r.cal.others // a child has not begun when others pay for this
	}
	r.spent = r.pace.spent
	r.cpu = newCPUClock(r.t, o.All)
	if o.Duration > 0 {
		r.until = time.After(o.Duration)
	}
	if err := r.loop(ctx); err != nil {
		return nil, err
	}
	r.settle()
	p := r.profile(r.start, r.rest)
	p.Missed = r.t.missed()
	return p, nil
}

// loop opens and closes windows until it is time to end.
func (r *runner) loop(ctx context.Context) error {
	for {
		done, err := r.window(ctx)
		if done || err != nil {
			return err
		}
		// Irregular distances, so that a program with a rhythm is not always met at the same beat.
		pause := time.Duration(float64(r.pace.wait(monotonic()-r.began)) * (1 + rand.Float64()/4))
		for end := monotonic() + pause; monotonic() < end; {
			if r.wait(ctx, r.untilTick(end-monotonic())) {
				return nil
			}
			if err := r.tick(); err != nil {
				return err
			}
		}
	}
}

// window opens a window and keeps it open while there is budget. It says whether it is time to end.
func (r *runner) window(ctx context.Context) (done bool, err error) {
	attach := monotonic()
	if err := r.t.open(); err != nil {
		return false, err
	}
	defer r.t.close()
	from := monotonic()
	if !r.running {
		r.running = true // the time before does not count
		r.began, r.mark, r.cpuAt, r.tickAt = from, from, r.cpu.read(), from+r.Interval
		r.first = r.Child != nil
		if r.Child != nil {
			if err := r.Child.Release(); err != nil {
				return false, err
			}
		}
	}
	r.pace.opened(from - attach)
	used := r.cpu.read()
	seen, err := r.t.seen()
	if err != nil {
		return false, err
	}
	for length := minWindow; ; length = min(2*length, maxWindow) {
		done = r.wait(ctx, r.untilTick(length))
		calls, err := r.t.seen()
		if err != nil {
			return false, err
		}
		now := monotonic()
		cost := r.pace.charge(now-from, most(calls, seen))
		end := done || r.pace.over(now-r.began, now-from, cost)
		if end {
			if err := r.t.shut(); err != nil {
				return false, err
			}
			now = monotonic()
			r.t.close()
			r.pace.closed(monotonic() - now)
		}
		cpu := r.cpu.read()
		if !r.All {
			r.now.windowCPU += cpu - used
		}
		if err := r.c.collect(r.now, now-from, end); err != nil {
			return false, err
		}
		if end {
			if r.first {
				r.settle()
				r.first = false
			}
			return done, nil
		}
		if err := r.tick(); err != nil {
			return false, err
		}
		from, seen, used = now, calls, cpu
	}
}

// most returns the largest difference of counters that only grow.
func most(now, before []uint64) uint64 {
	var m uint64
	for i := range now {
		m = max(m, now[i]-before[i])
	}
	return m
}

// wait returns after d, or before with true when it is time to end.
func (r *runner) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-ctx.Done():
	case <-r.ended:
	case <-r.until:
	}
	return true
}

// untilTick returns d, or the time to the end of the interval if that comes first.
func (r *runner) untilTick(d time.Duration) time.Duration {
	if r.Interval > 0 {
		d = min(d, max(r.tickAt-monotonic(), 0))
	}
	return d
}

// tick ends the interval if it is time.
func (r *runner) tick() error {
	if r.Interval == 0 || monotonic() < r.tickAt {
		return nil
	}
	r.settle()
	p := r.profile(r.istart, r.irest)
	r.istart, r.irest = newSums(), newSums()
	r.tickAt = monotonic() + r.Interval
	if r.OnInterval == nil {
		return nil
	}
	return r.OnInterval(p)
}

// settle adds what has been seen since it was last called, with the time that this is about, to the sums.
func (r *runner) settle() {
	s := r.now
	r.now = newSums()
	now, cpu := monotonic(), r.cpu.read()
	if r.Child != nil {
		if used, ok := r.Child.CPU(); ok { // it has ended: this is exact
			cpu = used
		}
	}
	s.elapsed, s.cpu, s.cost = now-r.mark, max(cpu-r.cpuAt, 0), r.pace.spent-r.spent
	r.mark, r.cpuAt, r.spent = now, cpu, r.pace.spent
	if r.first {
		r.start.add(s)
		r.istart.add(s)
	} else {
		r.rest.add(s)
		r.irest.add(s)
	}
}

// profile makes a profile of the time of a first window, and of the rest.
func (r *runner) profile(start, rest *sums) *Profile {
	if rest.windows == 0 && rest.observed == 0 {
		// Nothing was seen of the rest. It is taken to be like the beginning.
		rest.add(start)
		start = newSums()
	}
	return newProfile(&r.Options, r.cal, start, rest)
}

// errGone says that a process has ended before it could be profiled.
var errGone = errors.New("no such process")
