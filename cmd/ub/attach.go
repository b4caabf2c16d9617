package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ub/internal/attach"
	"ub/internal/launch"
	"ub/linux"
	"ub/linux/profile"
)

// attachFlags are the flags of `ub attach`.
type attachFlags struct {
	background bool
	noChildren bool
	tune       []string
	verbose    bool
	ready      int
}

func attachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach [flags] PID",
		Short: "Give a running program bypass, by the kernel module",
		Long: `Have this machine's own kernel run the short pieces of code between the system calls of a process, and of
those that it starts, by the module ub (docs/install-module.md). The program notices nothing but the time
that it takes.

` + "`ub attach`" + ` stays in the foreground until the process ends, or ^C, or ` + "`ub detach`" + `; with -b it goes into the
background once bypass is on. When it ends, for whatever reason, the process runs natively.`,
		Example: `  ub attach $(pidof redis-server)
  ub attach -b 4711; ub status; ub detach 4711`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which process? write `ub attach PID`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := parsePID(args[0])
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), pid)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.BoolVarP(&f.background, "background", "b", false, "return once bypass is on; messages go to "+attach.Dir+"/PID.log")
	fl.BoolVar(&f.noChildren, "no-children", false, "leave the processes that it starts alone")
	fl.StringArrayVar(&f.tune, "tune", nil, "set a parameter of bypass, `NAME=NUMBER` (repeatable)")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say what is translated, and what is not")
	fl.IntVar(&f.ready, "ready-fd", -1, "")
	_ = fl.MarkHidden("ready-fd")
	return cmd
}

func parsePID(s string) (int, error) {
	pid, err := strconv.Atoi(s)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%q is no process id", s)
	}
	return pid, nil
}

func (f *attachFlags) run(ctx context.Context, pid int) error {
	c := linux.DefaultConfig()
	for _, t := range f.tune {
		if err := c.Tune(t); err != nil {
			return fmt.Errorf("--tune: %w", err)
		}
	}
	// A thread stands for its process.
	pid, name, err := profile.FindProcess(pid)
	if err != nil {
		return err
	}
	if f.background {
		return f.daemon(pid, name)
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	g, err := attach.New(pid, c, !f.noChildren, moduleLog(f.verbose))
	if err != nil {
		return err
	}
	return attach.Supervise(ctx, g, func() {
		if f.ready < 0 {
			slog.Info(fmt.Sprintf("process %d (%s) has bypass; ^C or `ub detach %d` ends it", pid, name, pid))
			return
		}
		// The parent waits for this line, and takes all others for the reason of a failure.
		w := os.NewFile(uintptr(f.ready), "ready")
		fmt.Fprintln(w, "ready")
		w.Close()
	})
}

// daemon starts `ub attach` in the background and waits until it is ready.
func (f *attachFlags) daemon(pid int, name string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(attach.Dir, 0o700); err != nil {
		return err
	}
	logPath := filepath.Join(attach.Dir, strconv.Itoa(pid)+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args := []string{"attach", "--ready-fd=3"}
	if f.noChildren {
		args = append(args, "--no-children")
	}
	if f.verbose {
		args = append(args, "--verbose")
	}
	for _, t := range f.tune {
		args = append(args, "--tune="+t)
	}
	cmd := exec.Command(self, append(args, strconv.Itoa(pid))...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	if l, _ := bufio.NewReader(r).ReadString('\n'); l == "ready\n" {
		slog.Info(fmt.Sprintf("process %d (%s) has bypass; `ub detach %d` ends it", pid, name, pid))
		return nil
	}
	_ = cmd.Wait()
	b, _ := os.ReadFile(logPath)
	os.Remove(logPath)
	if why := strings.TrimPrefix(strings.TrimSpace(string(b)), "ub: "); why != "" {
		return errors.New(why)
	}
	return fmt.Errorf("`ub attach` has ended: %v", cmd.ProcessState)
}

// moduleLog returns where sessions log to.
func moduleLog(verbose bool) *slog.Logger {
	if verbose {
		return slog.New(verboseHandler{launch.LogHandler(os.Stderr)})
	}
	return slog.Default()
}

// verboseHandler lets debug messages through.
type verboseHandler struct{ slog.Handler }

func (h verboseHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h verboseHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return verboseHandler{h.Handler.WithAttrs(a)}
}

func detachCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "detach PID",
		Short:   "End what `ub attach` began: the program runs natively again",
		Example: "  ub detach 4711",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which process? write `ub detach PID`; `ub status` shows those that have bypass")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			pid, err := parsePID(args[0])
			if err != nil {
				return err
			}
			return attach.Detach(pid)
		},
	}
}
