// Package x86 decodes and encodes x86-64. Decoding is driven by an allow-list table of instruction forms: what is in
// the table is fully described (operands, reads, writes, flags, control flow); of everything else only the length is
// known. The verifier (package sfi) has its own, independent reading of the same bytes and must not import this one.
package x86

// Reg is a register. General registers 0..15 are numbered as the hardware encodes them, whatever the access width.
type Reg uint8

const (
	RAX Reg = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
	AH // the high byte registers, encodable only without REX
	CH
	DH
	BH
	RIP
	XMM0                  // XMM0+n, n = 0..31, also for YMM and ZMM of the same number
	ST0       = XMM0 + 32 // ST0+n, n = 0..7
	MM0       = ST0 + 8   // MM0+n
	K0        = MM0 + 8   // K0+n
	ES        = K0 + 8    // segment registers ES CS SS DS FS GS
	CR0       = ES + 6    // CR0+n, n = 0..15
	DR0       = CR0 + 16  // DR0+n
	NoReg Reg = 255
)

// RegSet is a set of general registers: bit n is register n (AH..BH count as RAX..RBX).
type RegSet uint16

// Flags is a set of RFLAGS bits.
type Flags uint8

const (
	CF Flags = 1 << iota
	PF
	AF
	ZF
	SF
	OF
	DF
	AllArith = CF | PF | AF | ZF | SF | OF
)

// Seg is an explicit segment override.
type Seg uint8

const (
	SegNone Seg = iota
	SegFS
	SegGS
	SegOther // CS, DS, ES, SS: no effect on addresses in 64-bit mode
)

// Mem is a memory operand as ModRM/SIB encodes it.
type Mem struct {
	Seg         Seg
	Base, Index Reg   // NoReg when absent; Base may be RIP
	Scale       uint8 // 1, 2, 4, 8
	Disp        int32
	Addr32      bool // 67h prefix
}

// Access says what an instruction does to an operand.
type Access uint8

const (
	Read Access = 1 << iota
	Write
	CondWrite // may leave it unwritten (e.g. cmpxchg, bsf destination); excludes Write. CMOV always writes
)

// OperandKind is the kind of an explicit or implicit operand.
type OperandKind uint8

const (
	KindNone OperandKind = iota
	KindReg
	KindMem // the ModRM memory operand, Inst.Mem
	KindImm
	KindRel // branch displacement; Inst.Target
)

// Field says which part of the encoding an operand comes from, so that it can be replaced.
type Field uint8

const (
	FieldImplicit Field = iota
	FieldReg            // ModRM.reg
	FieldRM             // ModRM.rm
	FieldOpcode         // low three bits of the opcode
	FieldVVVV           // VEX/EVEX vvvv
	FieldImm            // immediate
	FieldIS4            // VEX imm8[7:4]
)

// Operand is one operand of a decoded instruction.
type Operand struct {
	Kind   OperandKind
	Field  Field
	Access Access
	Reg    Reg
	Size   uint8 // bytes accessed; of a vector register its width, of an opmask register 8
}

// Flow is the control-flow kind of an instruction.
type Flow uint8

const (
	FlowNext    Flow = iota // falls through
	FlowJump                // direct jump to Target
	FlowCond                // conditional jump to Target or next (Jcc, JRCXZ, JECXZ, LOOPcc)
	FlowCall                // direct call of Target
	FlowIndJump             // indirect jump through Ops[0]
	FlowIndCall             // indirect call through Ops[0]
	FlowRet                 // near return (Imm: bytes to pop beside)
	FlowSyscall             // the SYSCALL instruction
	FlowStop                // never translated: privileged, I/O, traps, CPUID, far transfers, unknown ...
)

// Class groups forms by what a translator must do about them.
type Class uint8

