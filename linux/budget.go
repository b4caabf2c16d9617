package linux

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// afford reports whether there may be another translation now: it is paid from what mode switches have cost the program, or would have.
func (s *Session) afford() bool {
	if n := s.stats.Hooks + s.stats.Chained; n > s.lost {
		s.budget.Lost(n-s.lost, s.config.CrossingNS)
		s.lost = n
	}
	return s.budget.Allows(&s.policy)
}

// spend does work and takes note of the CPU time of this thread: what the machine's load makes of it is not the work's.
func (s *Session) spend(work func() bool) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	ok := work()
	s.budget.Spend(uint64(threadTime() - began))
	return ok
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
