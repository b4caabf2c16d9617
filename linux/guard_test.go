package linux

import (
	"os"
	"testing"
	"time"
)

// simulate runs a program whose system calls cost so many ns of CPU time, without and with bypass, for a while, and returns the
// share of time in which bypass was on, and how often it was suspended.
func simulate(off, on func(t time.Duration) float64, length time.Duration) (share float64, suspended int) {
	start := time.Unix(0, 0)
	g := newGuard(start)
	var calls uint64
	var cpu time.Duration
	const step = 10 * time.Millisecond
	n, with := 0, 0
	for t := time.Duration(0); t < length; t += step {
		cost := off(t)
		if g.on() {
			cost = on(t)
			with++
		}
		n++
		if cost > 0 {
			calls += uint64(float64(step) / cost)
			cpu += step
		}
		g.step(start.Add(t+step), calls, cpu)
	}
	return float64(with) / float64(n), g.Suspended
}

func flat(ns float64) func(time.Duration) float64 { return func(time.Duration) float64 { return ns } }

func TestGuard(t *testing.T) {
	if share, n := simulate(flat(1000), flat(700), time.Hour); share < 0.99 || n != 0 {
		t.Errorf("bypass that pays was on for %.3f of the time, suspended %d times", share, n)
	}
	if share, n := simulate(flat(700), flat(1000), time.Hour); share > 0.15 || n == 0 {
		t.Errorf("bypass that harms was on for %.3f of the time, suspended %d times", share, n)
	}
	if share, n := simulate(flat(0), flat(0), time.Hour); share < 0.99 || n != 0 {
		t.Errorf("a program that sleeps: %.3f, %d", share, n)
	}
	// It harms for ten minutes, then it pays: that is found out.
	change := func(d time.Duration) float64 {
		if d < 10*time.Minute {
			return 1000
		}
		return 300
	}
	if share, n := simulate(flat(600), change, 2*time.Hour); share < 0.7 || n == 0 {
		t.Errorf("bypass that begins to pay was on for %.3f of the time, suspended %d times", share, n)
	}
}

// A program whose paths grow is not judged by what they cost before they have grown; one whose paths grow for ever is.
func TestGuardWaitsForGrowth(t *testing.T) {
	for _, c := range []struct {
		grows  time.Duration
		judged time.Duration // the first round begins after so long
	}{{0, 2 * time.Second}, {5 * time.Second, 6 * time.Second}, {time.Hour, 12 * time.Second}} {
		now := time.Unix(0, 0)
		g := newGuard(now)
		for at := time.Duration(0); g.state == guardWaits && at < time.Minute; at += 10 * time.Millisecond {
			now = time.Unix(0, 0).Add(at)
			if at < c.grows {
				g.grows(now)
			}
			g.step(now, 0, 0)
		}
		if d := now.Sub(time.Unix(0, 0)); d < c.judged-20*time.Millisecond || d > c.judged+time.Second {
			t.Errorf("of a program whose paths grow for %v the first round began after %v, want %v", c.grows, d, c.judged)
		}
	}
}

func TestCPUTime(t *testing.T) {
	before := cpuTime(os.Getpid())
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	if d := cpuTime(os.Getpid()) - before; d < 5*time.Millisecond || d > 10*time.Second {
		t.Errorf("%v of CPU time in 50 ms", d)
	}
}
