package btc

import "ub/target"

// Blob is the translation of one path: machine code that runs anywhere in reach of the runtime's trampolines, and what
// the runtime must know to enter it, to recover the program's state from a fault in it, and to drop it in time. A Blob
// is a pure function of the program's bytes and the plan's options; nothing in it depends on the running system.
type Blob struct {
	Code    []byte
	Relocs  []Reloc // sorted by Off
	Entries []Entry // sorted by RIP
	Faults  []Fault // sorted by Off; every instruction of Code that can fault has one
	Lines   []Line  // sorted by Off; which program instruction each piece of Code came from
	Source  []Range // the program bytes read to make it, sorted, disjoint

	// Kernel is the one whose contract the code keeps to.
	Kernel target.Kernel

	// Vec is the vector state that the code touches. The verifier checks it.
	Vec target.Vec
}

// Reloc is a 4-byte PC-relative displacement at Off (relative to Off+4), to be pointed at Sym's trampoline.
type Reloc struct {
	Off uint32
	Sym target.Sym
}

// Entry is a program address at which the blob may be entered, and the code offset for it.
type Entry struct {
	RIP uint64
	Off uint32
}

// Line says that the code from Off on translates the program instruction at RIP (RIP 0: shared exit code).
type Line struct {
	Off uint32
	RIP uint64
}

// Range is a range of program addresses, [Start, End).
type Range struct{ Start, End uint64 }

// FaultKind says why an instruction may fault.
type FaultKind uint8

const (
	FaultAccess FaultKind = iota // access to program memory
	FaultTouch                   // the address carries tag bits that AddrMask drops
	FaultPoll                    // a poll: not a fault of the program's but a request to leave (exit reason fuel)
	FaultDivide                  // DIV/IDIV: SIGFPE
	FaultString                  // a string instruction whose RDI/RSI are rebased while it runs
)

// Fault describes the exact program state when the native instruction at Off faults: resume at RIP, with the virtual
// registers in Dirty taken from native registers instead of their slots.
type Fault struct {
	Off   uint32
	Kind  FaultKind
	RIP   uint64
	Dirty []RegLoc
	Str   *StringFix // for FaultString
}

// RegLoc says where a program register is that is not at home: the program's register Virtual (x86 register number, as a
// rule 4 or 12..15) is native register Native plus Delta.
type RegLoc struct {
	Virtual, Native uint8
	Delta           int32 // e.g. what pushes have added to RSP since it was last written
}

// StringFix undoes the rebasing of a string instruction's pointers: program RDI = native OrigDI + (RDI - native
// StartDI), and likewise RSI when HasSI.
type StringFix struct {
	OrigDI, StartDI uint8
	HasSI           bool
	OrigSI, StartSI uint8
}
