package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ub/internal/launch"
	"ub/sentry/statfile"
)

// runFlags are the flags of `ub run` as they are given.
type runFlags struct {
	bypass    string
	network   string
	rw        []string
	cwd       string
	env       []string
	stats     bool
	statsJSON string
	statFile  string
	debugLog  string
	metrics   string
	tune      []string
	kernel    string
	verbose   bool
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROG [ARGS...]",
		Short: "Run a program in a sandbox",
		Long: `Run a program of this machine's file system in a sandbox (root).

The program sees the files of this machine, with its own /proc, /sys and /dev. What it writes stays in
memory and is gone afterwards, except under the paths given with --rw. It shares the network of this
machine unless --network=none. Standard input, output and error, the terminal, signals and the exit status
are passed through.

With --kernel=linux there is no sandbox: the program runs on this machine's own kernel, and the module ub
gives it bypass (docs/install-module.md).

Exit status: the program's; 128+N if signal N killed it; 127 if there is no such program, 126 if it
cannot be executed, 125 if ub itself failed.`,
		Example: `  ub run -- sha256sum /bin/ls
  ub run --stats -- dd if=/dev/zero of=/dev/null bs=64 count=1000000
  ub run --rw /srv/data --cwd /srv/data -- ./import.sh
  ub run --network=none --env LANG=C -- python3 untrusted.py
  ub run --bypass=off -- redis-server     plain gVisor (systrap), to compare with
  ub run --kernel=linux -- redis-server   no sandbox: this machine's kernel, with the module ub`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which program? write `ub run [flags] -- PROG [ARGS...]`")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch f.kernel {
			case "sentry":
				return run(&f, args)
			case "linux":
				status, err := runLinux(&f, args)
				if err == nil && status != 0 {
					os.Exit(status) // without a word: it is the program's
				}
				return err
			}
			return fmt.Errorf("--kernel is sentry or linux, not %q", f.kernel)
		},
	}
	// What follows the program's name is the program's, with or without "--".
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.bypass, "bypass", "on", "userspace bypass: `on`, or off for plain gVisor")
	cmd.Flags().StringVar(&f.kernel, "kernel", "sentry", "whose system calls the program makes: `sentry`, a sandbox's; linux: this machine's, with the module ub")
	cmd.Flags().StringVar(&f.network, "network", "host", "`host`: the machine's network; none: only a loopback interface")
	cmd.Flags().StringArrayVar(&f.rw, "rw", nil, "let the program change `PATH`, a file or directory, for good (repeatable)")
	cmd.Flags().StringVar(&f.cwd, "cwd", "", "working `DIR` (default: the present one)")
	cmd.Flags().StringArrayVar(&f.env, "env", nil, "set `NAME=VALUE`, or unset NAME, in the program's environment (repeatable)")
	cmd.Flags().BoolVar(&f.stats, "stats", false, "print statistics to standard error at the end")
	cmd.Flags().StringVar(&f.statsJSON, "stats-json", "", "write statistics to `FILE` at the end")
	cmd.Flags().StringVar(&f.statFile, "stat-file", "", "keep the sandbox's statistics file as `FILE`, for `ub disasm --sandbox`")
	cmd.Flags().StringVar(&f.debugLog, "debug-log", "", "write gVisor's debug logs to `DIR`")
	cmd.Flags().StringVar(&f.metrics, "metrics-addr", "", "serve metrics in Prometheus' format at `ADDR`: HOST:PORT with a loopback HOST, or unix:PATH")
	cmd.Flags().StringArrayVar(&f.tune, "tune", nil, "set a parameter of bypass, `NAME=NUMBER` (repeatable)")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "with --kernel=linux: say what is translated, and what is not")
	return cmd
}

// run becomes runsc-ub. It returns only with an error.
func run(f *runFlags, args []string) error {
	req, err := request(f, args)
	if err != nil {
		return err
	}
	if err := launch.CheckHost(req.Config.Bypass != 0); err != nil {
		return err
	}
	runsc, err := launch.FindRunsc()
	if err != nil {
		return err
	}
	if req.Root, err = launch.PrivateRoot(); err != nil {
		return err
	}
	fd, err := req.Write()
	if err != nil {
		return err
	}
	err = unix.Exec(runsc, []string{filepath.Base(runsc), launch.Subcommand, strconv.Itoa(fd)}, sandboxEnv())
	return fmt.Errorf("executing %s: %w", runsc, err)
}

