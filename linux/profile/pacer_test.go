package profile

import (
	"testing"
	"time"
)

// TestPacerKeepsTheBudget plays programs against the pacer on a clock of its own: what windows take stays below the budget
// but for the last one.
func TestPacerKeepsTheBudget(t *testing.T) {
	const probe, attach = 400 * time.Nanosecond, 500 * time.Microsecond
	for _, budget := range []float64{0.001, 0.01, 0.1} {
		for name, rate := range map[string]func(at time.Duration) float64{
			"idle":     func(time.Duration) float64 { return 10 },
			"busy":     func(time.Duration) float64 { return 1.5e6 },
			"moderate": func(time.Duration) float64 { return 3e4 },
			"phases": func(at time.Duration) float64 {
				if at/time.Second%2 == 0 {
					return 0
				}
				return 2e6
			},
		} {
			p := newPacer(budget, &Calibration{Probe: float64(probe)})
			var now, lost, open time.Duration
			for now < time.Minute {
				p.opened(attach)
				lost += attach
				for length := minWindow; ; length = min(2*length, maxWindow) {
					calls := uint64(rate(now) * length.Seconds())
					now += length
					open += length
					lost += min(time.Duration(calls)*probe, length)
					if cost := p.charge(length, calls); p.over(now, length, cost) || now > time.Minute {
						break
					}
				}
				p.closed(attach)
				lost += attach
				now += p.wait(now)
			}
			if most := time.Duration(budget*float64(now)) + maxWindow + 3*attach; lost > most {
				t.Errorf("%s, budget %g: %v of %v lost", name, budget, lost, now)
			}
			// A program of few system calls is watched most of the time.
			if name == "idle" && open < now/3 {
				t.Errorf("%s, budget %g: only %v of %v observed", name, budget, open, now)
			}
		}
	}
}

func TestPacerWithoutLimit(t *testing.T) {
	p := newPacer(1, &Calibration{Probe: 1000})
	for now := time.Duration(0); now < time.Second; now += maxWindow {
		if p.wait(now) != 0 {
			t.Fatalf("a pause after %v", now)
		}
		p.charge(maxWindow, 1e9)
	}
}
