package x86

import (
	"encoding/binary"
	"sync"
)

// forms are all rows; index has, for every opcode, the numbers of its rows in the order in which they are tried.
var (
	forms     []form
	vecFirst  int // where the rows of the vector tables begin
	index     [numSpaces][256][]uint16
	indexOnce sync.Once
)

func buildIndex() {
	forms = append(forms, formsALU()...)
	forms = append(forms, formsShift()...)
	forms = append(forms, formsInt[:]...)
	for _, f := range formsNamed {
		f.attr |= stop | named
		forms = append(forms, f)
	}
	vecFirst = len(forms)
	forms = appendVecForms(forms)
	for i := range forms {
		f := &forms[i]
		n := 1
		switch {
		case f.sel&plus8 != 0:
			n = 8
		case f.sel&cc != 0:
			n = 16
		}
		space, opcode := int(f.sel&selOpc>>8), int(f.sel&0xff)
		for j := range n {
			index[space][opcode+j] = append(index[space][opcode+j], uint16(i))
		}
	}
}

// context is the set of conditions that hold for the instruction, as in sel.
func (d *decoder) context() sel {
	e := &d.in.Enc
	var c sel
	switch {
	case e.PrefF3:
		c = pF3
	case e.PrefF2:
		c = pF2
	case e.OpSize66:
		c = p66 | noRep
	default:
		c = np | noRep
	}
	if d.rexW {
		c |= w1 | no16
	} else {
		c |= w0
		if e.OpSize66 {
			c |= o16
		} else {
			c |= no16
		}
	}
	if d.rexB != 0 {
		c |= b1
	} else {
		c |= b0
	}
	c |= [...]sel{l0 | nl2, l1 | nl0 | nl2, l2 | nl0, 0}[d.length()]
	if !d.addr {
		c |= no67
	}
	if e.HasModRM {
		c |= d0<<(e.ModRM>>3&7) | rm0<<(e.ModRM&7)
		if e.ModRM>>6 == 3 {
			c |= modReg
		} else {
			c |= modMem
		}
	}
	return c
}

// describe finds the row of the instruction and fills in what it says.
func (d *decoder) describe() error {
	indexOnce.Do(buildIndex)
	in := &d.in
	c := d.context()
	for _, i := range index[d.space][in.Enc.Opcode] {
		f := &forms[i]
		if f.sel&selNeed&^c == 0 {
			if f.attr&isVec != 0 && !d.fillVec(f) {
				in.HasMem, in.Mem = false, Mem{Base: NoReg, Index: NoReg}
				in.Class, in.Flow = ClassVector, FlowNext
				return nil
			}
			in.row = i + 1
			return d.fill(f)
		}
	}
	if d.lock {
		return ErrLock
	}
	in.HasMem, in.Mem = false, Mem{Base: NoReg, Index: NoReg}
	if !d.defined() {
		return ErrUndefined
	}
	in.Class, in.Flow = ClassVector, FlowNext
	return nil
}

// fill fills in what row f says about the instruction.
func (d *decoder) fill(f *form) error {
	in, e := &d.in, &d.in.Enc
	in.Op = f.op
	in.Class, in.Flow = Class(f.attr), Flow(f.attr>>8)
	if d.lock && (f.attr&lock == 0 || !in.HasMem) {
		return ErrLock
	}
	if f.sel&cc != 0 {
		in.Cond = e.Opcode & 15
	}
	if d.refused(f) {
		in.Class, in.Flow = ClassStop, FlowStop
		in.HasMem, in.Mem = false, Mem{Base: NoReg, Index: NoReg}
		return nil
	}
	in.Width = d.width(f.os)
	in.FlagsRead, in.FlagsWritten = Flags(f.fl>>fRead), Flags(f.fl>>fWrite)
	in.FlagsUndef, in.FlagsCond = Flags(f.fl>>fUndef), f.fl&fCond != 0
	in.Reads, in.Writes = RegSet(f.imp), RegSet(f.imp>>16)
	if in.Width == 1 || in.Width == 2 {
		in.Reads |= in.Writes &^ (1 << RSP) // RSP is written whole even then
	}
	if f.sel&cc != 0 {
		in.FlagsRead = condFlags[in.Cond>>1]
	}
	in.Lock = d.lock
	in.Atomic = d.lock || f.attr&xchgMem != 0 && in.HasMem
	in.BitOffset = f.attr&bitOff != 0 && in.HasMem
	usesVVVV := false
	for _, a := range f.args {
		if a == 0 {
			break
		}
		usesVVVV = usesVVVV || a.usesVVVV()
		d.operand(a)
	}
	if e.Kind == EncVEX && !usesVVVV && d.vvvv != 0 {
		return ErrUndefined
	}
	switch in.Class {
	case ClassString:
		in.Mem.Seg = d.seg
		if d.rep != 0 {
			in.Rep, in.RepNE = d.rep == 0xf3, d.rep == 0xf2
			in.Writes |= 1 << RCX
			in.Reads |= in.Writes // nothing is written when RCX is 0
			in.FlagsCond = in.FlagsWritten != 0
		}
	case ClassEnter:
		in.Imm = int64(binary.LittleEndian.Uint16(e.ImmRaw[:])) | int64(e.ImmRaw[2])<<16
	}
	if in.HasMem && in.Class != ClassNop {
		in.addrReads()
	}
	in.refineShift()
	in.Known = true
	return nil
}

// addrReads adds the registers of the memory operand to Reads.
func (in *Inst) addrReads() {
	if in.Mem.Base < 16 {
		in.Reads |= 1 << in.Mem.Base
	}
	if in.Mem.Index < 16 {
		in.Reads |= 1 << in.Mem.Index
	}
}

