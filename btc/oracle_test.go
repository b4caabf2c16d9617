package btc_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The native oracle: a traced child process that executes the program's own instructions at their own addresses. It has
// nothing mapped but what a test maps, so that an access faults there just when it does in a window of the machine.

// oracleBase is where the child's own page is: a SYSCALL instruction through which the parent maps memory.
const oracleBase = 0x70000000

type oracle struct {
	pid    int
	gadget uint64
	files  int
}

// state is the program's integer state as both sides have it.
type state struct {
	gpr    [16]uint64 // hardware numbering
	rip    uint64
	flags  uint64 // arithmetic ones only
	fsBase uint64
	vec    vectors
}

// outcome is how an execution ended.
type outcome struct {
	state
	sig syscall.Signal // SIGTRAP: reached the end marker INT3, state.rip is its address
}

const arithFlags = 0x8d5

// newOracle starts a child with the given files as descriptors 3, 4, ... The calling goroutine must stay on its thread
// until the test ends.
func newOracle(t testing.TB, files ...*os.File) *oracle {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	exe := filepath.Join(t.TempDir(), "empty")
	elf, gadget := emptyProgram()
	if err := os.WriteFile(exe, elf, 0o755); err != nil {
		t.Fatal(err)
	}
	proc, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Files: append([]*os.File{nil, nil, os.Stderr}, files...),
		Env:   []string{},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		t.Skipf("no traced child process: %v", err)
	}
	o := &oracle{pid: proc.Pid, gadget: gadget}
	t.Cleanup(func() {
		unix.Kill(o.pid, unix.SIGKILL)
		unix.Wait4(o.pid, nil, 0, nil)
	})
	if sig, err := o.wait(); err != nil || sig != syscall.SIGTRAP {
		t.Fatalf("child did not stop after exec: %v %v", sig, err)
	}
	o.unmapAll(t)
	return o
}

// emptyProgram returns an ELF executable of one page and the address of "syscall; int3" in it.
func emptyProgram() ([]byte, uint64) {
	const head = 64 + 56
	b := make([]byte, head)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2) // ET_EXEC
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], oracleBase+head)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	p := b[64:]
	le.PutUint32(p[0:], 1) // PT_LOAD
	le.PutUint32(p[4:], 5) // R+X
	le.PutUint64(p[16:], oracleBase)
	le.PutUint64(p[24:], oracleBase)
	le.PutUint64(p[32:], head+3)
	le.PutUint64(p[40:], head+3)
	le.PutUint64(p[48:], 4096)
	return append(b, 0x0f, 0x05, 0xcc), oracleBase + head
}

func (o *oracle) wait() (syscall.Signal, error) {
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(o.pid, &ws, 0, nil); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, err
		}
		if !ws.Stopped() {
			return 0, fmt.Errorf("the child is gone: status %#x", uint32(ws))
		}
		return syscall.Signal(ws.StopSignal()), nil
	}
}

// call makes the child do a system call.
func (o *oracle) call(t testing.TB, nr uint64, args ...uint64) {
	t.Helper()
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(o.pid, &r); err != nil {
		t.Fatal(err)
	}
	var a [6]uint64
	copy(a[:], args)
	r.Rip, r.Rax, r.Orig_rax = o.gadget, nr, ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if err := unix.PtraceSetRegs(o.pid, &r); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceCont(o.pid, 0); err != nil {
		t.Fatal(err)
	}
	if sig, err := o.wait(); err != nil || sig != syscall.SIGTRAP {
		t.Fatalf("child's system call %d: %v %v", nr, sig, err)
	}
	if err := unix.PtraceGetRegs(o.pid, &r); err != nil {
		t.Fatal(err)
	}
	if int64(r.Rax) < 0 && int64(r.Rax) > -4096 {
		t.Fatalf("child's system call %d(%#x): %v", nr, args, syscall.Errno(-int64(r.Rax)))
	}
}

// unmapAll removes everything but the child's own page: stack, vdso.
func (o *oracle) unmapAll(t testing.TB) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", o.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(maps)), "\n") {
		lo, hi, _ := strings.Cut(strings.Fields(line)[0], "-")
		start, err1 := strconv.ParseUint(lo, 16, 64)
		end, err2 := strconv.ParseUint(hi, 16, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("line of maps: %q", line)
		}
		if start == oracleBase || start >= 1<<47 {
			continue
		}
		o.call(t, unix.SYS_MUNMAP, start, end-start)
	}
}

// mmap maps the i-th of the oracle's files, shared.
func (o *oracle) mmap(t testing.TB, addr, length uint64, i int, off int64, prot uint64) {
	t.Helper()
	o.call(t, unix.SYS_MMAP, addr, length, prot, unix.MAP_SHARED|unix.MAP_FIXED, uint64(3+i), uint64(off))
}

// run executes natively from s until a signal.
func (o *oracle) run(t testing.TB, s state) outcome {
	t.Helper()
	return o.resume(t, s, unix.PtraceCont)
}

func (o *oracle) resume(t testing.TB, s state, how func(pid, sig int) error) outcome {
	t.Helper()
	g := &s.gpr
	r := unix.PtraceRegs{
		Rax: g[0], Rcx: g[1], Rdx: g[2], Rbx: g[3], Rsp: g[4], Rbp: g[5], Rsi: g[6], Rdi: g[7],
		R8: g[8], R9: g[9], R10: g[10], R11: g[11], R12: g[12], R13: g[13], R14: g[14], R15: g[15],
		Rip: s.rip, Eflags: s.flags&arithFlags | 0x202, Orig_rax: ^uint64(0), Fs_base: s.fsBase,
		Cs: 0x33, Ss: 0x2b,
	}
	if err := unix.PtraceSetRegs(o.pid, &r); err != nil {
		t.Fatalf("setting the child's registers: %v", err)
	}
	o.setVectors(t, &s.vec)
	if err := how(o.pid, 0); err != nil {
		t.Fatal(err)
	}
	// A random program may loop for ever: then it ends with SIGSTOP.
	timer := time.AfterFunc(3*time.Second, func() { unix.Kill(o.pid, unix.SIGSTOP) })
	defer timer.Stop()
	sig, err := o.wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceGetRegs(o.pid, &r); err != nil {
		t.Fatal(err)
	}
	out := outcome{sig: sig, state: state{
		gpr: [16]uint64{r.Rax, r.Rcx, r.Rdx, r.Rbx, r.Rsp, r.Rbp, r.Rsi, r.Rdi,
			r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15},
		rip: r.Rip, flags: r.Eflags & arithFlags, fsBase: r.Fs_base, vec: o.vectors(t),
	}}
	return out
}

// step executes one instruction natively. A SIGTRAP outcome is a step done, or an INT3 (then rip is after it).
func (o *oracle) step(t testing.TB, s state) outcome {
	t.Helper()
	return o.resume(t, s, func(pid, _ int) error { return unix.PtraceSingleStep(pid) })
}
