package btc

import (
	"ub/target"
	"ub/x86"
)

// emitter writes the native code and the tables that go with it. Its methods are the few instructions that translations
// consist of beside the program's own; none of them changes the flags but gsCmp, which is one of the program's.
// Native registers are numbered as the hardware does.
type emitter struct {
	k    *rules
	a    x86.Asm
	blob *Blob
	vec  target.Vec

	jumped int // offset behind the last unconditional jump, -1 if a label is there
}

func (e *emitter) init(insts int) {
	e.blob = &Blob{
		Lines:  make([]Line, 0, insts+insts/2+8),
		Faults: make([]Fault, 0, insts+8),
	}
}

// finish returns the blob, but for its entries and source.
func (e *emitter) finish() (*Blob, error) {
	code, err := e.a.Bytes()
	if err != nil {
		return nil, err
	}
	e.blob.Code, e.blob.Vec = code, e.vec
	for _, r := range e.a.Relocs() {
		e.blob.Relocs = append(e.blob.Relocs, Reloc{Off: r.Off, Sym: target.Sym(r.Sym)})
	}
	return e.blob, nil
}

// line says that what follows translates the program instruction at rip.
func (e *emitter) line(rip uint64) {
	off := uint32(e.a.Len())
	lines := e.blob.Lines
	if n := len(lines); n > 0 && lines[n-1].Off == off {
		lines[n-1].RIP = rip // the one before had no code
		return
	}
	e.blob.Lines = append(lines, Line{Off: off, RIP: rip})
}

// fault says that the next instruction may fault, and where the program is then.
func (e *emitter) fault(k FaultKind, rip uint64, dirty []RegLoc) {
	e.blob.Faults = append(e.blob.Faults, Fault{Off: uint32(e.a.Len()), Kind: k, RIP: rip, Dirty: dirty})
}

// setString completes the fault record just made.
func (e *emitter) setString(s *StringFix) { e.blob.Faults[len(e.blob.Faults)-1].Str = s }

// loopAlign is where loops begin: a window of the processor's fetch and of its cache of decoded instructions. Without it a
// loop of a few instructions takes up to twice the time, depending on where it happens to be. Blobs begin at cache lines.
const loopAlign = 64

func (e *emitter) align() {
	n := -e.a.Len() & (loopAlign - 1)
	if n == 0 {
		return
	}
	e.line(0)
	if e.jumped != e.a.Len() {
		e.a.Nop(n)
		return
	}
	// Nobody comes here. But to the verifier what nobody comes to is code like any other, which begins with nothing known:
	// it must not run on into the loop.
	const jump = 5
	if n < jump {
		n += loopAlign
	}
	e.a.Nop(n - jump)
	e.jmpSym(target.SymStop)
}

func (e *emitter) newLabel() x86.Label         { return e.a.NewLabel() }
func (e *emitter) offset(l x86.Label) uint32   { return uint32(e.a.Offset(l)) }
func (e *emitter) jcc(cond uint8, l x86.Label) { e.a.Jcc(cond, l) }
func (e *emitter) jrcxz(l x86.Label)           { e.a.Jrcxz(l) }

func (e *emitter) bind(l x86.Label) {
	e.a.Bind(l)
	e.jumped = -1 // somebody may come here, whatever is before
}

func (e *emitter) jmp(l x86.Label) {
	e.a.Jmp(l)
	e.jumped = e.a.Len()
}

func (e *emitter) jmpSym(s target.Sym) {
	e.a.JmpSym(uint8(s))
	e.jumped = e.a.Len()
}

// inst emits an instruction of the program with operands replaced.
func (e *emitter) inst(in *x86.Inst, s x86.Subst) {
	e.vec = max(e.vec, vecOf(in))
	e.a.Inst(canonical(in), s)
}

// vecOf is the vector level of an instruction.
func vecOf(in *x86.Inst) target.Vec {
	switch in.Vec {
	case x86.VecNone:
		return target.VecNone
	case x86.VecAVX:
		return target.VecAVX
	}
	return target.VecAVX512
}

func reg(n uint8) x86.RM       { return x86.R(x86.Reg(n)) }
func slot(off int32) x86.RM    { return x86.M(x86.Base(x86.RSP, off)) }
func wide(n uint8) (r x86.Reg) { return x86.Reg(n) }

func (e *emitter) mov(d, s uint8)              { e.a.Mov(8, reg(d), reg(s)) }
func (e *emitter) load(d uint8, off int32)     { e.a.Mov(8, reg(d), slot(off)) }
func (e *emitter) store(off int32, s uint8)    { e.a.Mov(8, slot(off), reg(s)) }
func (e *emitter) movImm(d uint8, v uint64)    { e.a.MovImm(wide(d), v) }
func (e *emitter) not(d uint8)                 { e.a.Op1(x86.OpNOT, 8, reg(d)) }
func (e *emitter) shlx(d, s, count uint8)      { e.a.Shlx(8, wide(d), reg(s), wide(count)) }
func (e *emitter) shrx(d, s, count uint8)      { e.a.Shrx(8, wide(d), reg(s), wide(count)) }
func (e *emitter) movzx16(d, s uint8)          { e.a.Movzx(4, wide(d), 2, reg(s)) }
func (e *emitter) rorx(d, s uint8, n uint8)    { e.a.Rorx(4, wide(d), reg(s), n) }
func (e *emitter) pdep(d, s uint8, mask int32) { e.a.Pdep(8, wide(d), wide(s), slot(mask)) }

