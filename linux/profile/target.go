package profile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Child is a program that this one has started. It does not run until it is released, so that nothing it does is missed.
type Child struct {
	cmd      *exec.Cmd
	release  chan chan error
	done     chan struct{}
	released bool
}

// Start starts a program with the standard streams of this one. It waits before its first instruction.
func Start(argv []string) (*Child, error) {
	c := &Child{cmd: exec.Command(argv[0], argv[1:]...), release: make(chan chan error), done: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c, c.start()
}

func (c *Child) start() error {
	// A traced program stops at its exec. It must be released by the thread that started it.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := c.cmd.Start()
		if err == nil {
			var ws unix.WaitStatus
			if _, err = unix.Wait4(c.PID(), &ws, 0, nil); err == nil && !ws.Stopped() {
				err = fmt.Errorf("it has ended at once, with status %#x", ws)
			}
		}
		started <- err
		if err != nil {
			return
		}
		answer := <-c.release
		answer <- unix.PtraceDetach(c.PID())
		_ = c.cmd.Wait() // the status is in ProcessState
		close(c.done)
	}()
	return <-started
}

// PID returns its process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Release lets it run.
func (c *Child) Release() error {
	if c.released {
		return nil
	}
	c.released = true
	answer := make(chan error)
	c.release <- answer
	if err := <-answer; err != nil {
		return fmt.Errorf("letting the program run: %w", err)
	}
	return nil
}

// Done returns a channel that is closed when it has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Kill ends a program that nobody will look at.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	_ = c.Release()
	<-c.done
}

// Signal passes a signal on.
func (c *Child) Signal(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// CPU returns the CPU time of the program and of the children it waited for, once it has ended.
func (c *Child) CPU() (time.Duration, bool) {
	select {
	case <-c.done:
		s := c.cmd.ProcessState
		return s.UserTime() + s.SystemTime(), true
	default:
		return 0, false
	}
}

// Status returns the exit status of a program that has ended, 128+N if signal N killed it.
func (c *Child) Status() int {
	ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return c.cmd.ProcessState.ExitCode()
}

// ForwardSignals passes on what asks this program to end, until stop. What the terminal sends, it sends to both.
func (c *Child) ForwardSignals() (stop func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		for s := range ch {
			if s == unix.SIGTERM || s == unix.SIGHUP {
				c.Signal(s)
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
	}
}

// FindProcess returns the process that has the thread pid, and its name.
func FindProcess(pid int) (int, string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = errGone
		}
		return 0, "", fmt.Errorf("process %d: %w", pid, err)
	}
	var tgid int
	var name string
	for _, l := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(l, ":")
		switch key {
		case "Name":
			name = strings.TrimSpace(value)
		case "Tgid":
			_, _ = fmt.Sscan(value, &tgid)
		case "Kthread":
			if strings.TrimSpace(value) == "1" {
				return 0, "", fmt.Errorf("process %d (%s) is a thread of the kernel: it makes no system calls", pid, name)
			}
		}
	}
	return tgid, name, nil
}

// watch returns a channel that is closed when process pid ends. stop ends watching.
func watch(pid int) (ended <-chan struct{}, stop func(), err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = errGone
		}
		return nil, nil, fmt.Errorf("process %d: %w", pid, err)
	}
	ch, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
			select {
			case <-quit:
				return
			default:
			}
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				close(ch)
				return
			}
		}
	}()
	return ch, func() { close(quit) }, nil
}

// Released tells whether it was let run.
func (c *Child) Released() bool { return c.released }
