package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ub/internal/report"
)

// task is a piece of real work. INPUT in it stands for a file of 10 MB.
type task struct {
	name   string
	script string
}

var tasks = []task{
	{"start a program (true)", `true`},
	{"dd bs=64 | sha256sum", `cp INPUT /dev/shm/in && dd if=/dev/shm/in bs=64 status=none | sha256sum; rm /dev/shm/in`},
	{"dd bs=1k to a file", `dd if=INPUT of=/dev/shm/out bs=1k status=none && cksum </dev/shm/out; rm /dev/shm/out`},
	{"wc", `wc <INPUT`},
	{"sha256sum", `sha256sum <INPUT`},
	{"od | tail", `head -c 2000000 INPUT | od -A d -t x1 | tail -n 2`},
	{"a shell loop", `i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done | tail -n 1`},
	{"50 processes", `i=0; while [ $i -lt 50 ]; do i=$((i+1)); expr $i + 1; done | tail -n 1`},
}

// demoPart is the time for each of the two halves, so that the whole stays under two minutes on a slow or busy machine: it
// makes fewer rounds then, at least one.
const demoPart = 40 * time.Second

const inputSize = 10_000_000

func (b *bencher) demo(ctx context.Context, _ []string) error {
	b.heading("Unmodified programs: native, in the sandbox, and in the sandbox with bypass")
	r, err := b.measureSyscalls(ctx, nil, demoPart)
	if err != nil {
		return err
	}
	r.print()
	fmt.Printf("\nspeed-up: sandbox / bypass. of native: bypass / native. Medians of alternating rounds: %d.\n\n", r.rounds)
	rows := r.rows("demo")

	work, err := b.measureTasks(ctx)
	if err != nil {
		return err
	}
	rows = append(rows, work...)
	if err := b.write("demo", rows); err != nil {
		return err
	}
	fmt.Printf("Measured in %v. `make bench` measures longer; `bin/ub run --stats -- PROG` runs a program of yours.\n", time.Since(b.began).Round(time.Second))
	return nil
}

// measureTasks runs the tasks in all modes, taking turns, and fails if any output differs.
func (b *bencher) measureTasks(ctx context.Context) ([]row, error) {
	input := filepath.Join(b.dir, "input")
	if err := writeInput(input); err != nil {
		return nil, err
	}
	type result struct {
		times  map[mode][]float64
		output string
		share  float64
	}
	results := make([]result, len(tasks))
	rounds := 0
	for began := time.Now(); rounds < b.rounds; {
		roundBegan := time.Now()
		for i, t := range tasks {
			r := &results[i]
			for k := range modes {
				m := modes[(k+rounds)%len(modes)]
				progress("round %d of %d, %s: %s", rounds+1, b.rounds, describe(m), t.name)
				out, took, share, err := b.runTask(ctx, m, strings.ReplaceAll(t.script, "INPUT", input))
				if err != nil {
					return nil, err
				}
				if r.times == nil {
					r.times, r.output = map[mode][]float64{}, out
				}
				if out != r.output {
					progress("")
					return nil, fmt.Errorf("%s: the output differs: %s %q, %s %q", t.script, describe(m), out, describe(modes[0]), r.output)
				}
				r.times[m] = append(r.times[m], took)
				if m == on {
					r.share = share
				}
			}
		}
		rounds++
		if time.Since(began)+time.Since(roundBegan) > demoPart {
			break
		}
	}
	progress("")

	cells := [][]string{{"seconds, from start to end", "native", "sandbox", "bypass", "speed-up", "bypassed", "output"}}
	var rows []row
	for i, t := range tasks {
		r := &results[i]
		n, f, o := median(r.times[native]), median(r.times[off]), median(r.times[on])
		cells = append(cells, []string{t.name, fmt.Sprintf("%.3f", n), fmt.Sprintf("%.3f", f), fmt.Sprintf("%.3f", o),
			fmt.Sprintf("%.1fx", f/o), percent(r.share), "equal"})
		for _, m := range modes {
			e := newRow("demo", t.name, "coreutils", m, "s", r.times[m])
			e.Ratio = f / e.Value
			if m == on {
				e.Share = &r.share
			}
			rows = append(rows, e)
		}
	}
	table(cells)
	return rows, nil
}

// runTask runs a shell script and returns its output, the seconds it took and, for mode on, the share of system calls that
// were bypassed.
func (b *bencher) runTask(ctx context.Context, m mode, script string) (out string, seconds, share float64, err error) {
	js := filepath.Join(b.dir, "stats.json")
	argv := b.command(m, []string{"--stats-json=" + js}, "sh", "-c", script)
	began := time.Now()
	out, err = capture(ctx, argv)
	seconds = time.Since(began).Seconds()
	if err == nil && m == on {
		share, err = readShare(js)
	}
	return out, seconds, share, err
}

// writeInput makes a text file of inputSize bytes, the same every time.
func writeInput(path string) error {
	buf := make([]byte, 0, inputSize+80)
	for i := uint64(88172645463325252); len(buf) < inputSize; {
		i ^= i << 13
		i ^= i >> 7
		i ^= i << 17
		buf = fmt.Appendf(buf, "%d some words and a number %x\n", len(buf), i)
	}
	return os.WriteFile(path, buf[:inputSize], 0o644)
}

func readShare(path string) (float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var s report.Stats
	if err := json.Unmarshal(data, &s); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return s.Share, nil
}
