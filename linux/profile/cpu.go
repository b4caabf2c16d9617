package profile

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc: USER_HZ, which is 100 on x86-64. Clocks of processes are finer, but when their threads
// run they may stand still until the timer's next interrupt, for up to timerTick.
const (
	tick      = 10 * time.Millisecond
	timerTick = 4 * time.Millisecond
)

// cpuClock follows the CPU time of the profiled processes.
type cpuClock struct {
	t     *tracer
	all   bool
	base  time.Duration // used before the start
	total time.Duration
}

// newCPUClock starts a clock at 0.
func newCPUClock(t *tracer, all bool) *cpuClock {
	c := &cpuClock{t: t, all: all}
	c.base = c.sum()
	return c
}

// read returns the CPU time since the start.
func (c *cpuClock) read() time.Duration {
	// The sum falls when a process ends whose parent is not followed.
	c.total = max(c.total, c.sum()-c.base)
	return c.total
}

// sum adds up what all processes have used. Those that have ended are dropped from the tracer: a parent that waited for
// them has their time.
func (c *cpuClock) sum() time.Duration {
	if c.all {
		return machineCPU()
	}
	procs, _, err := c.t.procs()
	if err != nil {
		return 0
	}
	var sum time.Duration
	for _, p := range procs {
		d, ok := processCPU(p)
		if !ok {
			c.t.drop(p)
		}
		sum += d
	}
	return sum
}

// processCPU returns the CPU time of a process and of the children it has waited for.
func processCPU(pid uint32) (time.Duration, bool) {
	var own unix.Timespec
	// The clock of another process: see clock_getcpuclockid(3).
	if err := unix.ClockGettime(int32(^pid<<3|2), &own); err != nil {
		return 0, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is a name in brackets, which can contain anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return time.Duration(own.Nano()) + ticks(f, 13, 15), true // cutime, cstime
}

// machineCPU returns the time that all CPUs were busy, in user mode and in the kernel.
func machineCPU() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return ticks(strings.Fields(line), 1, 4) // user, nice, system
}

// ticks adds up the fields from to before to.
func ticks(fields []string, from, to int) time.Duration {
	var n uint64
	for i := from; i < min(to, len(fields)); i++ {
		v, _ := strconv.ParseUint(fields[i], 10, 64)
		n += v
	}
	return time.Duration(n) * tick
}
