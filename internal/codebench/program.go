// Package codebench compares the speed of translated code with that of the program's own, in one process: a program is
// brought to its main function as a child, its memory is then mapped here twice, once where it was, executable, and once in
// a window of the BTC machine, and its functions are called by turns natively and translated, on the same memory.
//
// It is for measuring only. It can take rules of the policy out of installed code, in its own process, to see what each
// of them costs.
package codebench

import (
	"bufio"
	"cmp"
	"debug/elf"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed c/workloads.c
var source string

// Where the program is. All of it must be below 2^31, as absolute addresses of the way in and out are in instructions,
// and not in the way of this process, which is at 4 MiB.
const (
	textBase  = 0x10000000
	imageEnd  = 0x17000000 // of the program and the heap behind it
	stackBase = 0x17000000
	stackSize = 1 << 20
	gateAt    = 0x17200000 // a page of ours: the way back

	imageSize = gateAt - textBase
	pageSize  = 4096
)

// mapping is a range of the program's memory.
type mapping struct {
	start, end        uint64
	read, write, exec bool
}

// program is a program that has come to its breakpoint.
type program struct {
	maps   []mapping
	file   *os.File // its memory from textBase on
	fsBase uint64
	symbol uint64 // address of "workloads"
	funcs  []elf.Symbol
}

func (p *program) close() { p.file.Close() }

// build compiles the workloads into dir.
func build(dir string) (string, error) {
	bin := filepath.Join(dir, "workloads")
	cmd := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-static", "-no-pie",
		// Pairs of these two would be left out.
		"-fno-builtin-malloc", "-fno-builtin-free",
		fmt.Sprintf("-Wl,-Ttext-segment=%#x", textBase), "-x", "c", "-", "-o", bin)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return bin, nil
}

// load starts the program at path and takes its memory over when it executes INT3.
func load(path string) (*program, error) {
	p := &program{}
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	for _, s := range syms {
		if s.Name == "workloads" {
			p.symbol = s.Value
		}
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC || elf.ST_TYPE(s.Info) == elf.STT_GNU_IFUNC {
			p.funcs = append(p.funcs, s)
		}
	}
	slices.SortStableFunc(p.funcs, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	if p.symbol == 0 {
		return nil, fmt.Errorf("%s has no symbol workloads", path)
	}

	// All requests of ptrace come from the thread that has started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(path)
	cmd.Env = []string{} // no tunables: the C library is as it is
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	// The child inherits this thread's personality. Without randomization its heap is right behind it.
	const addrNoRandomize, ask = 0x0040000, 0xffffffff
	old, _, _ := unix.RawSyscall(unix.SYS_PERSONALITY, ask, 0, 0)
	unix.RawSyscall(unix.SYS_PERSONALITY, old|addrNoRandomize, 0, 0)
	err = cmd.Start()
	unix.RawSyscall(unix.SYS_PERSONALITY, old, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	pid := cmd.Process.Pid
	defer func() {
		cmd.Process.Kill()
		var ws unix.WaitStatus
		unix.Wait4(pid, &ws, 0, nil)
		cmd.Process.Release()
	}()
	for range 2 { // the first stop is that of execve
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", path, err)
		}
		if !ws.Stopped() || ws.StopSignal() != unix.SIGTRAP {
			return nil, fmt.Errorf("%s stops with %#x before its breakpoint", path, uint32(ws))
		}
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return nil, fmt.Errorf("registers of %s: %w", path, err)
		}
		if p.fsBase = regs.Fs_base; p.fsBase != 0 {
			break
		}
		if err := unix.PtraceCont(pid, 0); err != nil {
			return nil, fmt.Errorf("continuing %s: %w", path, err)
		}
	}
	if p.fsBase < textBase || p.fsBase >= imageEnd {
		return nil, fmt.Errorf("%s has its thread-local variables at %#x, out of reach", path, p.fsBase)
	}
	return p, p.copyFrom(pid)
}

