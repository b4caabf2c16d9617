package sentry

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"ub/sentry/machine"
	"ub/sentry/statfile"
)

var (
	prepared = make(chan struct{})
	prepare  sync.Once
)

// beginPrepare begins what takes long in making a machine, 10 ms or more of waiting, and returns at once. prepared tells of its end.
func beginPrepare() {
	prepare.Do(func() {
		go func() {
			machine.Prepare()
			ticksPerMicro()
			close(prepared)
		}()
	})
}

// Prepare is for a process that may be going to be a sandbox: runsc's arguments are args. If so, and if there will be bypass in it, what
// takes long in making its platform begins now, beside what else there is to do at the start.
func Prepare(args []string) {
	if willBypass(args) {
		beginPrepare()
	}
}

// willBypass reports whether runsc's arguments are those of a process that becomes a sandbox with bypass.
func willBypass(args []string) bool {
	boot, ours, device := false, false, -1
	for _, a := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		switch name {
		case "boot":
			boot = true
		case "platform":
			ours = value == Name
		case "device-fd":
			if n, err := strconv.Atoi(value); err == nil {
				device = n
			}
		}
	}
	return boot && ours && bypasses(device)
}

// bypasses reports whether a statistics file, that of a descriptor which stays as it is, says that there is to be bypass. -1 is none: the default.
func bypasses(fd int) bool {
	c := statfile.DefaultConfig()
	if fd >= 0 {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false
		}
		f := os.NewFile(uintptr(copied), "statistics")
		defer f.Close()
		s, err := statfile.Map(f)
		if err != nil {
			return false
		}
		defer s.Unmap()
		if c, err = s.Config(); err != nil {
			return false
		}
	}
	return c.Bypass != 0
}
