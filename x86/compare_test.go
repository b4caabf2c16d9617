package x86

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// zydisMnemonic is what Zydis calls the operation.
func zydisMnemonic(in *Inst) string {
	switch in.Op {
	case OpJcc, OpSETcc, OpCMOVcc:
		return in.Op.String() + [...]string{"o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle"}[in.Cond]
	}
	return in.Mnemonic()
}

// zydisReg is what a register number of Zydis means here.
type zydisReg struct {
	reg  Reg
	size uint8
}

// zydisRegs maps Zydis' register numbers to ours, by name.
var zydisRegs = sync.OnceValue(func() []zydisReg {
	byName := map[string]zydisReg{"rip": {RIP, 8}, "eip": {RIP, 4}, "none": {NoReg, 0}}
	for r := RAX; r <= R15; r++ {
		for _, size := range []uint8{1, 2, 4, 8} {
			byName[r.Name(int(size))] = zydisReg{r, size}
		}
	}
	for r := AH; r <= BH; r++ {
		byName[r.Name(1)] = zydisReg{r, 1}
	}
	for n := range 32 {
		for _, size := range []uint8{16, 32, 64} {
			r := XMM0 + Reg(n)
			byName[r.Name(int(size))] = zydisReg{r, size}
		}
	}
	for n := range 8 {
		byName[(K0 + Reg(n)).String()] = zydisReg{K0 + Reg(n), 8}
	}
	z, _ := loadZydis()
	out := make([]zydisReg, len(z.registers))
	for i, name := range z.registers {
		out[i] = zydisReg{reg: NoReg, size: 255} // none of the above
		if r, ok := byName[name]; ok {
			out[i] = r
		}
	}
	return out
})

// difference compares what was decoded from code, or the failure to, with what Zydis makes of it. It returns "" when they
// agree. After it, z.inst is Zydis' result if ok.
func (z *zydis) difference(code []byte, in *Inst, err error) (diff string, ok bool) {
	status, ok := z.decode(code)
	if ok && knightsCorner(z.inst.isaExt) {
		ok = false
	}
	if !ok {
		if err == nil && !z.looser(in) {
			return fmt.Sprintf("Zydis fails (%#x), we have %v", status, in.String()), ok
		}
		return "", ok
	}
	if err != nil {
		return fmt.Sprintf("Zydis has %s of %d bytes, we fail after %d: %v", z.mnemonic(), z.inst.length, in.Len, err), ok
	}
	if in.Len != int(z.inst.length) {
		return fmt.Sprintf("Zydis has %s of %d bytes, we %d", z.mnemonic(), z.inst.length, in.Len), ok
	}
	if d := z.flow(in); d != "" {
		return d, ok
	}
	if !in.Known {
		return "", ok
	}
	var d differ
	d.known(z, in)
	if len(d) == 0 {
		return "", ok
	}
	return fmt.Sprintf("%s / %s: %s", z.mnemonic(), in.String(), strings.Join(d, "; ")), ok
}

// looser reports that in is an instruction that Zydis refuses and Decode gives a length for, as documented:
// combinations that definedRow does not distinguish, and MOV CR and DR with REX.R, MPX with a register beyond BND3.
func (z *zydis) looser(in *Inst) bool {
	if in.Known {
		return false
	}
	e := &in.Enc
	switch {
	case e.Kind == EncVEX, e.Kind == EncEVEX, e.Kind == EncXOP:
		return true
	case e.Kind == EncLegacy && e.Map == 1 && e.Opcode >= 0x20 && e.Opcode <= 0x23:
		return e.REX&4 != 0
	case e.Kind == EncLegacy && e.Map == 1 && (e.Opcode == 0x1a || e.Opcode == 0x1b):
		return true
	}
	return false
}

