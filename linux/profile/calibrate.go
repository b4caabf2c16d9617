package profile

import (
	"errors"
	"math"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Calibration is what this machine takes for a system call, without and with the profiler. It is measured on the spot, by
// a loop of system calls that do nothing; the least disturbed batch counts.
type Calibration struct {
	// Crossing is the time of a round trip into the kernel and back, in ns.
	Crossing float64
	// Probe is what a window adds to a system call of a program that is profiled, in ns.
	Probe float64
	// gap and sys are what the programs see of a gap without instructions, and of a system call that does nothing, in ns.
	gap, sys float64
	// others is what the measurement cost other programs, at most.
	others time.Duration
}

const (
	batches   = 24
	batchSize = 400
	// emptyNR is no system call: the kernel says so and returns. It is far above the highest number in use.
	emptyNR = 1023
)

// calibrate measures. The tracer that it uses sees only this process.
func calibrate() (*Calibration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nr := uintptr(emptyNR)
	if _, _, e := unix.RawSyscall(nr, 0, 0, 0); e != unix.ENOSYS {
		// A seccomp filter has an opinion of its own. getppid does next to nothing.
		nr = unix.SYS_GETPPID
	}
	var c Calibration
	c.Crossing = math.Inf(1)
	for range batches {
		c.Crossing = min(c.Crossing, emptyCalls(nr))
	}
	t, err := load(false, 0)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if err := t.enrol(uint32(os.Getpid())); err != nil {
		return nil, err
	}
	if err := t.open(); err != nil {
		return nil, err
	}
	with := math.Inf(1)
	c.gap, c.sys = math.Inf(1), math.Inf(1)
	var last siteValue
	for range batches {
		with = min(with, emptyCalls(nr))
		v, err := t.siteOf(uint32(nr))
		if err != nil {
			return nil, err
		}
		if n := v.Gaps - last.Gaps; n > batchSize/2 {
			c.gap = min(c.gap, float64(v.GapNS-last.GapNS)/float64(n))
			c.sys = min(c.sys, float64(v.SysNS-last.SysNS)/float64(n))
		}
		last = v
	}
	t.close()
	if math.IsInf(c.gap, 1) {
		return nil, errors.New("calibration: the eBPF programs were attached but saw no system calls")
	}
	c.Probe = max(with-c.Crossing, 0)
	seen, err := t.seen()
	if err != nil {
		return nil, err
	}
	var calls uint64
	for _, n := range seen {
		calls += n
	}
	c.others = time.Duration(float64(calls-min(calls, last.Gaps)) * c.Probe)
	return &c, nil
}

// emptyCalls returns the time of a system call in ns, over a batch of them.
func emptyCalls(nr uintptr) float64 {
	began := monotonic()
	for range batchSize {
		unix.RawSyscall(nr, 0, 0, 0)
	}
	return float64(monotonic()-began) / batchSize
}

// siteOf returns the site from which the system call nr was made most often.
func (t *tracer) siteOf(nr uint32) (siteValue, error) {
	keys, values, err := t.sites()
	var best siteValue
	for i, k := range keys {
		if k.NR == nr && values[i].Gaps > best.Gaps {
			best = values[i]
		}
	}
	return best, err
}