// refused says that the prefixes make a described form one that is better left alone.
func (d *decoder) refused(f *form) bool {
	e := &d.in.Enc
	if f.attr&named != 0 {
		return true
	}
	if f.attr&near != 0 && e.OpSize66 && !d.rexW {
		return true
	}
	if d.rep == 0 || f.sel&(pF2|pF3) != 0 || f.attr&(repNop|repZ) != 0 {
		return false
	}
	return f.attr&rep == 0 || d.rep != 0xf3
}

// condFlags are the flags that condition codes 2n and 2n+1 test.
var condFlags = [8]Flags{OF, CF, ZF, CF | ZF, SF, PF, SF | OF, SF | OF | ZF}

// operand appends the operand that a describes.
func (d *decoder) operand(a arg) {
	in, e := &d.in, &d.in.Enc
	o := Operand{Access: Access(a & 7), Reg: NoReg, Size: d.size(a)}
	switch a & argWhere {
	case argE, argM, argR:
		o.Field = FieldRM
		if in.HasMem {
			o.Kind = KindMem
		} else {
			o.Kind, o.Reg = KindReg, d.reg(e.ModRM&7|d.rexB, o.Size)
		}
	case argG:
		o.Kind, o.Field, o.Reg = KindReg, FieldReg, d.reg(e.ModRM>>3&7|d.rexR, o.Size)
	case argZ:
		o.Kind, o.Field, o.Reg = KindReg, FieldOpcode, d.reg(e.Opcode&7|d.rexB, o.Size)
	case argB:
		o.Kind, o.Field, o.Reg = KindReg, FieldVVVV, Reg(d.vvvv)
	case argA:
		o.Kind, o.Reg = KindReg, RAX
	case argV, argW, argUV, argH, argL, argX0, argKG, argKE, argKR, argKH:
		d.vecOperand(a, &o)
	case argCL:
		o.Kind, o.Reg = KindReg, RCX
	case argI, argU:
		o.Kind, o.Field, o.Access = KindImm, FieldImm, Read
		in.Imm = e.imm(a&argWhere == argI)
	case argOne:
		o.Kind, o.Access = KindImm, Read
		in.Imm = 1
	case argJ:
		o.Kind, o.Field, o.Access = KindRel, FieldImm, Read
		in.Imm = e.imm(true)
		in.Target = in.Addr + uint64(d.pos) + uint64(in.Imm)
	}
	if in.Mask != NoReg {
		d.maskOperand(&o)
	}
	in.Ops[in.NumOps] = o
	in.NumOps++
	if o.Kind != KindReg || in.Class == ClassNop || o.Reg > BH {
		return
	}
	bit := RegSet(1) << o.Reg.general()
	partial := o.Access&Write != 0 && o.Size < 4 || o.Access&CondWrite != 0
	if o.Access&Read != 0 || partial {
		in.Reads |= bit
	}
	if o.Access&(Write|CondWrite) != 0 {
		in.Writes |= bit
	}
}

// general is the general register that r is or is part of.
func (r Reg) general() Reg {
	if r >= AH && r <= BH {
		return r - AH
	}
	return r
}

// reg is general register n of an access of size bytes.
func (d *decoder) reg(n uint8, size uint8) Reg {
	if size == 1 && d.in.Enc.REX == 0 && d.in.Enc.Kind == EncLegacy && n >= 4 {
		return AH + Reg(n-4) // n < 8 without REX
	}
	return Reg(n)
}

func (d *decoder) size(a arg) uint8 {
	switch a & szMask {
	case szB:
		return 1
	case szW:
		return 2
	case szD:
		return 4
	case szQ:
		return 8
	case szDQ:
		return 16
	case szV:
		return uint8(d.in.Width)
	case szY:
		return uint8(d.width(osY))
	case szZ:
		return uint8(min(d.in.Width, 4))
	case szQQ:
		return 32
	case szZZ:
		return 64
	case szX:
		return 16 << d.length()
	case szH:
		return 8 << d.length()
	case szF:
		return 4 << d.length()
	case szE:
		return 2 << d.length()
	}
	return 0
}

// imm is the immediate, extended to 64 bits.
func (e *Encoding) imm(signed bool) int64 {
	v := binary.LittleEndian.Uint64(e.ImmRaw[:])
	shift := 64 - 8*uint(e.ImmLen)
	if signed {
		return int64(v<<shift) >> shift
	}
	return int64(v << shift >> shift)
}

// refineShift makes the flags of a shift or rotate by a constant those of that count (SDM vol. 2, SAL/SAR/SHL/SHR, RCL/
// RCR/ROL/ROR, SHLD, SHRD).
func (in *Inst) refineShift() {
	if !in.FlagsCond || in.Class == ClassString {
		return
	}
	if in.Width >= 4 {
		in.FlagsUndef &^= CF // the masked count is below the width
	}
	if in.Ops[in.NumOps-1].Kind != KindImm {
		return
	}
	mask := int64(31)
	if in.Width == 8 {
		mask = 63
	}
	n := in.Imm & mask
	if n == 0 {
		in.FlagsRead, in.FlagsWritten, in.FlagsUndef, in.FlagsCond = 0, 0, 0, false
		return
	}
	if n == 1 {
		in.FlagsUndef &^= OF
	}
	switch in.Op {
	case OpROL, OpROR, OpRCL, OpRCR:
		// The count is taken modulo 8, 9, 16 or 17 besides, and the manual does not say what a remainder of 0 does.
		in.FlagsCond = in.Width < 4
	case OpSHLD, OpSHRD:
		in.FlagsCond = false
		if n > int64(8*in.Width) {
			in.FlagsUndef = AllArith
		} else {
			in.FlagsUndef &^= CF
		}
	default:
		in.FlagsCond = false
		if n < int64(8*in.Width) {
			in.FlagsUndef &^= CF
		}
	}
}