// flow compares what follows the instruction, known or not.
func (z *zydis) flow(in *Inst) string {
	want := ""
	m := z.mnemonic()
	switch {
	case z.inst.branchType == 3: // far
		want = "stop"
	case z.inst.branchType != 0 && !in.Known:
		want = "stop"
	case m == "call":
		want = "call"
	case m == "jmp":
		want = "jump"
	case m == "ret":
		want = "ret"
	case z.inst.branchType != 0:
		want = "cond"
	case m == "syscall":
		want = "syscall"
	case in.Class == ClassStop:
		want = "stop"
	default:
		want = "next"
	}
	got := [...]string{FlowNext: "next", FlowJump: "jump", FlowCond: "cond", FlowCall: "call", FlowIndJump: "jump", FlowIndCall: "call",
		FlowRet: "ret", FlowSyscall: "syscall", FlowStop: "stop"}[in.Flow]
	if got != want && !(want == "syscall" && got == "stop" && !in.Known) {
		return fmt.Sprintf("%s: flow is %s, want %s", m, got, want)
	}
	if (in.Flow == FlowNext || in.Flow == FlowStop) == (in.Class == ClassBranch) {
		return fmt.Sprintf("%s: class %d does not go with flow %s", m, in.Class, got)
	}
	if indirect := in.Flow == FlowIndCall || in.Flow == FlowIndJump; indirect && (in.NumOps != 1 || in.Ops[0].Kind == KindRel) {
		return "indirect branch without an operand"
	}
	return ""
}

// differ collects differences.
type differ []string

func (d *differ) check(what string, got, want any) {
	if got != want {
		*d = append(*d, fmt.Sprintf("%s is %v, Zydis has %v", what, got, want))
	}
}

// known compares all that is known of in with z.inst.
func (d *differ) known(z *zydis, in *Inst) {
	if m := z.mnemonic(); m != zydisMnemonic(in) {
		d.check("mnemonic", zydisMnemonic(in), m)
	}
	ops := z.operands()
	var visible []zydisOperand
	for _, o := range ops {
		switch {
		case o.visibility != zydisHidden && o.encoding == zydisEncMask:
			d.check("mask", in.Mask, map[bool]Reg{true: NoReg, false: zydisRegs()[o.reg()].reg}[zydisRegs()[o.reg()].reg == K0])
		case o.visibility != zydisHidden, in.Vec != VecNone && o.kind == zydisOpReg && zydisRegs()[o.reg()].reg == XMM0:
			visible = append(visible, o)
		}
	}
	switch {
	case in.Class == ClassString:
		d.stringOps(z, in, visible)
	case in.Op == OpXLAT:
	case in.Class == ClassEnter:
		d.check("frame", fmt.Sprintf("%x", in.Imm), fmt.Sprintf("%x", visible[0].imm().value|visible[1].imm().value<<16))
	case in.Op == OpNOP && in.NumOps == 1: // Zydis has the register that is not used, too
		d.operand(z, in, &in.Ops[0], &visible[0])
	case len(visible) != in.NumOps:
		d.check("number of operands", in.NumOps, len(visible))
	default:
		for i := range visible {
			d.operand(z, in, &in.Ops[i], &visible[i])
		}
	}
	if in.Vec != VecNone {
		d.vector(z, in)
	}
	d.registers(z, in, ops)
	d.flags(z, in)
	d.prefixes(z, in)
}

// stringOps compares width and segment of a string instruction.
func (d *differ) stringOps(z *zydis, in *Inst, ops []zydisOperand) {
	for i := range ops {
		if ops[i].kind == zydisOpMem {
			d.check("width", in.Width, int(ops[i].size/8))
		}
	}
	if in.Op == OpSTOS || in.Op == OpSCAS {
		return // ES:RDI only: an override means nothing
	}
	const hasFS, hasGS = 1 << 41, 1 << 42 // not in the operands of these instructions
	d.check("FS", in.Mem.Seg == SegFS, z.inst.attributes&hasFS != 0)
	d.check("GS", in.Mem.Seg == SegGS, z.inst.attributes&hasGS != 0)
}