const (
	ClassPlain  Class = iota // explicit operands (and implicit RAX/RCX/RDX/RBX) only: re-encode with other registers and memory
	ClassPush                // PUSH r/imm/m, PUSHF
	ClassPop                 // POP r/m, POPF
	ClassLeave               // LEAVE
	ClassEnter               // ENTER
	ClassString              // MOVS STOS LODS SCAS CMPS, with or without REP
	ClassBranch              // anything with Flow other than FlowNext and FlowStop
	ClassNop                 // NOP, ENDBR64, multi-byte NOPs, PAUSE is ClassPlain
	ClassVector              // vector, x87 or MMX instructions that are not described: never Known. Described ones are ClassPlain
	ClassStop                // not translatable
)

// VecLevel says what state beyond the general registers an instruction reads or writes.
type VecLevel uint8

const (
	VecNone   VecLevel = iota
	VecAVX             // legacy SSE and VEX encodings: XMM and YMM registers 0..15, MXCSR
	VecAVX512          // EVEX encodings, whatever their vector length and registers, and opmask instructions
)

// Inst is a decoded instruction.
type Inst struct {
	Addr  uint64
	Len   int  // bytes, 1..15
	Op    Op   // mnemonic; OpInvalid when only the length is known
	Known bool // the form is in the allow-list: everything below Enc is right
	Flow  Flow
	Class Class

	Width  int // operand size in bytes (1, 2, 4, 8) where the form has one
	Ops    [5]Operand
	NumOps int
	Mem    Mem // valid if HasMem
	HasMem bool
	Imm    int64  // sign-extended from its encoded width; bit counts, RET's and ENTER's are zero-extended
	Target uint64 // of a direct branch
	Cond   uint8  // condition code 0..15 of Jcc, SETcc, CMOVcc

	// Vec is other than VecNone for the instructions of the vector tables. Their operands in vector and opmask registers
	// are in Ops, but for the opmask that selects elements (EVEX.aaa): that is Mask, K1..K7, or NoReg. Zeroing says that
	// elements not selected become 0; else they keep their value, and what is written is read as well.
	Vec     VecLevel
	Mask    Reg
	Zeroing bool
	// Masked: elements of the memory operand that a mask leaves out are not accessed, and do not fault (EVEX.aaa,
	// VMASKMOV, VPMASKMOV). An instruction that has been executed says nothing about such an address.
	Masked bool
	// Broadcast: the memory operand is one element (its Size), repeated.
	Broadcast bool

	Lock, Rep, RepNE bool // prefixes as meaningful for the form

	// Atomic is a locked read-modify-write of memory: LOCK, or XCHG with memory, which locks without the prefix.
	Atomic bool
	// BitOffset: BT, BTS, BTR, BTC of memory with the bit offset in a register. The bytes accessed are not at Mem but
	// up to 2^60 away from it (SDM vol. 2, BT).
	BitOffset bool

	// Reads and Writes are the general registers read and written, implicit ones and address registers included. What
	// is written only in part (8 or 16 bits) or perhaps not at all is in both: its new value depends on its old one.
	Reads, Writes           RegSet
	FlagsRead, FlagsWritten Flags // Written includes those left undefined
	FlagsUndef              Flags // left undefined by the instruction
	FlagsCond               bool  // FlagsWritten may be left unchanged (shift by zero, REP with RCX = 0)

	Enc Encoding // the parts of the encoding, for re-encoding

	row uint16 // 1 + index of the row in forms; 0 unless a row matched
}

// Encoding holds the parts of an instruction's bytes.
type Encoding struct {
	Kind     EncKind
	Map      uint8 // 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A, 5, 6: EVEX maps
	Opcode   byte
	OpSize66 bool // 66h given
	PrefF2   bool
	PrefF3   bool
	REX      byte // 0 when absent, else 0x40..0x4f
	HasModRM bool
	ModRM    byte
	HasSIB   bool
	SIB      byte
	ImmLen   uint8
	ImmRaw   [8]byte
	VEX      [4]byte // raw VEX/EVEX prefix bytes
}

// EncKind is the encoding space of an instruction.
type EncKind uint8

const (
	EncLegacy EncKind = iota
	EncVEX
	EncEVEX
	EncXOP
	Enc3DNow
)
