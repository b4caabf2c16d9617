package machine

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/target"
)

// Reason says why translated code was left.
type Reason uint8

const (
	// ExitSyscall: a syscall instruction was reached. Regs().RIP is the address after it; RCX and R11 are still the
	// program's: whoever serves the syscall sets them as the CPU would.
	ExitSyscall Reason = iota
	// ExitMiss: the program continues at Regs().RIP, for which the thread's dispatch table has no entry. Exit.From is
	// where it came from. Also the answer of Run, with nothing done and From 0, when given a retired or zero Code.
	ExitMiss
	// ExitStop: the program must continue natively at Regs().RIP, with an instruction that BTC does not execute. Also
	// the answer of Run, with nothing done, when Regs().Flags has bits that are not in FlagsAllowed, Regs().FSBase is
	// not below target.WindowSize, or the window is released.
	ExitStop
	// ExitFault: the instruction at Regs().RIP faulted and has had no effect yet (of a REP string instruction: the
	// registers tell how much is done). Run natively, it faults in the program's own context, or does not.
	ExitFault
	// ExitVector: nothing has been done, since code needs a higher vector level than the run has: see Code.Vec, SetVec.
	ExitVector
	// ExitFuel: somebody asked for the thread: Stop, or Go's runtime. Nothing is wrong; Run may be called again.
	ExitFuel
)

func (r Reason) String() string {
	switch r {
	case ExitSyscall:
		return "syscall"
	case ExitMiss:
		return "miss"
	case ExitStop:
		return "stop"
	case ExitFault:
		return "fault"
	case ExitVector:
		return "vector"
	case ExitFuel:
		return "fuel"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Exit is what Run returns. Whatever the reason, Regs holds the exact state of the program at an instruction boundary.
type Exit struct {
	Reason    Reason
	From      uint64     // ExitMiss: program address of the transfer to Regs().RIP, 0 if unknown
	FaultAddr uintptr    // ExitFault: host address that faulted, as the host kernel tells it: 0 for a non-canonical one
	Fault     *btc.Fault // ExitFault: the translator's record of the instruction; belongs to the blob
}

// Run enters translated code at code, with the registers in Regs and the program memory in w, and returns when it is
// left. Only one goroutine at a time may call it.
//
// While inside, the goroutine is not at a safe point of the Go runtime; a runtime that waits for one (garbage
// collection, a goroutine that ran for 10 ms) makes it leave with ExitFuel at the next poll.
func (t *Thread) Run(w *Window, code Code) Exit {
	b, m := t.b, t.m
	for {
		if b.regs.Flags&^FlagsAllowed != 0 || b.regs.FSBase >= target.WindowSize {
			return Exit{Reason: ExitStop}
		}
		if b.epoch != m.epoch.Load() {
			t.catchUp()
		}
		// After the epoch: see enter_amd64.s. When Retire or Release come after these checks, enter returns false.
		if code.in == nil || code.in.dead.Load() {
			return Exit{Reason: ExitMiss}
		}
		if code.in.vec > t.vec {
			return Exit{Reason: ExitVector}
		}
		if w.released.Load() {
			return Exit{Reason: ExitStop}
		}
		if atomic.LoadUint64(&b.poll) == 0 && !t.rearm() {
			return Exit{Reason: ExitFuel}
		}
		// What can be reached from here is in this list; by the time we are back, some of it may be freed.
		list := m.installed.Load()
		b.base = uint64(w.base)
		b.code = code.addr
		if !enter(b, &m.epoch, m.rx+uintptr(m.tramp.entry)) {
			continue
		}
		switch r := Reason(b.reason); r {
		case ExitMiss:
			return Exit{Reason: r, From: lineOf(*list, b.from)}
		case ExitFault:
			return t.fault(*list)
		default:
			return Exit{Reason: r}
		}
	}
}

// enter is in enter_amd64.s.
//
//go:noescape
func enter(b *block, epoch *atomic.Uint64, trampoline uintptr) bool

// catchUp makes the thread aware of what was retired.
func (t *Thread) catchUp() {
	// epoch is read first: Retire changes it last, so with it we see all that came with it.
	epoch := t.m.epoch.Load()
	if r := t.m.retires.Load(); r != t.retires {
		t.Flush()
		t.retires = r
	}
	t.b.epoch = epoch
}

// rearm makes polls pass again after the runtime or expel has asked the thread to leave. It returns false when Stop is
// in force.
func (t *Thread) rearm() bool {
	if t.stop.Load() {
		return false
	}
	if mprotect(t.b.pollPage(), pageSize, unix.PROT_READ) != nil {
		return false // too many mappings: the program runs natively
	}
	atomic.StoreUint64(&t.b.poll, 1)
	// Stop sets stop and then disarms. If it did so before our stores, we see stop now.
	if t.stop.Load() {
		t.b.disarm()
		return false
	}
	return true
}

// lineOf returns the program address of the instruction that the native code at pc translates, or 0.
func lineOf(list []*Installed, pc uint64) uint64 {
	if i := find(list, pc); i != nil {
		rip, _ := i.Blob.RIPAt(uint32(pc - uint64(i.base)))
		return rip
	}
	return 0
}

// fault rebuilds the program's registers after a fault of translated code. The landing trampoline has stored native
// registers 0..11 in regs and 12..15 in nat.
func (t *Thread) fault(list []*Installed) Exit {
	b := t.b
	i := find(list, b.faultPC)
	if i == nil {
		panic(fmt.Sprintf("BUG: fault at native address %#x of the arena (%#x+%#x), where no blob is (access to %#x)",
			b.faultPC, t.m.rx, t.m.opts.ArenaSize, b.faultAddr))
	}
	f, ok := i.Blob.FaultAt(uint32(b.faultPC - uint64(i.base)))
	if !ok {
		// The program's registers are lost, so there is no way on that would not corrupt the program.
		panic(fmt.Sprintf("BUG: the blob for %s faults at offset %#x (program address %#x, access to %#x), which its translation does not list",
			describe(i.Blob), b.faultPC-uint64(i.base), lineOf(list, b.faultPC), b.faultAddr))
	}
	native := b.regs.GPR
	copy(native[r12:], b.nat[:])
	slots := [btc.VirtualSlots]uint64{b.rsp, b.r12, b.r13, b.r14, b.r15}
	b.regs.GPR = f.Recover(&native, &slots)
	b.regs.RIP = f.RIP
	if f.Kind == btc.FaultPoll {
		atomic.StoreUint64(&b.poll, 0)
		return Exit{Reason: ExitFuel}
	}
	return Exit{Reason: ExitFault, FaultAddr: uintptr(b.faultAddr), Fault: f}
}

// describe names a blob in messages.
func describe(b *btc.Blob) string {
	if len(b.Entries) == 0 {
		return "(no entries)"
	}
	return fmt.Sprintf("%#x (%d entries, %d bytes)", b.Entries[0].RIP, len(b.Entries), len(b.Code))
}