// copyFrom copies the child's memory.
func (p *program) copyFrom(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	if p.maps, err = parseMaps(string(text)); err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("codebench", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	p.file = os.NewFile(uintptr(fd), "codebench")
	if err := p.file.Truncate(imageSize); err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	for _, m := range p.maps {
		b := make([]byte, m.end-m.start)
		if _, err := mem.ReadAt(b, int64(m.start)); err != nil {
			return fmt.Errorf("memory of the child from %#x: %w", m.start, err)
		}
		if _, err := p.file.WriteAt(b, int64(m.start-textBase)); err != nil {
			return err
		}
	}
	p.maps = append(p.maps, mapping{start: stackBase, end: stackBase + stackSize, read: true, write: true})
	return nil
}

// parseMaps returns the mappings of a /proc/PID/maps that are the program's and its heap's. The stack and the kernel's own
// are not wanted.
func parseMaps(text string) ([]mapping, error) {
	var out []mapping
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		var m mapping
		var prot string
		if n, err := fmt.Sscanf(s.Text(), "%x-%x %4s", &m.start, &m.end, &prot); n != 3 {
			return nil, fmt.Errorf("mapping %q: %w", s.Text(), err)
		}
		if m.end <= textBase || m.start >= 1<<42 {
			continue
		}
		if m.start < textBase || m.end > imageEnd {
			return nil, fmt.Errorf("mapping %q is not between %#x and %#x", s.Text(), uint64(textBase), uint64(imageEnd))
		}
		m.read, m.write, m.exec = prot[0] == 'r', prot[1] == 'w', prot[2] == 'x'
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, errors.New("the program has no memory")
	}
	return out, nil
}

// name says where an address is.
func (p *program) name(addr uint64) string {
	i := sort.Search(len(p.funcs), func(i int) bool { return p.funcs[i].Value > addr })
	if i == 0 {
		return fmt.Sprintf("%#x", addr)
	}
	return fmt.Sprintf("%s+%#x", p.funcs[i-1].Name, addr-p.funcs[i-1].Value)
}

// ReadCode implements path.CodeReader.
func (p *program) ReadCode(addr uint64, dst []byte) (int, error) {
	if addr == gateAt {
		return copy(dst, gateCode), nil
	}
	for _, m := range p.maps {
		if addr >= m.start && addr < m.end {
			if !m.exec {
				return 0, fmt.Errorf("%#x is not executable", addr)
			}
			n, err := p.file.ReadAt(dst[:min(uint64(len(dst)), m.end-addr)], int64(addr-textBase))
			return n, err
		}
	}
	return 0, fmt.Errorf("nothing at %#x", addr)
}

// Workload is a function of the program.
type Workload struct {
	Group, Name string
	Needs       []string // flags of the processor
	addr        uint64
}

// workloads reads the program's table.
func (p *program) workloads() ([]Workload, error) {
	word := func(addr uint64) (uint64, error) {
		var b [8]byte
		_, err := p.file.ReadAt(b[:], int64(addr-textBase))
		return binary.LittleEndian.Uint64(b[:]), err
	}
	text := func(addr uint64) (string, error) {
		b := make([]byte, 128)
		if _, err := p.file.ReadAt(b, int64(addr-textBase)); err != nil {
			return "", err
		}
		s, _, _ := strings.Cut(string(b), "\x00")
		return s, nil
	}
	var out []Workload
	for at := p.symbol; ; at += 32 {
		var w [4]uint64
		for i := range w {
			var err error
			if w[i], err = word(at + 8*uint64(i)); err != nil {
				return nil, err
			}
		}
		if w[0] == 0 {
			return out, nil
		}
		var s [3]string
		for i := range s {
			var err error
			if s[i], err = text(w[i]); err != nil {
				return nil, err
			}
		}
		out = append(out, Workload{s[0], s[1], strings.Fields(s[2]), w[3]})
	}
}
