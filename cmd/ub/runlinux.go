package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ub/internal/attach"
	"ub/internal/launch"
	"ub/linux"
)

// runLinux runs a program on this machine's own kernel, with bypass by the module, and returns its exit status. The
// program has the standard files, the terminal and the process group of this one.
func runLinux(f *runFlags, args []string) (status int, err error) {
	// Signals are taken from here on: whatever arrives before the program runs is delivered when it does.
	sigs := make(chan os.Signal, 256)
	signal.Notify(sigs, forwarded()...)

	bypass := f.bypass == "on"
	if !bypass && f.bypass != "off" {
		return 0, fmt.Errorf("--bypass is on or off, not %q", f.bypass)
	}
	for _, no := range []struct {
		flag  string
		given bool
	}{
		{"network", f.network != "host"}, {"rw", len(f.rw) > 0}, {"stat-file", f.statFile != ""}, {"debug-log", f.debugLog != ""},
		{"metrics-addr", f.metrics != ""},
	} {
		if no.given {
			return 0, fmt.Errorf("--%s is about sandboxes; with --kernel=linux there is none", no.flag)
		}
	}
	c := linux.DefaultConfig()
	for _, t := range f.tune {
		if err := c.Tune(t); err != nil {
			return 0, fmt.Errorf("--tune: %w", err)
		}
	}
	if bypass {
		// So that a program without bypass is not begun.
		d, err := linux.Open()
		if err != nil {
			return 0, err
		}
		d.Close()
	}
	p, err := startStopped(f, args)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g *attach.Group
	served := make(chan error, 1)
	if bypass {
		if g, err = attach.New(p.pid(), c, true, moduleLog(f.verbose)); err != nil {
			cancel()
			p.kill()
			return 0, err
		}
		ready := make(chan struct{})
		go func() { served <- attach.Supervise(ctx, g, func() { close(ready) }) }()
		select {
		case <-ready:
		case err := <-served:
			cancel()
			p.kill()
			return 0, err
		}
	}
	err = p.release()
	if err != nil {
		cancel()
		p.kill()
		return 0, err
	}
	status = p.wait(sigs)
	if g != nil {
		err = finishLinux(f, g, status, served)
	}
	cancel()
	return status, err
}

// finishLinux waits for the end of bypass, and prints what it did.
func finishLinux(f *runFlags, g *attach.Group, status int, served chan error) error {
	select {
	case err := <-served:
		if err != nil {
			slog.Warn(err.Error())
		}
	case <-time.After(5 * time.Second):
		slog.Warn("the module does not say that the program has ended")
	}
	st := g.Status()
	if f.statsJSON != "" {
		b, err := json.MarshalIndent(&st, "", "  ")
		if err == nil {
			err = os.WriteFile(f.statsJSON, append(b, '\n'), 0o644)
		}
		if err != nil {
			return fmt.Errorf("the program ended with status %d, but its statistics could not be written: %w", status, err)
		}
	}
	if f.stats {
		return printModuleStats(os.Stderr, &st)
	}
	return nil
}

// forwarded are the signals that are meant for the program.
func forwarded() []os.Signal {
	var out []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT:
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS:
		default:
			if !signal.Ignored(n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// stopped is a program that waits before its first instruction until it is released.
type stopped struct {
	cmd *exec.Cmd
	do  chan func() // for the thread that traces it
}

// startStopped starts a program. A traced one stops at its exec; only the thread that has started it may let it go.
func startStopped(f *runFlags, args []string) (*stopped, error) {
	dir, err := directory(f.cwd)
	if err != nil {
		return nil, fmt.Errorf("--cwd: %w", err)
	}
	env := programEnv(os.Environ(), f.env)
	path := lookupEnv(env, "PATH")
	if err := launch.CheckProgram(args[0], path, dir); err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: findProgram(args[0], path, dir), Args: args, Env: env, Dir: f.cwd, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	p := &stopped{cmd: cmd, do: make(chan func())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := cmd.Start()
		if err == nil {
			var ws unix.WaitStatus
			if _, err = unix.Wait4(cmd.Process.Pid, &ws, 0, nil); err == nil && !ws.Stopped() {
				err = fmt.Errorf("it has ended at once, with status %#x", ws)
			}
		}
		started <- err
		for f := range p.do {
			f()
		}
	}()
	if err := <-started; err != nil {
		close(p.do)
		return nil, startError(args[0], err)
	}
	return p, nil
}

func startError(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return &launch.ProgramError{Status: launch.StatusCannotExec, Text: name + " is no program that can be executed: neither ELF nor a script with #!"}
	case errors.Is(err, unix.ENOENT):
		return &launch.ProgramError{Status: launch.StatusNotFound, Text: name + " or the interpreter that it names does not exist"}
	case errors.Is(err, unix.EACCES):
		return &launch.ProgramError{Status: launch.StatusCannotExec, Text: name + " is not executable"}
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("starting %s: %w: may this user trace its children (kernel.yama.ptrace_scope)?", name, err)
	}
	return fmt.Errorf("starting %s: %w", name, err)
}

// findProgram returns the file that name stands for, which exists.
func findProgram(name, path, dir string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, d := range strings.Split(path, ":") {
		if d == "" {
			d = "."
		}
		if p := d + "/" + name; launch.CheckProgram(p, "", dir) == nil {
			return p
		}
	}
	return name
}

func (p *stopped) pid() int { return p.cmd.Process.Pid }

// release lets the program run.
func (p *stopped) release() error {
	answer := make(chan error)
	p.do <- func() { answer <- unix.PtraceDetach(p.pid()) }
	if err := <-answer; err != nil {
		return fmt.Errorf("letting the program run: %w", err)
	}
	return nil
}

func (p *stopped) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.release()
	_ = p.cmd.Wait()
}

// wait passes signals on until the program ends, and returns its status.
func (p *stopped) wait(sigs chan os.Signal) int {
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // the status is in ProcessState
		close(done)
	}()
	for {
		select {
		case s := <-sigs:
			n := s.(unix.Signal)
			// A terminal sends these to the whole foreground process group, in which the program is.
			if (n == unix.SIGINT || n == unix.SIGQUIT || n == unix.SIGWINCH) && inForeground() {
				continue
			}
			_ = p.cmd.Process.Signal(n)
		case <-done:
			close(p.do)
			if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
				return 128 + int(ws.Signal())
			}
			return p.cmd.ProcessState.ExitCode()
		}
	}
}

// inForeground tells whether this process group has the terminal.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	pgrp, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}
