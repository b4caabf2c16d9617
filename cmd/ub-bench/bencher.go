package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ub/bench"
	"ub/internal/launch"
)

// mode is a way to run a program.
type mode string

const (
	native mode = "native" // on this machine's Linux
	off    mode = "off"    // in the sandbox without bypass: gVisor's systrap
	on     mode = "on"     // in the sandbox with bypass
)

var modes = []mode{native, off, on}

// bencher is what all benchmarks need.
type bencher struct {
	ub     string // path of the program
	out    string
	rounds int

	dir     string // for compiled programs and data, gone at the end
	machine machine
	began   time.Time
}

// forSandboxes is what setUp asks of the machine for benchmarks that run sandboxes.
func forSandboxes() error { return launch.CheckHost(true) }

// setUp prepares a benchmark, if supported says that the machine can run it.
func (b *bencher) setUp(supported func() error) error {
	if b.ub == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		b.ub = filepath.Join(filepath.Dir(self), "ub")
	}
	if _, err := os.Stat(b.ub); err != nil {
		return fmt.Errorf("no ub to measure: %w; run `make build`", err)
	}
	if err := supported(); err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "ub-bench-"); err != nil {
		return err
	}
	b.machine = thisMachine()
	b.began = time.Now()
	return nil
}

func (b *bencher) tearDown() {
	os.RemoveAll(b.dir)
	progress("")
}

// build compiles a program of package bench in both ways.
func (b *bencher) build(name string) (static, dynamic string, err error) {
	if static, err = bench.Build(b.dir, name, true); err == nil {
		dynamic, err = bench.Build(b.dir, name, false)
	}
	return static, dynamic, err
}

// command returns the command line that runs argv in mode m, with flags for ub if that is what runs it.
func (b *bencher) command(m mode, flags []string, argv ...string) []string {
	if m == native {
		return argv
	}
	line := append([]string{b.ub, "run", "--network=none", "--bypass=" + string(m)}, flags...)
	return append(append(line, "--"), argv...)
}

// terminal tells whether standard error is one.
var terminal = func() bool {
	_, err := unix.IoctlGetTermios(2, unix.TCGETS)
	return err == nil
}()

// progress shows what is going on, in place of what it showed before. "" ends it.
func progress(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case terminal:
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", text)
	case text != "":
		fmt.Fprintln(os.Stderr, text)
	}
}

var errNoValues = errors.New("nothing was measured")

// median returns the middle of values, which it does not change, and NaN-free 0 when there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// table prints rows of cells, the first column to the left, the others to the right. The first row is the heading.
func table(rows [][]string) {
	var width []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 0 {
				b.WriteString(c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		fmt.Println(strings.TrimRight(b.String(), " "))
		if n == 0 {
			total := -2
			for _, w := range width {
				total += w + 2
			}
			fmt.Println(strings.Repeat("-", total))
		}
	}
}
