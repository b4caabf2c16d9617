package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ub/internal/report"
	"ub/sentry/statfile"
)

// Milliseconds for which each workload is warmed up, and measured, per round: the same in all modes. It takes sites a while
// to be noticed and translated, and gVisor a while to replace syscall instructions and to find out whether spinning pays.
const (
	warmMS    = 100
	measureMS = 20
)

// sample is one workload measured once.
type sample struct {
	workload string
	ns       float64
	native   uint64 // system calls by crossing and bypassed while it was measured, for mode on
	bypassed uint64
}

// series is one workload of one program in one mode over all rounds.
type series struct {
	ns               []float64
	native, bypassed uint64
}

// syscallResults are by program ("static", "dynamic"), then workload, then mode.
type syscallResults struct {
	rounds    int
	programs  []string
	workloads []string
	values    map[string]map[string]map[mode]*series
}

func (b *bencher) syscall(ctx context.Context, args []string) error {
	b.heading("Nanoseconds per operation; medians of " + strconv.Itoa(b.rounds) + " alternating rounds")
	r, err := b.measureSyscalls(ctx, args, noLimit)
	if err != nil {
		return err
	}
	r.print()
	return b.write("syscall", r.rows("syscall"))
}

// noLimit is more time than any benchmark takes.
const noLimit = 24 * time.Hour

// measureSyscalls runs bench/c/syscalls.c in all modes, taking turns. It makes at least one round, and begins no other
// that would take it beyond limit if it were as long as the last.
func (b *bencher) measureSyscalls(ctx context.Context, workloads []string, limit time.Duration) (*syscallResults, error) {
	static, dynamic, err := b.build("syscalls")
	if err != nil {
		return nil, err
	}
	r := &syscallResults{programs: []string{"static", "dynamic"}, values: map[string]map[string]map[mode]*series{}}
	began := time.Now()
	for round := range b.rounds {
		roundBegan := time.Now()
		for i, bin := range []string{static, dynamic} {
			// A different one begins each round, so that a slow change of the machine's speed favours none.
			for k := range modes {
				m := modes[(k+round)%len(modes)]
				where := fmt.Sprintf("round %d of %d, %s program, %s", round+1, b.rounds, r.programs[i], describe(m))
				samples, err := b.runSyscalls(ctx, m, where, bin, workloads)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", where, err)
				}
				for _, s := range samples {
					r.add(r.programs[i], m, s)
				}
			}
		}
		r.rounds++
		if time.Since(began)+time.Since(roundBegan) > limit {
			break
		}
	}
	progress("")
	return r, nil
}

func describe(m mode) string {
	switch m {
	case off:
		return "sandbox"
	case on:
		return "sandbox with bypass"
	}
	return string(m)
}

func (r *syscallResults) add(program string, m mode, s sample) {
	byWorkload := r.values[program]
	if byWorkload == nil {
		byWorkload = map[string]map[mode]*series{}
		r.values[program] = byWorkload
	}
	byMode := byWorkload[s.workload]
	if byMode == nil {
		byMode = map[mode]*series{}
		byWorkload[s.workload] = byMode
		if program == r.programs[0] {
			r.workloads = append(r.workloads, s.workload)
		}
	}
	v := byMode[m]
	if v == nil {
		v = &series{}
		byMode[m] = v
	}
	v.ns = append(v.ns, s.ns)
	v.native += s.native
	v.bypassed += s.bypassed
}

