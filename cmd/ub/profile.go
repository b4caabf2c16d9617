package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ub/internal/launch"
	"ub/linux/profile"
)

// sentryCrossing is what a crossing takes in a sandbox without bypass, in ns: what read of 64 bytes takes longer than natively in
// `make bench-syscall`, on two cores of a virtual machine (EPYC). Where systrap finds an idle core to spin on it is 600, where it
// does not, 4000 and more.
const sentryCrossing = 3000

// profileFlags are the flags of `ub profile`.
type profileFlags struct {
	pid      int
	all      bool
	duration time.Duration
	interval time.Duration
	json     bool
	out      string
	maxCost  float64
	sentry   float64

	// Which of the flags were given.
	hasPID, hasDuration, hasSentry bool
}

func profileCommand() *cobra.Command {
	var f profileFlags
	cmd := &cobra.Command{
		Use:   "profile [flags] -p PID | -a | -- PROG [ARGS...]",
		Short: "Show where programs of this host make system calls, and what bypass would save",
		Long: `Watch the system calls of programs that run on this machine's own kernel, and what they do in between:
how often, from where, and how long a thread computes from the return of one system call to the next (a
gap). Short gaps are what bypass is good for. Nothing is changed: the kernel's tracepoints are watched by
eBPF programs, in short windows, so that no program loses more than a share of its time (--max-cost).

Threads that come and go are followed; so are processes that the profiled ones start, and their execs.

The table goes to standard output, with PROG to standard error, or to the file given with -o: as text, as
JSON (--json), or for pprof if its name ends in .pb.gz. With PROG, the exit status is PROG's; ub's own
failures are 125, 126 and 127 as for ` + "`ub run`" + `.`,
		Example: `  ub profile -- dd if=/dev/zero of=/dev/null bs=64 count=1000000
  ub profile -p $(pidof redis-server) -d 30s
  ub profile -a -d 1m -I 5s            the whole machine, a table every five seconds
  ub profile -p 4711 -o gaps.pb.gz     then: go tool pprof -http=: gaps.pb.gz`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.hasPID = cmd.Flags().Changed("pid")
			f.hasDuration = cmd.Flags().Changed("duration")
			f.hasSentry = cmd.Flags().Changed("sentry-crossing")
			if err := f.check(args); err != nil {
				return err
			}
			status, err := f.run(args)
			if err == nil && status != 0 {
				os.Exit(status) // without a word: it is the program's
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.SortFlags = false
	fl.IntVarP(&f.pid, "pid", "p", 0, "profile the process `PID`, and those that it starts")
	fl.BoolVarP(&f.all, "all", "a", false, "profile all processes of this machine")
	fl.DurationVarP(&f.duration, "duration", "d", 10*time.Second, "profile for so `long`; PROG to its end, if this is not given")
	fl.DurationVarP(&f.interval, "interval", "I", 0, "also print a table of each interval, so `long`")
	fl.BoolVar(&f.json, "json", false, "print JSON: one object, with -I one a line and the whole time last")
	fl.StringVarP(&f.out, "output", "o", "", "write to `FILE`: for pprof if it ends in .pb.gz")
	fl.Float64Var(&f.maxCost, "max-cost", 100*profile.DefaultMaxCost, "`percent` of a thread's time that profiling may take, on average; 100: see every system call")
	fl.Float64Var(&f.sentry, "sentry-crossing", sentryCrossing, "`ns` of an empty system call in a sandbox, to estimate what bypass saves there")
	return cmd
}

// check says what is wrong with the flags.
func (f *profileFlags) check(args []string) error {
	n := 0
	for _, given := range []bool{f.hasPID, f.all, len(args) > 0} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("which programs? write one of `ub profile -p PID`, `ub profile -a` and `ub profile -- PROG [ARGS...]`")
	case f.hasPID && f.pid <= 0:
		return fmt.Errorf("-p %d is no process id", f.pid)
	case f.duration <= 0:
		return errors.New("-d must be above 0")
	case f.interval != 0 && f.interval < 100*time.Millisecond:
		return errors.New("-I must be at least 100ms: a shorter interval may have no window")
	case !(f.maxCost > 0 && f.maxCost <= 100):
		return errors.New("--max-cost is a percentage above 0, at most 100")
	case !(f.sentry > 0):
		return errors.New("--sentry-crossing must be above 0")
	case f.json && f.pprof():
		return errors.New("--json and a FILE for pprof: choose one")
	}
	return nil
}

func (f *profileFlags) pprof() bool { return strings.HasSuffix(f.out, ".pb.gz") }

// run profiles and returns the status of PROG, 0 if there is none.
func (f *profileFlags) run(args []string) (status int, err error) {
	if err := profile.Check(); err != nil {
		return 0, err
	}
	o := profile.Options{
		All: f.all, Duration: f.duration, Interval: f.interval, MaxCost: f.maxCost / 100,
		SentryCrossing: f.sentry, SentrySource: "default, from `make bench-syscall`",
	}
	if f.hasSentry {
		o.SentrySource = "from --sentry-crossing"
	}
	var data io.Writer = os.Stdout
	switch {
	case len(args) > 0:
		data = os.Stderr // standard output is the program's
		o.Target = strings.Join(args, " ")
		if !f.hasDuration {
			o.Duration = 0
		}
		dir, err := os.Getwd()
		if err != nil {
			return 0, err
		}
		if err := launch.CheckProgram(args[0], os.Getenv("PATH"), dir); err != nil {
			return 0, err
		}
	case f.all:
		o.Target = "all processes"
	default:
		pid, name, err := profile.FindProcess(f.pid)
		if err != nil {
			return 0, err
		}
		o.PID, o.Target = pid, fmt.Sprintf("process %d (%s)", pid, name)
	}
	out := data
	if f.out != "" {
		file, err := os.Create(f.out)
		if err != nil {
			return 0, fmt.Errorf("-o: %w", err)
		}
		defer func() {
			if cerr := file.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("-o: %w", cerr)
			}
		}()
		if out = file; !f.pprof() {
			data = file
		}
	}
	o.OnInterval = func(p *profile.Profile) error { return f.write(data, p) }

	ctx := context.Background()
	if len(args) > 0 {
		if o.Child, err = profile.Start(args); err != nil {
			return 0, fmt.Errorf("starting %s: %w", args[0], err)
		}
		defer o.Child.ForwardSignals()()
	} else {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
		defer stop()
	}
	p, err := profile.Run(ctx, o)
	if err == nil {
		err = f.final(out, p)
	}
	if o.Child == nil {
		return 0, err
	}
	if err != nil && !o.Child.Released() {
		o.Child.Kill()
		return 0, err
	}
	<-o.Child.Done() // also when profiling has failed: the program has not
	if err != nil {
		slog.Error(err.Error())
	}
	return o.Child.Status(), nil
}

// write writes the profile of an interval.
func (f *profileFlags) write(w io.Writer, p *profile.Profile) error {
	if f.json {
		return p.JSON(w, false)
	}
	if err := p.Text(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// final writes the profile of the whole time.
func (f *profileFlags) final(w io.Writer, p *profile.Profile) error {
	switch {
	case f.pprof():
		if err := p.Pprof(w, time.Now()); err != nil {
			return err
		}
		slog.Info(fmt.Sprintf("%s has %d sites; look at them with: go tool pprof -top %s", f.out, len(p.Sites), f.out))
		return nil
	case f.json:
		return p.JSON(w, f.interval == 0)
	case f.interval != 0:
		if _, err := io.WriteString(w, "Whole time\n"); err != nil {
			return err
		}
	}
	return p.Text(w)
}
