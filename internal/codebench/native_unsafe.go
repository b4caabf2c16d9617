package codebench

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"ub/sentry/machine"
)

// context is a state of the program, and this process's while the program runs. native_amd64.s knows the offsets.
type context struct {
	gpr    [16]uint64
	flags  uint64
	fsBase uint64 // at 136
	hostSP uint64
	hostBP uint64
	hostFS uint64
	xsave  uintptr // area of XSAVE to load vector registers from, or 0
	mxcsr  uint64  // this process's
}

//go:noescape
func runNative(c *context)
func nativeReturn()
func nativeReturnAddr() uintptr

// The gate is a page of this process in the program's memory. Functions return to its start: natively there is a jump back
// to Go; the translator sees gateCode instead, a system call, which is how gaps end.
const (
	jumpOff    = 0x800 // where runNative jumps to, an address
	contextOff = 0xa00 // the context
)

const gateCode = "\x0f\x05\xcc\xcc"

// native is the program's memory where the program has it.
type native struct {
	gate []byte
	ctx  *context
	// stackTop is where the return address goes.
	stackTop []byte
	all      []uintptr // mapped ranges: address, size, ...
}

// mapAt maps memory where it belongs; what is there already must not be lost.
func (n *native) mapAt(addr, size uint64, prot, flags, fd int, off int64) error {
	got, _, e := unix.Syscall6(unix.SYS_MMAP, uintptr(addr), uintptr(size), uintptr(prot), uintptr(flags|unix.MAP_FIXED_NOREPLACE), uintptr(fd), uintptr(off))
	if e != 0 {
		return fmt.Errorf("mapping %#x: %w", addr, e)
	}
	n.all = append(n.all, got, uintptr(size))
	if got != uintptr(addr) {
		return fmt.Errorf("mapping %#x: the kernel has chosen %#x", addr, got)
	}
	return nil
}

// newNative maps the program's memory to where the program has it.
func newNative(p *program) (*native, error) {
	n := &native{}
	for _, m := range p.maps {
		prot := 0
		if m.read {
			prot |= unix.PROT_READ
		}
		if m.write {
			prot |= unix.PROT_WRITE
		}
		if m.exec {
			prot |= unix.PROT_EXEC
		}
		if err := n.mapAt(m.start, m.end-m.start, prot, unix.MAP_SHARED, int(p.file.Fd()), int64(m.start-textBase)); err != nil {
			n.close()
			return nil, err
		}
	}
	if err := n.mapAt(gateAt, pageSize, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, 0); err != nil {
		n.close()
		return nil, err
	}
	n.gate = bytesAt(gateAt, pageSize)
	n.stackTop = bytesAt(stackBase+stackSize-64-8, 8)
	n.ctx = (*context)(unsafe.Pointer(&n.gate[contextOff]))
	code := []byte{0x49, 0xbb} // movabs r11, the context
	code = binary.LittleEndian.AppendUint64(code, gateAt+contextOff)
	code = append(code, 0x49, 0xba) // movabs r10, nativeReturn
	code = binary.LittleEndian.AppendUint64(code, uint64(nativeReturnAddr()))
	code = append(code, 0x41, 0xff, 0xe2) // jmp r10
	copy(n.gate, code)
	return n, nil
}

func (n *native) close() {
	for i := 0; i < len(n.all); i += 2 {
		unix.Syscall(unix.SYS_MUNMAP, n.all[i], n.all[i+1], 0)
	}
	n.all = nil
}

// bytesAt is memory that Go knows nothing of.
func bytesAt(addr uintptr, size int) []byte {
	// A conversion that vet can't mistake for arithmetic on a pointer of Go's.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), size)
}

// newArea returns an XSAVE area with everything in its initial state.
func newArea() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, machine.VecAreaSize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("a place for vector registers: %w", err)
	}
	binary.LittleEndian.PutUint32(b[24:], 0x1f80) // MXCSR
	return b, nil
}

// addrOf is where b, which is not of Go's memory, is.
func addrOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// run executes natively from a state until the function that it is in returns to the gate, and returns RAX. The thread
// must be quiet. Vector registers are taken from an XSAVE area outside of Go's memory; with 0 they hold anything.
func (n *native) run(gpr *[16]uint64, rip, flags, fsBase uint64, xsave uintptr) uint64 {
	n.ctx.gpr = *gpr
	n.ctx.flags = flags
	n.ctx.fsBase = fsBase
	n.ctx.xsave = xsave
	binary.LittleEndian.PutUint64(n.gate[jumpOff:], rip)
	runNative(n.ctx)
	return n.ctx.gpr[0]
}

// call prepares the stack for a call of a function, and returns RSP as it is then.
func (n *native) call() uint64 {
	const top = stackBase + stackSize - 64 // a multiple of 16, as the ABI has it before a call
	binary.LittleEndian.PutUint64(n.stackTop, gateAt)
	return top - 8
}

// sigset is the kernel's set of signals.
type sigset uint64

// quiet keeps signals from this thread, but for those that the machine needs: faults. It returns the mask that was.
func quiet() (sigset, error) {
	mask := ^sigset(0)
	for _, s := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP} {
		mask &^= 1 << (s - 1)
	}
	return setMask(mask)
}

func setMask(mask sigset) (old sigset, err error) {
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 {
		return 0, fmt.Errorf("rt_sigprocmask: %w", e)
	}
	return old, nil
}
