package apps

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU is processor time that a sandbox has used.
type CPU struct {
	Sentry time.Duration // its kernel: the Sentry, with BTC and with the host's part of its system calls
	Stub   time.Duration // the program's own code where it runs natively, and the host's part of crossings
	Gofer  time.Duration
}

func (c CPU) Sub(d CPU) CPU {
	return CPU{c.Sentry - d.Sentry, c.Stub - d.Stub, c.Gofer - d.Gofer}
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all of Linux' x86.
const tick = 10 * time.Millisecond

// System is processor time of the whole machine.
type System struct {
	Idle  time.Duration
	Steal time.Duration // taken by the hypervisor for others
	Busy  time.Duration // all else
}

func (s System) Sub(t System) System {
	return System{s.Idle - t.Idle, s.Steal - t.Steal, s.Busy - t.Busy}
}

// SystemCPU returns what the machine has used so far.
func SystemCPU() (System, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return System{}, err
	}
	return parseSystem(string(b))
}

func parseSystem(text string) (System, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	// cpu user nice system idle iowait irq softirq steal; guests are counted as user.
	if len(f) < 9 || f[0] != "cpu" {
		return System{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var s System
	for i, v := range f[1:9] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return System{}, fmt.Errorf("/proc/stat begins with %q", line)
		}
		d := time.Duration(n) * tick
		switch i {
		case 3, 4:
			s.Idle += d
		case 7:
			s.Steal += d
		default:
			s.Busy += d
		}
	}
	return s, nil
}

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent int
	cpu         time.Duration
}

// parseStat reads the parts of /proc/PID/stat that matter. The second field, the name, may contain anything.
func parseStat(b []byte) (process, error) {
	i, j := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if i < 0 || j < i {
		return process{}, fmt.Errorf("no process: %q", b)
	}
	f := strings.Fields(string(b[j+1:]))
	if len(f) < 13 {
		return process{}, fmt.Errorf("no process: %q", b)
	}
	var p process
	var user, system int64
	var err error
	for _, v := range []struct {
		text string
		set  func(n int64)
	}{
		{strings.TrimSpace(string(b[:i])), func(n int64) { p.pid = int(n) }},
		{f[1], func(n int64) { p.parent = int(n) }},
		{f[11], func(n int64) { user = n }},
		{f[12], func(n int64) { system = n }},
	} {
		n, e := strconv.ParseInt(v.text, 10, 64)
		if e != nil {
			err = e
		}
		v.set(n)
	}
	p.cpu = time.Duration(user+system) * tick
	return p, err
}

// CPU returns what the server's sandbox has used so far, or for a native one, as Stub, what its processes have.
func (s *Server) CPU() (CPU, error) {
	all := map[int]process{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return CPU{}, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if p, err := parseStat(b); err == nil {
			all[p.pid] = p
		}
	}
	return sum(all, s.cmd.Process.Pid, func(pid int) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		name, _, _ := strings.Cut(string(b), "\x00")
		return name
	}), nil
}

// sum adds up the processes below root. Those below the Sentry are its stubs; its name is runsc-sandbox.
func sum(all map[int]process, root int, name func(pid int) string) CPU {
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	var c CPU
	var visit func(pid int, to *time.Duration)
	visit = func(pid int, to *time.Duration) {
		own := to
		switch name(pid) {
		case "runsc-sandbox":
			own, to = &c.Sentry, &c.Stub
		case "runsc-gofer":
			own, to = &c.Gofer, &c.Gofer
		case "runsc-ub": // the launcher, which only waits
		}
		*own += all[pid].cpu
		for _, ch := range children[pid] {
			visit(ch, to)
		}
	}
	visit(root, &c.Stub)
	return c
}
