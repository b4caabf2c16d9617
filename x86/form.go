package x86

// A form is one row of the tables: one encoding of one operation, and everything that is to be known about it. Rows are
// constant data; index sorts them by opcode when the first instruction is decoded.
type form struct {
	op   Op
	sel  sel    // which bytes are this form
	args [4]arg // operands in Intel order; zero ends the list
	os   opsize // how Width follows from prefixes
	fl   effect // flags
	imp  regs   // general registers read and written beside the operands
	attr attrs  // everything else
}

// sel selects encodings: opcode space and opcode, and what else must hold of prefixes and ModRM.
type sel uint64

const (
	// Opcode in bits 0..7, opcode space in bits 8..12.
	m0     sel = sel(spaceLegacy) << 8
	m0f    sel = sel(spaceLegacy+1) << 8
	m0f38  sel = sel(spaceLegacy+2) << 8
	m0f3a  sel = sel(spaceLegacy+3) << 8
	vex0f  sel = sel(spaceVEX) << 8
	v0f38  sel = sel(spaceVEX+1) << 8
	v0f3a  sel = sel(spaceVEX+2) << 8
	xop9   sel = sel(spaceXOP+1) << 8
	xopA   sel = sel(spaceXOP+2) << 8
	evex0f sel = sel(spaceEVEX) << 8
	e0f38  sel = sel(spaceEVEX+1) << 8
	e0f3a  sel = sel(spaceEVEX+2) << 8
	selOpc sel = 0x1fff

	// plus8: the low three bits of the opcode are a register. cc: the low four are a condition.
	plus8 sel = 1 << 13
	cc    sel = 1 << 14
)

const (
	// What else must hold. Each is a bit that the decoder sets when it does (decoder.context); a row matches if all its
	// bits are set.
	selNeed sel = (1<<48 - 1) << 16

	// Prefixes that select. Without any of these, 66h is an operand size if anything, and F2h and F3h are refused
	// unless the row allows them (attrs rep, repZ, repNop).
	np    sel = 1 << (iota + 15) // none of 66h F2h F3h (or VEX.pp = 0)
	noRep                        // neither F2h nor F3h
	p66                          // 66h, and neither F2h nor F3h
	pF3                          // F3h; 66h may be there too
	pF2                          // F2h; 66h may be there too

	// Operand size, REX, VEX.
	w0   // REX.W or VEX.W clear
	w1   // set
	o16  // Width 2: 66h without REX.W
	no16 // Width 4 or 8
	b0   // REX.B clear
	b1   // set
	l0   // VEX.L clear, EVEX.L'L 0: 128 bits
	no67 // no 67h

	// ModRM.
	modMem
	modReg
	d0 // ModRM.reg as an extension of the opcode
	d1
	d2
	d3
	d4
	d5
	d6
	d7
	rm0 // ModRM.rm
	rm1
	rm2
	rm3
	rm4
	rm5
	rm6
	rm7

	// Vector length.
	l1  // 256 bits
	l2  // 512 bits, and whatever has EVEX.b on registers, where L'L isn't the length (SDM vol. 2, table 2-36)
	nl0 // 256 or 512 bits
	nl2 // 128 or 256 bits
)

// Opcode spaces: rows of the index.
const (
	spaceLegacy = 0 // +map 0..3
	spaceVEX    = 4 // +map-1, maps 1..3
	spaceEVEX   = 7 // +map-1, maps 1..6 (4 unused)
	spaceXOP    = 13
	space3DNow  = 16
	numSpaces   = 17
)

// ops are a form's operands.
type ops [4]arg

// arg is an operand: where it is encoded, its size, and what is done to it.
type arg uint16

const (
	r  = arg(Read)
	w  = arg(Write)
	rw = r | w
	cw = arg(CondWrite)
)

