package profile

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that the eBPF programs read.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("BUG: " + err.Error()) // Linux has this clock
	}
	return time.Duration(t.Nano())
}
