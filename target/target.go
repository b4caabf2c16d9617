// Package target holds the contract between translated code and the kernel that runs it: the layout of the context
// block, the window of program memory, and the places that translated code may jump to. docs/btc-machine.md is the same
// contract in prose. The translator (package btc) and the verifier (package sfi) both read these constants; they share
// nothing else. There is no code here that either of them could be wrong about together.
package target

// Offsets of the context block's slots, in bytes from RSP while translated code runs. Each slot is 8 bytes.
const (
	SlotRSP      = 0x00 // program's RSP; translated code may write it
	SlotR12      = 0x08 // program's R12; writable
	SlotR13      = 0x10 // program's R13; writable
	SlotR14      = 0x18 // program's R14; writable
	SlotR15      = 0x20 // program's R15; writable
	SlotScratch0 = 0x28 // free for translated code; writable
	SlotScratch1 = 0x30 // free for translated code; writable
	SlotScratch2 = 0x38 // free for translated code; writable
	SlotFSBase   = 0x40 // program's FS base, always below WindowSize; read-only
	SlotAddrMask = 0x48 // holds AddrMask; read-only
	SlotSpare    = 0x50 // not used: holds 0; read-only
	SlotPoll     = 0x58 // 0 when the thread is asked to leave; for the dispatch trampoline: blobs poll at PollDisp
	SlotBase     = 0x60 // host address of the program's window, the value of GS base; read-only
	SlotsEnd     = 0x68 // first offset that translated code may not touch at all (but for SlotTouch)

	// WritableEnd is the first offset that translated code may not write.
	WritableEnd = SlotFSBase

	// PollDisp is where a blob polls: mov r32, [rsp+PollDisp], in the page below the context block. The page holds no
	// secret, and is not readable while the thread is asked to leave. No slot and no vector register has its place at the
	// same offset of a page: a processor may take a load for one of a store just made at the same offset of another page, and
	// wait for it in vain (4K aliasing: ten times the time of a loop that stored RSP).
	PollDisp = -0x200

	// TagShift is what a register that translated code may neither change nor know has in its low six bits: the block's address
	// for the Sentry, the anchor in Linux. SHRX takes its count from there, so that shrx t, a, rsp makes t the tag of address a,
	// its upper 8 bits, in one operation without a constant to be loaded and without touching the flags. The block begins that
	// far behind the start of its page.
	TagShift = 56

	// MaxTag is the largest tag.
	MaxTag = 1<<(64-TagShift) - 1

	// SlotTouch is the last quadword of the context block's page; the page after it is never mapped. Reading
	// [rsp + tag*8 + SlotTouch] faults unless tag is 0.
	SlotTouch = 0x1000 - 8 - TagShift
)

// The program's window in the Sentry: the program's addresses [0, WindowSize) appear at [base, base+WindowSize), and
// nothing is mapped within GuardSize below base or above base+WindowSize.
const (
	WindowBits = 42
	WindowSize = 1 << WindowBits
	GuardSize  = 1 << 33 // at least, on both sides

	// DispLimit bounds how far an access may lie from a sanitized address: every byte touched lies in
	// [w-DispLimit, w+DispLimit) for a sanitized w. Half of GuardSize, so that neighbouring windows may share a guard.
	DispLimit = 1 << 32

	// AddrMask is PDEP's mask for a sanitized address: address bits 0..41 stay, bits 42..58 move to 47..63. With any
	// of those set the result is non-canonical or in the kernel's half and faults; bits 59..63 are dropped: they are part of the tag.
	AddrMask = uint64(WindowSize-1) | uint64(0x1ffff)<<47

	// MaxRepCount is the largest RCX with which a REP string instruction may run (bounds the time without a poll).
	MaxRepCount = 1 << 16
)

// Sym names a place outside a blob that its code may jump to. At each of them the program's registers are exact: native
// ones in place, RSP and R12-R15 in their slots, flags in RFLAGS, and R13 holds the program's RIP.
type Sym uint8

const (
	SymSyscall  Sym = iota // a syscall instruction was reached; R13 is the address after it
	SymDispatch            // continue at program address R13; R14 is the native address of the transfer
	SymStop                // leave before the instruction at R13, which BTC does not translate
	NumSyms
)

func (s Sym) String() string {
	switch s {
	case SymSyscall:
		return "syscall"
	case SymDispatch:
		return "dispatch"
	case SymStop:
		return "stop"
	}
	return "?"
}

// Vec says which vector state a blob touches, and so what the runtime loads before it is entered and stores after it is
// left. Each level includes those below it. Code that touches more than its level would see, and change, registers that
// belong to the host: the verifier refuses it.
type Vec uint8

const (
	VecNone   Vec = iota // no vector register, not MXCSR
	VecAVX               // XMM0-15, YMM0-15 (with VEX and legacy SSE encodings) and MXCSR
	VecAVX512            // EVEX and opmask encodings: XMM, YMM, ZMM 0-31 and K0-K7 too
	NumVecs
)

func (v Vec) String() string {
	switch v {
	case VecNone:
		return "none"
	case VecAVX:
		return "avx"
	case VecAVX512:
		return "avx512"
	}
	return "?"
}