// Where the operand is.
const (
	argE   arg = (iota + 1) << 3 // ModRM.rm, register or memory
	argM                         // ModRM.rm, memory only
	argR                         // ModRM.rm, register only
	argG                         // ModRM.reg
	argZ                         // low bits of the opcode
	argB                         // VEX.vvvv
	argA                         // accumulator
	argCL                        // register CL
	argI                         // immediate, sign-extended to 64 bits
	argU                         // immediate, zero-extended
	argOne                       // the constant 1
	argJ                         // branch displacement

	// Vector registers. They are as wide as their size says, and 16 bytes at least: memory in the place of a scalar is
	// accessed in that size, a register is an XMM register.
	argV  // ModRM.reg
	argW  // ModRM.rm, register or memory
	argUV // ModRM.rm, register only
	argH  // vvvv
	argL  // immediate's bits 4..7
	argX0 // XMM0

	// Opmask registers, always of 8 bytes; memory of the size that is given.
	argKG    // ModRM.reg
	argKE    // ModRM.rm, register or memory
	argKR    // ModRM.rm, register only
	argKH    // vvvv
	argWhere = 0x1f << 3
)

// Size of the operand; an immediate's is that of its encoding.
const (
	szNone arg = iota << 8
	szB        // 1
	szW        // 2
	szD        // 4
	szQ        // 8
	szDQ       // 16
	szV        // Width
	szY        // 8 with REX.W, else 4
	szZ        // Width, but at most 4
	szQQ       // 32
	szZZ       // 64
	szX        // the vector length
	szH        // half of it
	szF        // a fourth
	szE        // an eighth
	szMask = 0xf << 8
)

// Operands under the manual's names (SDM vol. 2, appendix A.2).
const (
	_Eb  = argE | szB
	_Ew  = argE | szW
	_Ed  = argE | szD
	_Ev  = argE | szV
	_Ey  = argE | szY
	_Gb  = argG | szB
	_Gv  = argG | szV
	_Gy  = argG | szY
	_M   = argM | szNone // an address that is not accessed
	_Mb  = argM | szB
	_Mq  = argM | szQ
	_Mdq = argM | szDQ
	_My  = argM | szY
	_Rv  = argR | szV
	_Rq  = argR | szQ
	_Zb  = argZ | szB
	_Zv  = argZ | szV
	_By  = argB | szY
	_AL  = argA | szB
	_Av  = argA | szV
	_CL  = argCL | szB
	_Ib  = argI | szB
	_Iz  = argI | szZ
	_Iv  = argI | szV
	_Ub  = argU | szB
	_Uw  = argU | szW
	_One = argOne | szB
	_Jb  = argJ | szB
	_Jz  = argJ | szD // also with 66h, see attr near
)

// opsize is how Width follows from the prefixes.
type opsize uint8

const (
	osNone opsize = iota
	os8
	osV   // 66h: 2, REX.W: 8, else 4
	osY   // REX.W: 8, else 4
	osD64 // 66h: 2, else 8 (stack)
	os64  // 8
	os32  // 4
	osCX  // 67h: 4, else 8 (width of the RCX that counts)
)

// effect is what a form does to the flags: read, written (undefined ones included), left undefined.
type effect uint32

const (
	fRead         = 0
	fWrite        = 8
	fUndef        = 16
	fCond  effect = 1 << 31 // written ones may be left unchanged

	all = effect(AllArith)
	f0  = effect(0)

	fArith  = all << fWrite
	fCarry  = fArith | effect(CF)<<fRead
	fLogic  = all<<fWrite | effect(AF)<<fUndef
	fIncDec = (all &^ effect(CF)) << fWrite
	fMul    = all<<fWrite | effect(SF|ZF|AF|PF)<<fUndef
	fUndefA = all<<fWrite | all<<fUndef
	fBitRef = effect(CF|PF|AF|SF|OF)<<fWrite | effect(PF|AF|SF|OF)<<fUndef
	fScan   = all<<fWrite | (all&^effect(ZF))<<fUndef
	fCount  = all<<fWrite | (all&^effect(ZF|CF))<<fUndef
	// Shifts. By 1: OF is defined. By more, or by CL: not, nor is CF when the count exceeds a narrow operand's width. A
	// count of 0 leaves all flags alone.
	fShift1 = all<<fWrite | effect(AF)<<fUndef
	fShiftN = all<<fWrite | effect(AF|OF|CF)<<fUndef | fCond
	fSARN   = all<<fWrite | effect(AF|OF)<<fUndef | fCond
	fRot1   = effect(CF|OF) << fWrite
	fRotN   = effect(CF|OF)<<fWrite | effect(OF)<<fUndef | fCond
	fRotC1  = fRot1 | effect(CF)<<fRead
	fRotCN  = fRotN | effect(CF)<<fRead
	fDouble = all<<fWrite | effect(AF|OF|CF)<<fUndef | fCond
	fBMI    = all<<fWrite | effect(AF|PF)<<fUndef
	fBEXTR  = all<<fWrite | effect(AF|SF|PF)<<fUndef
	fZF     = effect(ZF) << fWrite
	rCF     = effect(CF) << fRead
	rZF     = effect(ZF) << fRead
	rDF     = effect(DF) << fRead
	wCF     = effect(CF) << fWrite
	wDF     = effect(DF) << fWrite
	fSAHF   = effect(CF|PF|AF|ZF|SF) << fWrite
	fLAHF   = effect(CF|PF|AF|ZF|SF) << fRead
	rAll    = effect(AllArith|DF) << fRead
	wAll    = effect(AllArith|DF) << fWrite
)