// lea is d = base + index*scale + disp; scale 0 means no index.
func (e *emitter) lea(d, base, index, scale uint8, disp int32) {
	m := x86.Mem{Base: wide(base), Index: x86.NoReg, Scale: 1, Disp: disp}
	if scale != 0 {
		m.Index, m.Scale = wide(index), scale
	}
	e.leaMem(d, m)
}

func (e *emitter) leaMem(d uint8, m x86.Mem)   { e.a.Lea(8, wide(d), m) }
func (e *emitter) leaMem32(d uint8, m x86.Mem) { e.a.Lea(4, wide(d), m) }

// leaHere loads the address after itself.
func (e *emitter) leaHere(d uint8) { e.a.Lea(8, wide(d), x86.Base(x86.RIP, 0)) }

// tag is the upper bits of an address: the count is in the low bits of the block's address, or the anchor.
func (e *emitter) tag(d, s uint8) {
	count := uint8(x86.RSP)
	if e.k.kernel == target.Linux {
		count = uint8(x86.RBP)
	}
	e.shrx(d, s, count)
}

// touch reads where nothing is mapped unless n is 0.
func (e *emitter) touch(n uint8) {
	base, disp := x86.RSP, int32(target.SlotTouch)
	if e.k.kernel == target.Linux {
		base, disp = x86.RBP, target.LinuxTouch
	}
	e.a.Mov(8, reg(n), x86.M(x86.Mem{Base: base, Index: wide(n), Scale: 8, Disp: disp}))
}

// poll reads where the thread is asked to leave, into n.
func (e *emitter) poll(n uint8) {
	at := slot(target.PollDisp)
	if e.k.kernel == target.Linux {
		at = x86.M(x86.Base(x86.RBP, target.LinuxPollDisp))
	}
	e.a.Mov(4, reg(n), at)
}

// endbr is ENDBR64, which an indirect jump may lead to.
func (e *emitter) endbr() { e.a.Raw(0xf3, 0x0f, 0x1e, 0xfa) }

// gsLoad, gsStore and gsCmp access w bytes of program memory.
func (e *emitter) gsLoad(w int, d uint8, m memRef)       { e.a.Mov(w, reg(d), x86.M(e.at(m))) }
func (e *emitter) gsProbe(d uint8, m memRef)             { e.a.Movzx(4, wide(d), 1, x86.M(e.at(m))) }
func (e *emitter) gsStore(w int, m memRef, s uint8)      { e.a.Mov(w, x86.M(e.at(m)), reg(s)) }
func (e *emitter) gsStoreImm(w int, m memRef, imm int32) { e.a.MovRMImm(w, x86.M(e.at(m)), imm) }
func (e *emitter) gsCmp(w int, r uint8, m memRef)        { e.a.Op2(x86.OpCMP, w, reg(r), x86.M(e.at(m))) }

// xchgHigh exchanges the two low bytes of register low (RAX..RBX).
func (e *emitter) xchgHigh(low uint8) { e.a.Op2(x86.OpXCHG, 1, reg(low), reg(low+uint8(x86.AH))) }

// rep is REP MOVS or REP STOS with elements of w bytes.
func (e *emitter) rep(movs bool, w int) {
	op := byte(0xaa)
	if movs {
		op = 0xa4
	}
	if w > 1 {
		op |= 1
	}
	switch w {
	case 2:
		e.a.Raw(0x66, 0xf3, op)
	case 8:
		e.a.Raw(0xf3, 0x48, op)
	default:
		e.a.Raw(0xf3, op)
	}
}

// canonical returns in with the encoding that compilers use, where the processor accepts others for the same thing: the
// verifier knows one of each. SETcc ignores ModRM.reg, and the fences ModRM.rm; F6 and F7 /1 are TEST as /0 is; C0..D3 /6
// is SHL as /4 is; the bits below a register in an immediate are ignored; a constant bit offset counts modulo the operand's size; REX.W means nothing for byte operations and those without operands.
func canonical(in *x86.Inst) *x86.Inst {
	modrm := in.Enc.ModRM
	digit := func(n byte) { modrm = modrm&^0x38 | n<<3 }
	switch {
	case in.Op == x86.OpSETcc, in.Op == x86.OpTEST && in.Enc.Opcode&0xfe == 0xf6:
		digit(0)
	case in.Op == x86.OpSHL:
		digit(4)
	case in.Op == x86.OpLFENCE, in.Op == x86.OpMFENCE, in.Op == x86.OpSFENCE:
		modrm &^= 7
	}
	const rexW = 8
	noW := in.Enc.REX&rexW != 0 && in.Vec == x86.VecNone && (in.Width != 8 && in.Op != x86.OpCRC32 && in.Op != x86.OpCMPXCHG16B || in.Op == x86.OpRDPID)
	imm := in.Enc.ImmRaw
	switch in.Op {
	case x86.OpBT, x86.OpBTS, x86.OpBTR, x86.OpBTC:
		if in.Enc.ImmLen == 1 {
			imm[0] &= byte(8*in.Width - 1)
		}
	}
	if n := in.NumOps; n > 0 && in.Ops[n-1].Field == x86.FieldIS4 {
		imm[0] &= 0xf0
	}
	if modrm == in.Enc.ModRM && !noW && imm == in.Enc.ImmRaw {
		return in
	}
	out := *in
	out.Enc.ModRM, out.Enc.ImmRaw = modrm, imm
	if noW {
		out.Enc.REX &^= rexW
	}
	return &out
}