// runSyscalls runs the program bin once. It stops before and after each measurement; with bypass, the counters are read
// then.
func (b *bencher) runSyscalls(ctx context.Context, m mode, where, bin string, workloads []string) ([]sample, error) {
	var flags []string
	statPath := filepath.Join(b.dir, "stat")
	if m == on {
		flags = []string{"--stat-file=" + statPath}
	}
	argv := b.command(m, flags, append([]string{bin, strconv.Itoa(warmMS), strconv.Itoa(measureMS), "/dev/shm"}, workloads...)...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	samples, err := b.follow(in, bufio.NewScanner(out), m, where, statPath)
	if werr := cmd.Wait(); werr != nil {
		err = werr
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return samples, nil
}

// follow carries out the protocol that bench/c/syscalls.c describes.
func (b *bencher) follow(in io.WriteCloser, out *bufio.Scanner, m mode, where, statPath string) ([]sample, error) {
	defer in.Close()
	var stats *statfile.File
	defer func() {
		if stats != nil {
			stats.Unmap()
		}
	}()
	var samples []sample
	var before statfile.Snapshot
	for out.Scan() {
		f := strings.Fields(out.Text())
		switch {
		case len(f) == 1 && f[0] == "end":
			return samples, nil
		case len(f) == 2 && f[0] == "ready":
			progress("%s: %s", where, f[1])
			if m == on {
				if stats == nil {
					var err error
					if stats, err = statfile.Open(statPath); err != nil {
						return nil, err
					}
				}
				before = stats.Snapshot()
			}
		case len(f) == 5 && f[0] == "done":
			ns, err := strconv.ParseFloat(f[3], 64)
			if err != nil {
				return nil, err
			}
			s := sample{workload: f[1], ns: ns}
			if m == on {
				after := stats.Snapshot()
				s.native = after[statfile.Native] - before[statfile.Native]
				s.bypassed = after[statfile.Bypassed] - before[statfile.Bypassed]
			}
			samples = append(samples, s)
		default:
			return nil, fmt.Errorf("the program said %q", out.Text())
		}
		if _, err := io.WriteString(in, "\n"); err != nil {
			return nil, err
		}
	}
	if err := out.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the program ended early")
}

var workloadNames = map[string]string{
	"getpid": "getpid", "zero-64": "read /dev/zero 64 B", "null-64": "write /dev/null 64 B",
	"pipe-64": "pipe: write + read 64 B", "lseek-read-64": "lseek + read 64 B",
}

func workloadName(w string) string {
	if n, ok := workloadNames[w]; ok {
		return n
	}
	call, size, _ := strings.Cut(w, "-")
	return call + " " + size + " B"
}

func (r *syscallResults) print() {
	rows := [][]string{{"ns per operation", "", "native", "sandbox", "bypass", "speed-up", "of native", "bypassed"}}
	for _, w := range r.workloads {
		for _, p := range r.programs {
			v := r.values[p][w]
			n, f, o := median(v[native].ns), median(v[off].ns), median(v[on].ns)
			rows = append(rows, []string{workloadName(w), p, ns(n), ns(f), ns(o), fmt.Sprintf("%.1fx", f/o),
				fmt.Sprintf("%.1fx", o/n), percent(report.Share(v[on].bypassed, v[on].native+v[on].bypassed))})
		}
	}
	table(rows)
}

func ns(v float64) string { return fmt.Sprintf("%.0f", v) }

func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }

func (r *syscallResults) rows(bench string) []row {
	var out []row
	for _, w := range r.workloads {
		for _, p := range r.programs {
			base := median(r.values[p][w][off].ns)
			for _, m := range modes {
				v := r.values[p][w][m]
				e := newRow(bench, w, p, m, "ns", v.ns)
				e.Ratio = base / e.Value
				if m == on {
					s := report.Share(v.bypassed, v.native+v.bypassed)
					e.Share = &s
				}
				out = append(out, e)
			}
		}
	}
	return out
}

// newRow returns a row for the values of the rounds.
func newRow(bench, workload, program string, m mode, unit string, values []float64) row {
	e := row{Bench: bench, Workload: workload, Program: program, Mode: m, Unit: unit, Value: median(values), Rounds: len(values)}
	for i, v := range values {
		if i == 0 {
			e.Min, e.Max = v, v
		}
		e.Min, e.Max = min(e.Min, v), max(e.Max, v)
	}
	return e
}

// capture runs a command line and returns its output, and an error with what it said on standard error if its status is
// not 0.
func capture(ctx context.Context, argv []string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}
