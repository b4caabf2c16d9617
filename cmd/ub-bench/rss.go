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
)

// memory is what a sandbox's main process, the Sentry, takes, in MiB.
type memory struct {
	rss float64 // all resident pages, shared ones included: with bypass the program's pages count twice
	pss float64 // shared pages divided among those who share them
}

// rss measures the Sentry's memory while the program sleeps, after it has done something.
func (b *bencher) rss(ctx context.Context, _ []string) error {
	_, dynamic, err := b.build("syscalls")
	if err != nil {
		return err
	}
	b.heading(fmt.Sprintf("Memory of the sandbox's kernel process; medians of %d alternating rounds", b.rounds))
	cells := [][]string{{"MiB", "sandbox", "bypass", "difference", "PSS: sandbox", "bypass", "difference"}}
	var rows []row
	for _, w := range []struct{ name, script string }{
		{"a shell that waits", `echo waiting; read x`},
		{"all system call workloads", `yes | "$0" 40 40 /dev/shm >/dev/null; echo waiting; read x`},
		{"200 processes", `i=0; while [ $i -lt 200 ]; do i=$((i+1)); expr $i + 1 >/dev/null; done; echo waiting; read x`},
		{"20 processes at a time", `i=0; while [ $i -lt 20 ]; do i=$((i+1)); { dd if=/dev/zero of=/dev/null bs=64 count=20000 status=none; sleep 5; } & done; sleep 3; echo waiting; read x`},
	} {
		all := map[mode][2][]float64{}
		for round := range b.rounds {
			for k := range modes {
				m := modes[(k+round)%len(modes)]
				if m == native {
					continue
				}
				progress("round %d of %d, %s: %s", round+1, b.rounds, describe(m), w.name)
				v, err := b.sentryMemory(ctx, m, w.script, dynamic)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, describe(m), err)
				}
				a := all[m]
				a[0], a[1] = append(a[0], v.rss), append(a[1], v.pss)
				all[m] = a
			}
		}
		mib := func(v float64) string { return fmt.Sprintf("%.1f", v) }
		line := []string{w.name}
		for i, kind := range []string{"rss", "pss"} {
			f, o := median(all[off][i]), median(all[on][i])
			line = append(line, mib(f), mib(o), fmt.Sprintf("%+.1f", o-f))
			for _, m := range []mode{off, on} {
				e := newRow("rss", w.name+", "+kind, "", m, "MiB", all[m][i])
				e.Ratio = f / e.Value
				rows = append(rows, e)
			}
		}
		cells = append(cells, line)
	}
	progress("")
	table(cells)
	fmt.Println("\nRSS counts pages that the Sentry shares with the program's processes in full, PSS divides them up.")
	return b.write("rss", rows)
}

// sentryMemory runs script until it says "waiting" and looks at the Sentry then.
func (b *bencher) sentryMemory(ctx context.Context, m mode, script, program string) (memory, error) {
	argv := b.command(m, nil, "sh", "-c", script, program)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return memory{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return memory{}, err
	}
	if err := cmd.Start(); err != nil {
		return memory{}, err
	}
	var v memory
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && line != "waiting\n" {
		err = fmt.Errorf("the program said %q", line)
	}
	if err == nil {
		time.Sleep(300 * time.Millisecond) // what is in progress in the background settles
		v, err = processMemory(cmd.Process.Pid)
	}
	io.WriteString(in, "\n")
	in.Close()
	if werr := cmd.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return memory{}, fmt.Errorf("%w %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return v, nil
}

// processMemory finds the Sentry among the children of the ub with process id pid.
func processMemory(pid int) (memory, error) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, child := range strings.Fields(string(b)) {
			cmdline, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if !bytes.HasPrefix(cmdline, []byte("runsc-sandbox\x00")) {
				continue
			}
			return readRollup("/proc/" + child + "/smaps_rollup")
		}
	}
	return memory{}, errors.New("no Sentry process found")
}

func readRollup(path string) (memory, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return memory{}, err
	}
	var v memory
	for _, l := range strings.Split(string(b), "\n") {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		switch {
		case err != nil:
		case f[0] == "Rss:":
			v.rss = kib / 1024
		case f[0] == "Pss:":
			v.pss = kib / 1024
		}
	}
	if v.rss == 0 {
		return v, fmt.Errorf("%s has no line Rss", path)
	}
	return v, nil
}