func (z *zydis) segment(m *zydisMem) Seg {
	switch z.registers[m.segment] {
	case "fs":
		return SegFS
	case "gs":
		return SegGS
	}
	return SegNone
}

// operand compares one operand.
func (d *differ) operand(z *zydis, in *Inst, o *Operand, zo *zydisOperand) {
	name := "operand " + strconv.Itoa(int(zo.id))
	switch zo.kind {
	case zydisOpReg:
		want := zydisRegs()[zo.reg()]
		d.check(name+" kind", o.Kind, KindReg)
		if o.Reg != want.reg || o.Size != want.size {
			d.check(name, o.Reg.Name(int(o.Size)), z.registers[zo.reg()])
		}
	case zydisOpMem:
		d.check(name+" kind", o.Kind, KindMem)
		d.check("HasMem", in.HasMem, true)
		m, zm := &in.Mem, zo.mem()
		base, disp := zydisRegs()[zm.base].reg, zm.disp
		if e := &in.Enc; m.Addr32 && e.ModRM>>6 == 0 && e.HasSIB && e.SIB&7 == 5 && base == R13 {
			// Zydis' mistake, only with 67h: no base whatever REX.B (SDM vol. 2, table 2-5; a processor agrees).
			base, disp = NoReg, int64(m.Disp)
		}
		d.check("base", m.Base, base)
		d.check("index", m.Index, zydisRegs()[zm.index].reg)
		if m.Index != NoReg {
			d.check("scale", m.Scale, zm.scale)
		}
		d.check("disp", int64(m.Disp), disp)
		d.check("address size", m.Addr32, z.inst.addressWidth == 32)
		if in.Op == OpLEA {
			break // no access: neither segment nor size mean anything
		}
		d.check("segment", segPrefix(m.Seg), segPrefix(z.segment(zm)))
		size := zo.size / 8
		if zydisSizeless(in) {
			size = uint16(o.Size)
		}
		d.check(name+" size", uint16(o.Size), size)
	case zydisOpImm:
		zi := zo.imm()
		want := int64(zi.value)
		if zi.isRelative != 0 {
			d.check(name+" kind", o.Kind, KindRel)
			d.check("target", in.Target, in.Addr+uint64(in.Len)+zi.value)
		} else {
			d.check(name+" kind", o.Kind, KindImm)
			if zi.isSigned == 0 && in.Op == OpMOV || in.Op == OpTEST && zi.isSigned == 0 {
				want = want << (64 - 8*min(in.Width, 8)) >> (64 - 8*min(in.Width, 8))
			}
		}
		d.check(name, in.Imm, want)
	default:
		d.check(name+" kind", o.Kind, zo.kind)
	}
	if field, ok := zydisField(zo.encoding); ok {
		d.check(name+" field", o.Field, field)
	}
	if o.Kind == KindReg || o.Kind == KindMem {
		d.check(name+" access", o.Access, zydisAccess(in, o, zo))
	}
}

// zydisSizeless are the instructions for whose operand Zydis has another size than what is accessed.
func zydisSizeless(in *Inst) bool {
	switch in.Op {
	case OpPREFETCH, OpPREFETCHW, OpPREFETCHNTA, OpPREFETCHT0, OpPREFETCHT1, OpPREFETCHT2, OpPREFETCHWT1:
		return true // a line, or nothing
	}
	return false
}

// zydisField translates ZydisOperandEncoding where it corresponds to a Field.
func zydisField(encoding uint32) (Field, bool) {
	switch encoding {
	case 1:
		return FieldReg, true
	case 2:
		return FieldRM, true
	case 3:
		return FieldOpcode, true
	case 4:
		return FieldVVVV, true
	}
	return 0, false
}

