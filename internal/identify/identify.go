// Package identify is the experiments behind `ub bench identify`: how the identifier and the payoff controller do, against
// their parameters, on workloads that change, and on real programs. Each gives a table and a chart.
package identify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"ub/bench"
	"ub/internal/plot"
)

// Bench runs experiments.
type Bench struct {
	UB    string    // path of this program
	Out   string    // directory for charts and data
	Tab   io.Writer // tables
	Log   io.Writer // progress
	Quick bool      // shorter and fewer runs

	dir string // scratch
}

// Experiment is one of them.
type Experiment struct {
	Name, What string
	run        func(*Bench, context.Context) error
}

// All lists the experiments in the order in which they run.
var All = []Experiment{
	{"thresholds", "detection time and false candidates against each threshold (simulated)", (*Bench).thresholds},
	{"rate", "performance against the sampling rate", (*Bench).rate},
	{"phases", "a workload that changes phase: controller, fixed constants, no bypass", (*Bench).phases},
	{"growth", "extensions and misses over time of nginx, Redis, Python and SQLite", (*Bench).growth},
	{"census", "ten programs: which make many system calls, and what becomes of their gaps", (*Bench).census},
}

// Run runs the experiments with the given names, all if there are none.
func (b *Bench) Run(ctx context.Context, names []string) (err error) {
	var todo []Experiment
	for _, n := range names {
		found := false
		for _, e := range All {
			if e.Name == n {
				todo, found = append(todo, e), true
			}
		}
		if !found {
			return fmt.Errorf("there is no experiment %q: choose from %s", n, strings.Join(Names(), ", "))
		}
	}
	if len(names) == 0 {
		todo = All
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "ub-identify-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, e := range todo {
		fmt.Fprintf(b.Tab, "== %s: %s\n", e.Name, e.What)
		began := time.Now()
		if err := e.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		fmt.Fprintf(b.Tab, "(%v)\n\n", time.Since(began).Round(time.Second))
	}
	return nil
}

// Names lists the names of the experiments.
func Names() []string {
	var out []string
	for _, e := range All {
		out = append(out, e.Name)
	}
	return out
}

func (b *Bench) progress(format string, args ...any) { fmt.Fprintf(b.Log, format+"\n", args...) }

// program compiles a program of package bench.
func (b *Bench) program(name string) (string, error) { return bench.Build(b.dir, name, true) }

// command is `ub run` of argv with the given flags.
func (b *Bench) command(ctx context.Context, flags []string, argv ...string) *exec.Cmd {
	line := append([]string{"run"}, flags...)
	cmd := exec.CommandContext(ctx, b.UB, append(append(line, "--"), argv...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// capture runs a command and returns its output.
func capture(cmd *exec.Cmd) (string, error) {
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// table prints rows, the first of which is the heading.
func (b *Bench) table(rows [][]string) {
	t := tabwriter.NewWriter(b.Tab, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// chart writes NAME.svg, and what it shows as NAME.json.
func (b *Bench) chart(name string, c *plot.Chart) error {
	path := filepath.Join(b.Out, name+".svg")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(c.SVG(f), f.Close()); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.Out, name+".json"), data, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(b.Tab, "chart: %s\n", path)
	return nil
}

// bypassOff and so on are the flags of the ways to run a program.
var (
	bypassOff = []string{"--bypass=off"}
	bypassOn  = []string{}
	// fixed is the paper's way: its constants, and no look at what they bring.
	fixed = []string{"--tune=controller=0", "--tune=sample-every=10", "--tune=sample-max=10", "--tune=min-rate=50000", "--tune=short-gap-ns=4000",
		"--tune=min-short=90", "--tune=window-ms=1000", "--tune=min-yield-percent=0"}
)
