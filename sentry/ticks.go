package sentry

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ticks returns the time stamp counter: a clock of constant rate on every CPU that has BMI2. It serves policy only;
// a wrong value costs speed, never correctness.
func ticks() uint64

// ticksPerMicro measures the counter's rate, once. The 2 ms it takes fall into the start of the sandbox.
var ticksPerMicro = sync.OnceValue(func() uint64 {
	t0, c0 := time.Now(), ticks()
	time.Sleep(2 * time.Millisecond)
	d, c := time.Since(t0), ticks()-c0
	return max(1, c*1000/uint64(d.Nanoseconds()))
})

// cpuTime returns the calling thread's processor time in nanoseconds.
func cpuTime() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return uint64(t.Nano())
}

// ticksToNS converts differences of less than a day.
func ticksToNS(t int64) int64 { return t * 1000 / int64(ticksPerMicro()) }
