package runner

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/container"
)

// signals are those sent to this process, which are meant for the program.
type signals struct {
	ch chan os.Signal
}

// catch begins to collect signals. Those that were ignored when ub started, as by nohup, still are.
func catch() *signals {
	s := &signals{ch: make(chan os.Signal, 1024)}
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP:
			continue
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
			continue // consequences of what this process does itself
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS:
			continue // errors of this process
		}
		if !signal.Ignored(n) {
			signal.Notify(s.ch, n)
		}
	}
	return s
}

// forward delivers signals to the program in c until the function that it returns is called.
func (s *signals) forward(c *container.Container, terminal bool) (stop func()) {
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case sig := <-s.ch:
				s.deliver(c, sig.(unix.Signal), terminal)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-finished
	}
}

// jobControlTime is what a shell inside has to notice that its foreground job has stopped. Then it is itself in the
// foreground, and SIGCONT tells it nothing. If there is no such shell, what has stopped is the program itself; nobody
// inside would ever continue it, and its user would sit before a dead terminal.
const jobControlTime = 250 * time.Millisecond

func (s *signals) deliver(c *container.Container, sig unix.Signal, terminal bool) {
	foreground := false
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
		// A terminal sends these to the foreground process group: there, the one inside.
		foreground = terminal
	case unix.SIGTSTP:
		if !terminal {
			suspend(c)
			return
		}
		foreground = true
		time.AfterFunc(jobControlTime, func() { c.Sandbox.SignalProcess(c.ID, 0, unix.SIGCONT, true) })
	case unix.SIGTTIN, unix.SIGTTOU:
		return // about this process and its terminal; the program's are made inside
	}
	if err := c.Sandbox.SignalProcess(c.ID, 0, sig, foreground); err != nil && c.IsSandboxRunning() {
		slog.Warn("signal could not be passed on", "signal", sig, "error", err)
	}
}

// suspend stops the whole sandbox and this process, as a shell's job control expects it, until SIGCONT arrives.
func suspend(c *container.Container) {
	if c.Sandbox.Pause(c.ID) == nil {
		defer c.Sandbox.Resume(c.ID)
	}
	// To this very thread: it takes the signal before it returns from the call. One to the process may be taken by another
	// thread, and this one resume the sandbox before it is stopped.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// terminalState is a terminal as it was before the program began.
type terminalState struct {
	saved *unix.Termios
}

func saveTerminal(terminal bool) terminalState {
	if !terminal {
		return terminalState{}
	}
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return terminalState{}
	}
	return terminalState{t}
}

// restore undoes what a program that was killed had no chance to undo.
func (t terminalState) restore() {
	if t.saved == nil {
		return
	}
	// Setting a terminal from the background would stop us.
	signal.Ignore(unix.SIGTTOU)
	unix.IoctlSetTermios(0, unix.TCSETS, t.saved)
}