// vector compares what only vector instructions have.
func (d *differ) vector(z *zydis, in *Inst) {
	const zeroing, control, controlZeroing = 3, 4, 5 // ZydisMaskMode
	const static, mode = 12, 16                      // where the broadcast is in ZydisDecodedInstructionAvx
	// Of instructions that write an opmask register Zydis says zeroing, always.
	if in.Ops[0].Reg < K0 || in.Ops[0].Reg >= ES {
		d.check("Zeroing", in.Zeroing, z.inst.avx[4] == zeroing || z.inst.avx[4] == controlZeroing)
	}
	d.check("Broadcast", in.Broadcast, z.inst.avx[static] == 0 && z.inst.avx[mode] != 0)
	level := VecAVX
	for i := range z.operands() {
		if z.ops[i].kind != zydisOpReg {
			continue
		}
		if r := zydisRegs()[z.ops[i].reg()].reg; r >= K0 && r < ES {
			level = VecAVX512
		}
	}
	if z.inst.encoding == 4 { // EVEX
		level = VecAVX512
	}
	d.check("Vec", in.Vec, level)
	d.check("Class", in.Class, ClassPlain)
}

// zydisVecAccess mends Zydis' access a for operands of vector instructions.
func zydisVecAccess(in *Inst, o *Operand, zo *zydisOperand, a Access) Access {
	switch {
	case o.Kind == KindReg && a == Read|CondWrite: // with an opmask
		return Read | Write
	case o.Kind == KindReg && a == Write && in.Enc.Kind == EncLegacy && o.Reg >= XMM0 && mergesUpper(in.Mnemonic(), int(zo.size/8)):
		return Read | Write
	case o.Kind == KindReg && a == Write && in.Mask != NoReg && !in.Zeroing && strings.Contains(in.Mnemonic(), "blendm"):
		return Read | Write // the mask selects between the sources: described as if what it does not select were kept
	case o.Kind == KindMem && a == Write && zydisMaskMov(in.Mnemonic()):
		return CondWrite
	}
	return a
}

// zydisAccess is the Access that Zydis' action means, with the exceptions that the tables name.
func zydisAccess(in *Inst, o *Operand, zo *zydisOperand) Access {
	var a Access
	if zo.actions&(zydisRead|zydisCondRead) != 0 {
		a |= Read
	}
	if zo.actions&zydisWrite != 0 {
		a |= Write
	}
	if zo.actions&zydisCondWrite != 0 {
		a |= CondWrite
	}
	if in.Class == ClassNop {
		a = 0
	}
	if in.Vec != VecNone {
		return zydisVecAccess(in, o, zo, a)
	}
	switch in.Op {
	case OpLEA:
		if o.Kind == KindMem {
			a = 0
		}
	case OpCMOVcc:
		if o.Kind == KindReg && o.Field == FieldReg {
			a = Read | Write
		}
	case OpBSF, OpBSR:
		if o.Field == FieldReg {
			a = CondWrite
		}
	case OpSHLD, OpSHRD:
		if a == Read|CondWrite {
			a = Read | Write
		}
	}
	return a
}

// registers compares Reads and Writes.
func (d *differ) registers(z *zydis, in *Inst, ops []zydisOperand) {
	var reads, writes RegSet
	for i := range ops {
		zo := &ops[i]
		switch zo.kind {
		case zydisOpReg:
			r := zydisRegs()[zo.reg()]
			if r.reg > BH {
				continue
			}
			bit := RegSet(1) << r.reg.general()
			a := zo.actions
			if a&(zydisRead|zydisCondRead) != 0 || a&zydisCondWrite != 0 || a&zydisWrite != 0 && r.size < 4 {
				reads |= bit
			}
			if a&(zydisWrite|zydisCondWrite) != 0 {
				writes |= bit
			}
		case zydisOpMem:
			m := zo.mem()
			if r := zydisRegs()[m.base].reg; r < 16 && !(r == R13 && in.Mem.Base == NoReg && in.Mem.Addr32) { // see operand
				reads |= 1 << r
			}
			if r := zydisRegs()[m.index].reg; r < 16 {
				reads |= 1 << r
			}
		}
	}
	switch in.Op {
	case OpNOP:
		reads = 0 // an operand that is not accessed
	case OpSYSCALL:
		reads = 0 // the argument registers are the kernel's business
	case OpLEAVE:
		reads &^= 1 << RSP // overwritten with RBP before the pop
	case OpCMOVcc:
		reads |= 1 << in.Ops[0].Reg
	case OpBSF, OpBSR:
		reads |= 1 << in.Ops[0].Reg
	case OpCMPS:
		writes |= 1<<RSI | 1<<RDI // Zydis has them read only
	case OpSCAS:
		writes |= 1 << RDI
	}
	d.check("Reads", in.Reads.String(), reads.String())
	d.check("Writes", in.Writes.String(), writes.String())
}

