package machine

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sighandling"
)

// What the signal handlers in signal_amd64.s read. All are 0 while there is no Machine, so that everything goes to the
// previous handlers. They are written by New and Close only, when no thread is inside.
var (
	arenaLo, arenaSize   uintptr // the executable mapping of the arena
	blocksLo, blocksSize uintptr // the region of context blocks
	landing              uintptr // the landing trampoline

	// previous holds, by signal number, the handlers to go on to.
	previous [32]uintptr
)

func faultHandlerAddr() uintptr
func urgHandlerAddr() uintptr

// installHandlers puts the handlers in place, once per process: they stay after Close, with nothing to do.
var installHandlers = sync.OnceValue(func() error {
	for _, h := range []struct {
		sig  unix.Signal
		addr uintptr
	}{
		{unix.SIGSEGV, faultHandlerAddr()},
		{unix.SIGBUS, faultHandlerAddr()},
		{unix.SIGFPE, faultHandlerAddr()},
		{unix.SIGILL, faultHandlerAddr()}, // an instruction that this processor lacks; the verifier does not ask
		{unix.SIGURG, urgHandlerAddr()},
	} {
		if err := sighandling.ReplaceSignalHandler(h.sig, h.addr, &previous[h.sig]); err != nil {
			return fmt.Errorf("cannot install the handler for %v: %w", unix.SignalName(h.sig), err)
		}
	}
	return nil
})
