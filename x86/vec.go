package x86

import (
	"strconv"
	"strings"
)

// Vector instructions: rows of legacy SSE, VEX and EVEX encodings, in groups of those that have everything in common but
// opcode and name.
//
// Not in the tables, so never Known: gathers, scatters and their prefetches; MASKMOVDQU, MASKMOVQ; VCOMPRESS and VEXPAND
// of memory (how many bytes they access depends on the mask); everything with MMX, x87 or AMX registers; ER, PF, 4FMAPS,
// 4VNNIW, BF16, FP16, VP2INTERSECT; SSE4A, XOP, FMA4.
//
// Where descriptions are coarser than the manual (Intel SDM vol. 2), on purpose:
//   - A masked memory operand has the size of the whole operand, as if all of it were accessed; when it is written, the
//     access is CondWrite. So is that of VMASKMOV and VPMASKMOV, and registers that the mask leaves alone are written.
//   - A destination register of a legacy encoding that is not written whole is read and written. What VEX and EVEX clear
//     above the vector length is not mentioned: that is the state's business, not a program's.
//   - VBLENDM and VPBLENDM, whose opmask selects between two sources, read their destination like any instruction with
//     an opmask.
//   - An opmask register is of 8 bytes, however many of its bits matter.
//   - What prefix bits mean that the manual calls ignored or reserved depends on the processor. Where a general or opmask
//     register is encoded with them (EVEX.R', EVEX.X, VEX.R ...), where EVEX.V' or vvvv names a register that the form does
//     not have, and where L'L is 3 without EVEX.b, only the length is known.

// vecGroup is a group of rows. list has, for each, the opcode in hex, "/digit" if ModRM.reg is one, and the name.
type vecGroup struct {
	sel  sel
	args ops
	fl   effect
	imp  regs
	attr attrs
	list string
}

// vecNames are the names of the operations from numOps on.
var vecNames []string

// appendVecForms appends the rows of the vector tables to forms.
func appendVecForms(forms []form) []form {
	numbers := make(map[string]Op)
	add := func(g *vecGroup, level attrs) {
		for _, a := range g.args {
			if w := a & argWhere; w >= argKG && w <= argKH {
				level = vecAVX512
			}
		}
		f := strings.Fields(g.list)
		for i := 0; i < len(f); i += 2 {
			op, ok := numbers[f[i+1]]
			if !ok {
				op = numOps + Op(len(vecNames))
				numbers[f[i+1]] = op
				vecNames = append(vecNames, f[i+1])
			}
			code, digit, hasDigit := strings.Cut(f[i], "/")
			n, err := strconv.ParseUint(code, 16, 8)
			if err != nil {
				panic(err)
			}
			s := g.sel | sel(n)
			if hasDigit {
				s |= d0 << (digit[0] - '0')
			}
			forms = append(forms, form{op: op, sel: s, args: g.args, fl: g.fl, imp: g.imp, attr: g.attr | level})
		}
	}
	for i := range groupsSSE {
		add(&groupsSSE[i], vecAVX)
	}
	for i := range groupsAVX {
		add(&groupsAVX[i], vecAVX)
	}
	for i := range groupsEVEX {
		add(&groupsEVEX[i], vecAVX512)
	}
	return forms
}

// Vector operands, named as in the manual (SDM vol. 2, appendix A.2): the place, then the size.
const (
	_Vx  = argV | szX
	_Vh  = argV | szH
	_Vdq = argV | szDQ
	_Vqq = argV | szQQ
	_Vzz = argV | szZZ
	_Hx  = argH | szX
	_Hdq = argH | szDQ
	_Hqq = argH | szQQ
	_Hzz = argH | szZZ
	_Lx  = argL | szX
	_Wx  = argW | szX
	_Wh  = argW | szH
	_Wb  = argW | szB
	_Ww  = argW | szW
	_Wd  = argW | szD
	_Wq  = argW | szQ
	_Wdq = argW | szDQ
	_Wqq = argW | szQQ
	_Ux  = argUV | szX
	_Udq = argUV | szDQ
	_X0  = argX0 | szDQ

	_KG  = argKG | szQ
	_KR  = argKR | szQ
	_KH  = argKH | szQ
	_KEb = argKE | szB
	_KEw = argKE | szW
	_KEd = argKE | szD
	_KEq = argKE | szQ

	_Mx  = argM | szX
	_Mh  = argM | szH
	_Mf  = argM | szF
	_Me  = argM | szE
	_Mw  = argM | szW
	_Md  = argM | szD
	_Mqq = argM | szQQ
	_Mzz = argM | szZZ

	_Gd = argG | szD
	_Gq = argG | szQ
	_Eq = argE | szQ
	_Rd = argR | szD
)

// length is the vector length: 16<<length bytes. 3 is none.
func (d *decoder) length() uint8 {
	if e := &d.in.Enc; e.Kind == EncEVEX && e.ModRM>>6 == 3 && e.VEX[3]&0x10 != 0 {
		return 2 // EVEX.b on registers: L'L is the rounding or ignored
	}
	return d.vexL
}

func (a arg) usesVVVV() bool {
	switch a & argWhere {
	case argB, argH, argKH:
		return true
	}
	return false
}

// ignoresLength tells whether f is of scalars, for which the vector length is ignored. Software should leave it 0: else
// "unpredictable behaviour across different processor generations" may come (SDM vol. 2, 2.3.9 and table 2-36).
func (f *form) ignoresLength() bool {
	if f.sel&(l0|l1|l2|nl0|nl2) != 0 {
		return false
	}
	for _, a := range f.args {
		switch a & szMask {
		case szX, szH, szF, szE:
			return false
		}
	}
	return true
}