// flags compares the effect on flags.
func (d *differ) flags(z *zydis, in *Inst) {
	var zf zydisFlags
	if z.inst.cpuFlags != nil {
		zf = *z.inst.cpuFlags
	}
	conv := func(m uint32) (f Flags) {
		for i, bit := range []uint{0, 2, 4, 6, 7, 11, 10} {
			if m>>bit&1 != 0 {
				f |= 1 << i
			}
		}
		return f
	}
	read, written, undef := conv(zf.tested), conv(zf.modified|zf.set0|zf.set1|zf.undefined), conv(zf.undefined)
	switch in.Op {
	case OpSBB:
		undef &^= AF // Zydis' mistake: set according to the result (SDM vol. 2, SBB)
	case OpBEXTR:
		undef &^= CF | OF // cleared (SDM vol. 2, BEXTR)
	case OpSYSCALL:
		written = 0 // the kernel gives them back
	case OpCMPS, OpSCAS:
		read &^= ZF // what REPE and REPNE test is the comparison's own
	case OpROL, OpROR, OpRCL, OpRCR, OpSHL, OpSHR, OpSAR, OpSHLD, OpSHRD:
		read, written, undef = shiftFlags(in, read, written, undef)
	}
	if written != 0 && in.Vec != VecNone && zydisTests(in.Mnemonic()) {
		written = AllArith
	}
	d.check("FlagsRead", in.FlagsRead.String(), read.String())
	d.check("FlagsWritten", in.FlagsWritten.String(), written.String())
	d.check("FlagsUndef", in.FlagsUndef.String(), undef.String())
}

// shiftFlags turns the flags that Zydis has for a shift of any count into those of the count at hand: SDM vol. 2 under
// SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD and SHRD.
func shiftFlags(in *Inst, read, written, undef Flags) (_, _, _ Flags) {
	bits := int64(8 * in.Width)
	double := in.Op == OpSHLD || in.Op == OpSHRD
	count := in.Ops[in.NumOps-1]
	if count.Kind == KindReg {
		if bits < 32 && (double || in.Op == OpSHL || in.Op == OpSHR) {
			undef |= CF
		}
		return read, written, undef
	}
	n := in.Imm & 31
	if bits == 64 {
		n = in.Imm & 63
	}
	switch {
	case n == 0:
		return 0, 0, 0
	case n == 1:
		undef &^= OF
	case double && n > bits:
		undef = AllArith
	case (in.Op == OpSHL || in.Op == OpSHR) && n >= bits:
		undef |= CF
	}
	return read, written, undef
}

// prefixes compares LOCK and REP.
func (d *differ) prefixes(z *zydis, in *Inst) {
	const (
		hasLock  = 1 << 27
		hasRep   = 1 << 28
		hasRepE  = 1 << 29
		hasRepNE = 1 << 30
	)
	a := z.inst.attributes
	d.check("Lock", in.Lock, a&hasLock != 0)
	d.check("Rep", in.Rep, a&(hasRep|hasRepE) != 0)
	d.check("RepNE", in.RepNE, a&hasRepNE != 0)
}