// request checks flags and arguments and puts them together.
func request(f *runFlags, args []string) (*launch.Request, error) {
	req := &launch.Request{
		Args:     args,
		Env:      programEnv(os.Environ(), f.env),
		RW:       []string{},
		Config:   statfile.DefaultConfig(),
		Stats:    f.stats,
		Terminal: isTerminal(0) && isTerminal(1) && isTerminal(2),
	}
	switch f.bypass {
	case "on":
	case "off":
		req.Config.Bypass = 0
	default:
		return nil, fmt.Errorf("--bypass is on or off, not %q", f.bypass)
	}
	switch n := launch.Network(f.network); n {
	case launch.NetworkHost, launch.NetworkNone:
		req.Network = n
	default:
		return nil, fmt.Errorf("--network is host or none, not %q", f.network)
	}
	for _, t := range f.tune {
		if err := launch.Tune(&req.Config, t); err != nil {
			return nil, fmt.Errorf("--tune: %w", err)
		}
	}
	for _, p := range f.rw {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("--rw: %w", err)
		}
		abs, err := filepath.EvalSymlinks(p)
		if err == nil {
			abs, err = filepath.Abs(abs)
		}
		if err != nil {
			return nil, fmt.Errorf("--rw: %w", err)
		}
		if abs == "/" {
			return nil, errors.New("--rw /: name the directories that the program may change, one by one")
		}
		req.RW = append(req.RW, abs)
	}
	var err error
	if req.Cwd, err = directory(f.cwd); err != nil {
		return nil, fmt.Errorf("--cwd: %w", err)
	}
	for _, p := range []struct {
		flag, value string
		to          *string
	}{
		{"stats-json", f.statsJSON, &req.StatsJSON}, {"stat-file", f.statFile, &req.StatFile}, {"debug-log", f.debugLog, &req.DebugLog},
	} {
		if p.value == "" {
			continue
		}
		if *p.to, err = filepath.Abs(p.value); err != nil {
			return nil, fmt.Errorf("--%s: %w", p.flag, err)
		}
	}
	if f.metrics != "" {
		if req.Metrics, err = launch.MetricsAddr(f.metrics); err != nil {
			return nil, fmt.Errorf("--metrics-addr: %w", err)
		}
		if req.Config.Bypass == 0 {
			return nil, errors.New("--metrics-addr has nothing to show with --bypass=off")
		}
	}
	if req.Config.Bypass == 0 && f.statFile != "" {
		return nil, errors.New("--stat-file has nothing to show with --bypass=off")
	}
	return req, launch.CheckProgram(args[0], lookupEnv(req.Env, "PATH"), req.Cwd)
}

// directory returns dir, or the present one if it is empty, as an absolute path without symbolic links.
func directory(dir string) (string, error) {
	if dir == "" {
		d, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("the present directory: %w", err)
		}
		return d, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s is no directory", dir)
	}
	return abs, nil
}

// programEnv returns env with changes, each NAME=VALUE or NAME to unset.
func programEnv(env, changes []string) []string {
	for _, c := range changes {
		name, _, set := strings.Cut(c, "=")
		kept := env[:0:0]
		for _, e := range env {
			if n, _, _ := strings.Cut(e, "="); n != name {
				kept = append(kept, e)
			}
		}
		if set {
			kept = append(kept, c)
		}
		env = kept
	}
	return env
}

func lookupEnv(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// sandboxEnv is the environment of the sandbox itself: without variables that would change how Go programs run, which
// are meant for the program.
func sandboxEnv() []string {
	var out []string
	for _, e := range os.Environ() {
		n, _, _ := strings.Cut(e, "=")
		switch n {
		case "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR":
			continue
		}
		out = append(out, e)
	}
	return out
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