// regs is a set of general registers read (low half) and one of those written (high half).
type regs uint32

const (
	rA  regs = 1 << RAX
	rC  regs = 1 << RCX
	rD  regs = 1 << RDX
	rB  regs = 1 << RBX
	rSP regs = 1 << RSP
	rBP regs = 1 << RBP
	rSI regs = 1 << RSI
	rDI regs = 1 << RDI

	wA   = rA << 16
	wC   = rC << 16
	wD   = rD << 16
	wB   = rB << 16
	wSP  = rSP << 16
	wBP  = rBP << 16
	wSI  = rSI << 16
	wDI  = rDI << 16
	wR11 = regs(1<<R11) << 16

	rwSP = rSP | wSP
)

// attrs holds the rest: class and flow, and which prefixes are allowed.
type attrs uint64

const (
	// Class in bits 0..7, Flow in bits 8..15.
	isPush   = attrs(ClassPush)
	isPop    = attrs(ClassPop)
	isLeave  = attrs(ClassLeave)
	isEnter  = attrs(ClassEnter)
	isString = attrs(ClassString)
	isNop    = attrs(ClassNop)
	isVector = attrs(ClassVector)
	stop     = attrs(ClassStop) | attrs(FlowStop)<<8
	jump     = attrs(ClassBranch) | attrs(FlowJump)<<8
	cond     = attrs(ClassBranch) | attrs(FlowCond)<<8
	call     = attrs(ClassBranch) | attrs(FlowCall)<<8
	indJump  = attrs(ClassBranch) | attrs(FlowIndJump)<<8
	indCall  = attrs(ClassBranch) | attrs(FlowIndCall)<<8
	ret      = attrs(ClassBranch) | attrs(FlowRet)<<8
	sysc     = attrs(ClassBranch) | attrs(FlowSyscall)<<8

	lock    attrs = 1 << 16 // LOCK is allowed when the first operand is memory
	rep     attrs = 1 << 17 // F3h repeats
	repZ    attrs = 1 << 18 // F3h and F2h repeat, watching ZF
	repNop  attrs = 1 << 19 // F2h and F3h mean nothing (BND, the REP RET of old compilers)
	near    attrs = 1 << 20 // near branch: with 66h processors disagree about the target's width
	xchgMem attrs = 1 << 21 // locks memory without a prefix
	bitOff  attrs = 1 << 22 // BT family with the offset in a register
	named   attrs = 1 << 23 // a row that only has a name: never Known

	// Of rows of the vector tables. Broadcast, rounding and SAE are EVEX.b, on memory and on registers.
	vecAVX    attrs = 1 << 24 // reads or writes vector registers or MXCSR: level VecAVX
	vecAVX512 attrs = 1 << 25 // EVEX, or opmask registers: level VecAVX512
	mask      attrs = 1 << 26 // an opmask may be given
	zeroing   attrs = 1 << 27 // and elements be zeroed with it
	bcast4    attrs = 1 << 28 // memory may be one element of 4 bytes
	bcast8    attrs = 1 << 29 // of 8
	er        attrs = 1 << 30 // rounding may be given
	sae       attrs = 1 << 31 // exceptions may be suppressed
	isVec           = vecAVX | vecAVX512
)
