package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ub/internal/launch"
)

// machine says where something was measured.
type machine struct {
	Machine string `json:"machine"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Kernel  string `json:"kernel"`
	Gvisor  string `json:"gvisor"`
}

func thisMachine() machine {
	m := machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Gvisor: "unknown"}
	m.Machine, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if p, err := launch.FindRunsc(); err == nil {
		m.Gvisor = launch.GvisorVersion(p)
	}
	return m
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// row is one measured number. A ratio compares it with the baseline (mode off): above 1 is better than that.
type row struct {
	Bench    string  `json:"bench"`
	Workload string  `json:"workload"`
	Program  string  `json:"program,omitempty"`
	Mode     mode    `json:"mode"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Ratio    float64 `json:"ratio,omitempty"`
	// Share is the part of the system calls that was bypassed, for mode on.
	Share  *float64 `json:"share,omitempty"`
	Rounds int      `json:"rounds"`
	// Min and Max are the extremes of the rounds.
	Min float64 `json:"min"`
	Max float64 `json:"max"`
	// PerRequest is what a request to a server costs: times in microseconds, and counts.
	PerRequest map[string]float64 `json:"per_request,omitempty"`
	// SlowDown is translated/native, for translated code.
	SlowDown float64 `json:"slow_down,omitempty"`
	// Note says what is special about the number.
	Note string `json:"note,omitempty"`
}

// write replaces out/bench/NAME.json.
func (b *bencher) write(name string, rows []row) error {
	if len(rows) == 0 {
		return errNoValues
	}
	path := filepath.Join(b.out, name+".json")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	e := json.NewEncoder(f)
	for _, r := range rows {
		if err := e.Encode(struct {
			row
			machine
			Time string `json:"time"`
		}{r, b.machine, b.began.UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Printf("\nRows for programs: %s\n", path)
	return nil
}

// heading says what follows and where it is measured.
func (b *bencher) heading(text string) {
	fmt.Printf("%s\n%s, %d cores, Linux %s; sandbox: gVisor %s\n\n", text, b.machine.CPU, b.machine.Cores, b.machine.Kernel, shortVersion(b.machine.Gvisor))
}

// shortVersion makes v0.0.0-20260905035102-160fafc42237 20260905-160fafc42237.
func shortVersion(v string) string {
	p := strings.Split(v, "-")
	if len(p) == 3 && len(p[1]) == 14 {
		return p[1][:8] + "-" + p[2]
	}
	return v
}
