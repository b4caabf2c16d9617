package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}} {
		before := append([]float64(nil), c.in...)
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
		for i := range before {
			if c.in[i] != before[i] {
				t.Errorf("median has sorted its argument: %v", c.in)
			}
		}
	}
}

// TestNativeMeasurement runs the program that the benchmark runs, natively, and writes and reads rows.
func TestNativeMeasurement(t *testing.T) {
	b := &bencher{dir: t.TempDir(), out: t.TempDir(), rounds: 1, machine: thisMachine()}
	static, dynamic, err := b.build("syscalls")
	if err != nil {
		t.Skipf("%v: run scripts/deps.sh", err)
	}
	r := &syscallResults{programs: []string{"static", "dynamic"}, values: map[string]map[string]map[mode]*series{}}
	for i, bin := range []string{static, dynamic} {
		samples, err := b.runSyscalls(context.Background(), native, "test", bin, []string{"getpid", "pread-64", "pipe-64"})
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) != 3 {
			t.Fatalf("%d samples, want 3", len(samples))
		}
		for _, s := range samples {
			if s.ns < 10 || s.ns > 1e6 {
				t.Errorf("%s takes %v ns", s.workload, s.ns)
			}
			for _, m := range modes { // as if all modes were equally fast
				r.add(r.programs[i], m, s)
			}
		}
	}
	if strings.Join(r.workloads, " ") != "getpid pread-64 pipe-64" {
		t.Errorf("workloads %v", r.workloads)
	}
	if err := b.write("test", r.rows("test")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(b.out, "test.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		var v map[string]any
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatalf("%v in %s", err, s.Text())
		}
		for _, k := range []string{"bench", "machine", "cpu", "kernel", "mode", "workload", "value", "unit", "ratio", "time"} {
			if v[k] == nil || v[k] == "" {
				t.Errorf("no %q in %s", k, s.Text())
			}
		}
		if v["ratio"].(float64) != 1 {
			t.Errorf("ratio of equal times: %s", s.Text())
		}
	}
	if lines != 3*2*3 {
		t.Errorf("%d rows, want %d", lines, 3*2*3)
	}
}

func TestUnknownWorkload(t *testing.T) {
	b := &bencher{dir: t.TempDir()}
	static, _, err := b.build("syscalls")
	if err != nil {
		t.Skipf("%v: run scripts/deps.sh", err)
	}
	samples, err := b.runSyscalls(context.Background(), native, "test", static, []string{"no-such"})
	if err == nil && len(samples) > 0 {
		t.Errorf("measured %v", samples)
	}
}

func TestInput(t *testing.T) {
	var texts [2]string
	for i := range texts {
		p := filepath.Join(t.TempDir(), "input")
		if err := writeInput(p); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	if texts[0] != texts[1] || len(texts[0]) != inputSize {
		t.Errorf("%d and %d bytes, equal: %v", len(texts[0]), len(texts[1]), texts[0] == texts[1])
	}
}
