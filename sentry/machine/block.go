package machine

import (
	"unsafe"

	"ub/target"
)

const pageSize = 4096

// Regs is the program's integer state at an instruction boundary. It lies inside a thread's context block; the
// trampolines load it on entry and store it on exit.
type Regs struct {
	GPR    [16]uint64 // numbered as the hardware encodes them: RAX RCX RDX RBX RSP RBP RSI RDI R8 ... R15
	RIP    uint64     // where the program resumes
	Flags  uint64     // RFLAGS; see FlagsAllowed
	FSBase uint64     // FS segment base; must be below target.WindowSize
}

// RFLAGS bits.
const (
	flagCF = 1 << 0
	flag1  = 1 << 1 // always one
	flagPF = 1 << 2
	flagAF = 1 << 4
	flagZF = 1 << 6
	flagSF = 1 << 7
	flagIF = 1 << 9
	flagOF = 1 << 11
	flagRF = 1 << 16
	flagID = 1 << 21

	flagsArith = flagCF | flagPF | flagAF | flagZF | flagSF | flagOF

	// FlagsAllowed are the RFLAGS bits that may be set in Regs.Flags for Run to enter. The others change how
	// instructions behave (TF, DF, AC, NT) and translated code does not honour them. IF and ID are kept as they are;
	// RF suppresses one instruction breakpoint, so it is gone once an instruction has run and exits return it clear.
	FlagsAllowed = flagsArith | flag1 | flagIF | flagRF | flagID
)

// blockOffset is where in its page a context block begins: the low bits of RSP are a count for SHRX.
const blockOffset = target.TagShift

// block is a context block: the page that RSP points into while translated code runs. Its first part is the slots of
// package target, the only part that translated code can name; the rest belongs to the trampolines, to the signal
// handlers and to Run. Polls read the page before, see disarm; the page after is never
// mapped.
//
// Every field has one writer at a time: the goroutine in Run (and the code it entered), but for poll, which Stop and
// the SIGURG handler set to 0, and seq, which others read.
type block struct {
	rsp, r12, r13, r14, r15 uint64 // target.SlotRSP...: homes of the program's virtual registers
	scratch                 [3]uint64
	fsBase                  uint64
	addrMask                uint64
	_                       uint64 // target.SlotSpare
	poll                    uint64 // not 0: polls pass; 0: leave
	base                    uint64 // host address of the window

	_ [3]uint64 // up to 0x80

	regs Regs // 0x80

	seq    uint64 // odd from just before the entry trampoline to the end of the exit trampoline
	epoch  uint64 // Machine.epoch as this thread last saw it; compared on entry
	hostSP uint64 // Go's stack pointer while inside
	code   uint64 // where the entry trampoline jumps to
	reason uint64 // Reason of the last exit
	from   uint64 // R14 at an exit by a trampoline

	table    uint64 // address of the dispatch table
	hashMask uint64 // PDEP mask that turns a hash into an offset in the table

	vecLevel  uint64 // target.Vec: what of vec is loaded on entry and stored on exit
	vecUpper  uint64 // not 0: there is something above bit 127 of the first 16 registers of vec
	hostMXCSR uint64 // what Go expects in MXCSR

	nat [4]uint64 // native R12..R15 at a fault

	faultPC   uint64 // native RIP of the fault
	faultAddr uint64 // si_addr

	_   [offVec - 0x1a0]byte
	vec vecState // aligned to 64 bytes
}

// offVec is where the vector state is: VMOVDQA64 needs it aligned.
const offVec = 0x1c8

// The layout that translated code, the verifier and this package share, checked when compiling: an index that is not
// 0 does not compile.
var (
	_ = [1]int{}[unsafe.Offsetof(block{}.rsp)-target.SlotRSP]
	_ = [1]int{}[unsafe.Offsetof(block{}.r12)-target.SlotR12]
	_ = [1]int{}[unsafe.Offsetof(block{}.r13)-target.SlotR13]
	_ = [1]int{}[unsafe.Offsetof(block{}.r14)-target.SlotR14]
	_ = [1]int{}[unsafe.Offsetof(block{}.r15)-target.SlotR15]
	_ = [1]int{}[unsafe.Offsetof(block{}.scratch)-target.SlotScratch0]
	_ = [1]int{}[unsafe.Offsetof(block{}.fsBase)-target.SlotFSBase]
	_ = [1]int{}[unsafe.Offsetof(block{}.addrMask)-target.SlotAddrMask]
	_ = [1]int{}[unsafe.Offsetof(block{}.poll)-target.SlotPoll]
	_ = [1]int{}[unsafe.Offsetof(block{}.base)-target.SlotBase]
	_ = [1]int{}[unsafe.Offsetof(block{}.vec)-offVec]
	_ = [unsafe.Offsetof(block{}.regs) - target.SlotsEnd]struct{}{}
	_ = [target.SlotTouch - unsafe.Sizeof(block{})]struct{}{}
	_ = [1]int{}[blockOffset+target.SlotTouch+8-pageSize]
	_ = [1]int{}[(blockOffset+offVec)%64]
)

// Byte offsets of fields for the trampolines.
const (
	offGPR       = int32(unsafe.Offsetof(block{}.regs) + unsafe.Offsetof(Regs{}.GPR))
	offRIP       = int32(unsafe.Offsetof(block{}.regs) + unsafe.Offsetof(Regs{}.RIP))
	offFlags     = int32(unsafe.Offsetof(block{}.regs) + unsafe.Offsetof(Regs{}.Flags))
	offRegFSBase = int32(unsafe.Offsetof(block{}.regs) + unsafe.Offsetof(Regs{}.FSBase))
	offSeq       = int32(unsafe.Offsetof(block{}.seq))
	offHostSP    = int32(unsafe.Offsetof(block{}.hostSP))
	offCode      = int32(unsafe.Offsetof(block{}.code))
	offReason    = int32(unsafe.Offsetof(block{}.reason))
	offFrom      = int32(unsafe.Offsetof(block{}.from))
	offTable     = int32(unsafe.Offsetof(block{}.table))
	offHashMask  = int32(unsafe.Offsetof(block{}.hashMask))
	offVecLevel  = int32(unsafe.Offsetof(block{}.vecLevel))
	offK         = offVec + int32(unsafe.Offsetof(vecState{}.k))
	offMXCSR     = offVec + int32(unsafe.Offsetof(vecState{}.mxcsr))
	offVecUpper  = int32(unsafe.Offsetof(block{}.vecUpper))
	offHostMXCSR = int32(unsafe.Offsetof(block{}.hostMXCSR))
	offNat       = int32(unsafe.Offsetof(block{}.nat))
)