// isMaskMove: opcodes of VMASKMOVPS, VMASKMOVPD, VPMASKMOVD and VPMASKMOVQ in map 0F38.
var isMaskMove = [256]bool{0x2c: true, 0x2d: true, 0x2e: true, 0x2f: true, 0x8c: true, 0x8e: true}

// fillVec fills in what is particular to an instruction of vector row f, and makes its displacement what it is. It reports
// false if only the length can be said: see the comment on top.
func (d *decoder) fillVec(f *form) bool {
	in, e := &d.in, &d.in.Enc
	usesVVVV := false
	for _, a := range f.args {
		usesVVVV = usesVVVV || a.usesVVVV()
		switch a & argWhere {
		case argKG:
			if d.rexR != 0 || e.Kind == EncEVEX && e.VEX[1]&0x10 == 0 {
				return false
			}
		case argG:
			if e.Kind == EncEVEX && e.VEX[1]&0x10 == 0 {
				return false
			}
		case argKE, argKR:
			if !in.HasMem && (d.rexB != 0 || d.rexX != 0) {
				return false
			}
		case argE, argR:
			if e.Kind == EncEVEX && !in.HasMem && d.rexX != 0 {
				return false
			}
		case argKH:
			if d.vvvv > 7 || e.Kind == EncEVEX && e.VEX[3]&8 == 0 {
				return false
			}
		}
	}
	level := VecAVX
	if f.attr&vecAVX512 != 0 {
		level = VecAVX512
	}
	if e.Kind == EncEVEX && !d.fillEVEX(f, usesVVVV) {
		return false
	}
	if e.Kind == EncVEX && d.vexL != 0 && f.ignoresLength() {
		return false
	}
	in.Vec = level
	in.Masked = in.HasMem && (in.Mask != NoReg || e.Kind == EncVEX && e.Map == 2 && isMaskMove[e.Opcode])
	return true
}

// fillEVEX is the part of fillVec for EVEX encodings.
func (d *decoder) fillEVEX(f *form, usesVVVV bool) bool {
	in, e := &d.in, &d.in.Enc
	k, z, b := e.VEX[3]&7, e.VEX[3]&0x80 != 0, e.VEX[3]&0x10 != 0
	switch {
	case d.length() == 3, d.vexL != 0 && (in.HasMem || !b) && f.ignoresLength(),
		!usesVVVV && (d.vvvv != 0 || e.VEX[3]&8 == 0):
		return false
	case b && !in.HasMem && f.attr&er == 0 && e.VEX[3]&0x60 == 0x60: // no length, ignored: assemblers don't make it
		return false
	case k != 0 && f.attr&mask == 0, z && (k == 0 || f.attr&zeroing == 0):
		return false
	case z && in.HasMem && f.args[0]&argWhere != argV: // memory is never zeroed
		return false
	case b && in.HasMem && f.attr&(bcast4|bcast8) == 0, b && !in.HasMem && f.attr&(er|sae) == 0:
		return false
	}
	var size uint8
	for _, a := range f.args {
		switch a & argWhere {
		case argM, argE, argW, argKE:
			size = d.size(a)
		}
	}
	if b && in.HasMem {
		size = 8
		if f.attr&bcast4 != 0 {
			size = 4
		}
		in.Broadcast = true
	}
	if e.ModRM>>6 == 1 { // disp8 counts in units of the memory operand's size (SDM vol. 2, 2.7.5)
		in.Mem.Disp *= int32(size)
	}
	if k != 0 {
		in.Mask, in.Zeroing = K0+Reg(k), z
	}
	return true
}

// vecOperand fills in an operand in a vector or opmask register, or what may be in its place.
func (d *decoder) vecOperand(a arg, o *Operand) {
	in, e := &d.in, &d.in.Enc
	o.Kind = KindReg
	evex := func(b byte) Reg { // the fifth bit, inverted, of a register number
		if e.Kind == EncEVEX && b == 0 {
			return 16
		}
		return 0
	}
	switch a & argWhere {
	case argV:
		o.Field, o.Reg = FieldReg, XMM0+Reg(e.ModRM>>3&7|d.rexR)+evex(e.VEX[1]&0x10)
	case argKG:
		o.Field, o.Reg = FieldReg, K0+Reg(e.ModRM>>3&7)
	case argW, argUV, argKE, argKR:
		o.Field = FieldRM
		switch {
		case in.HasMem:
			o.Kind = KindMem
		case a&argWhere == argKE, a&argWhere == argKR:
			o.Reg = K0 + Reg(e.ModRM&7)
		default:
			o.Reg = XMM0 + Reg(e.ModRM&7|d.rexB) + evex(e.VEX[1]&0x40)
		}
	case argH:
		o.Field, o.Reg = FieldVVVV, XMM0+Reg(d.vvvv)+evex(e.VEX[3]&8)
	case argKH:
		o.Field, o.Reg = FieldVVVV, K0+Reg(d.vvvv)
	case argL:
		o.Field, o.Reg = FieldIS4, XMM0+Reg(e.ImmRaw[0]>>4)
	case argX0:
		o.Reg = XMM0
	}
	switch {
	case o.Kind == KindMem:
		if in.Broadcast {
			o.Size = uint8(4)
			if forms[in.row-1].attr&bcast8 != 0 {
				o.Size = 8
			}
		}
	case o.Reg >= K0:
		o.Size = 8
	default:
		o.Size = max(o.Size, 16)
	}
}

// maskOperand makes the access to the destination what it is with an opmask.
func (d *decoder) maskOperand(o *Operand) {
	switch in := &d.in; {
	case in.Zeroing || o.Access != Write:
	case o.Kind == KindMem:
		o.Access = CondWrite
	case o.Reg < K0: // what is not selected of an opmask register is zeroed
		o.Access = Read | Write
	}
}
