package sfi

import (
	"encoding/binary"

	"ub/target"
)

// Register numbers beyond the sixteen of the hardware.
const (
	regRSP  = 4
	regRBP  = 5
	regNone = 0xfe
	regRIP  = 0xff
)

// inst is one decoded instruction, reduced to what the policy asks about.
type inst struct {
	off uint32
	len uint8

	form *form

	lock, gs, rep bool
	mark          mark // set after decoding

	// Operand width in bytes of a v operand: 2, 4 or 8. For y operands 4 or 8.
	osz uint8

	vl uint8 // vector length in bytes: 16, 32 or 64; meaningless with EVEX rounding control, which is for registers only

	// The memory operand, if hasMem. msize is 0 if the address is computed but not accessed.
	hasMem      bool
	program     bool // program memory is accessed: with GS, in Linux with a base other than RSP and RBP
	mread       bool
	mwrite      bool
	sure        bool // the whole operand is accessed whenever the instruction completes
	msize       uint8
	base, index uint8
	scale       uint8
	disp        int32

	// Registers that the instruction may write, in whole or in part.
	clobber uint16

	// For effects: the register that gets the value, and the one it comes from (regNone: from memory or nowhere).
	dst, src uint8

	imm    int64 // immediate, sign-extended
	block  int32 // index of its basic block
	target int64 // of a jump: offset in the code, or outside of it
}

// mark is a set of facts about an instruction's place in the blob.
type mark uint8

const (
	markLeader mark = 1 << iota // a basic block starts here
)

// reader walks over the bytes of one instruction.
type reader struct {
	linux bool
	code  []byte
	start uint32
	pos   uint32
	end   uint32 // where the code or the 15 bytes end
}

// take returns the position of the next n bytes, or an error when the instruction cannot have them.
func (r *reader) take(n uint32) (uint32, *Error) {
	if r.end-r.pos < n {
		if r.end == uint32(len(r.code)) {
			return 0, refuse(r.start, RuleTruncated, "the instruction runs over the end of the blob")
		}
		return 0, refuse(r.start, RuleForm, "the instruction is longer than 15 bytes")
	}
	p := r.pos
	r.pos += n
	return p, nil
}

func (r *reader) byte() (byte, *Error) {
	p, err := r.take(1)
	if err != nil {
		return 0, err
	}
	return r.code[p], nil
}

// sint reads a little-endian signed integer of 1, 2, 4 or 8 bytes.
func (r *reader) sint(size uint32) (int64, *Error) {
	p, err := r.take(size)
	if err != nil {
		return 0, err
	}
	switch size {
	case 1:
		return int64(int8(r.code[p])), nil
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(r.code[p:]))), nil
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(r.code[p:]))), nil
	default:
		return int64(binary.LittleEndian.Uint64(r.code[p:])), nil
	}
}

// decode reads the instruction at off into in. It refuses what is not on the allow-list, or is encoded in an unusual way.
func (t *table) decode(code []byte, off uint32, in *inst) *Error {
	r := reader{linux: t.kernel == target.Linux, code: code, start: off, pos: off, end: min(uint32(len(code)), off+15)}
	var p prefixes
	op, err := r.prefixes(&p)
	if err != nil {
		return err
	}
	space := space1
	switch {
	case op == 0xc4 || op == 0xc5:
		if space, op, err = r.vex(&p, op); err != nil {
			return err
		}
	case op == 0x62:
		if space, op, err = r.evex(&p); err != nil {
			return err
		}
	case op == 0x0f:
		space = space0F
		if op, err = r.byte(); err != nil {
			return err
		}
		if op == 0x38 || op == 0x3a {
			space = space0F38
			if op == 0x3a {
				space = space0F3A
			}
			if op, err = r.byte(); err != nil {
				return err
			}
		}
	}
	f, err := t.match(&r, space, op, &p)
	if err != nil {
		return err
	}
	*in = inst{off: off, form: f, gs: p.gs, lock: p.lock, rep: f.f3 && p.rep != 0, base: regNone, index: regNone, dst: regNone, src: regNone, clobber: f.clobber}
	switch {
	case p.w != 0:
		in.osz = 8
	case p.p66 && f.p66 == optional:
		in.osz = 2
	default:
		in.osz = 4
	}
	in.vl = 16 << (p.l & 3)
	var modrm byte
	if f.hasModRM {
		if modrm, err = r.byte(); err != nil {
			return err
		}
		if modrm>>6 != 3 {
			in.setMemory(&p)
			if err := r.address(in, &p, modrm); err != nil {
				return err
			}
		}
	}
	if err := r.operands(in, &p, op, modrm); err != nil {
		return err
	}
	in.len = uint8(r.pos - off)
	in.target += int64(r.pos) // from relative to the next instruction
	if err := in.checkPrefixes(&p); err != nil {
		return err
	}
	if in.program = in.gs; r.linux {
		in.program = in.msize != 0 && in.base != regRSP && in.base != regRBP
		return in.checkRBP()
	}
	return nil
}

// setMemory fills in what the form says about the memory operand.
func (in *inst) setMemory(p *prefixes) {
	for i := range in.form.ops {
		o := &in.form.ops[i]
		switch o.kind {
		case 'E', 'M', 'W', 'e':
			in.mread, in.mwrite = o.read, o.write
			in.sure = !in.form.perhaps && p.aaa == 0
			in.msize = o.bytes(in.osz)
			if o.size == 'x' {
				in.msize = in.vl / o.part
			}
			if p.bcastRC {
				in.msize = in.form.bcast
				if in.form.bcast == bcastW {
					in.msize = in.osz
				}
			}
		}
	}
}

// address reads SIB and displacement (Intel SDM volume 2, table 2-2 and 2-3; REX extends, but not the escapes: base 5 with
// mod 0 means no base also as r13, index 4 means no index only without REX.X).
func (r *reader) address(in *inst, p *prefixes, modrm byte) *Error {
	mod, rm := modrm>>6, modrm&7
	in.hasMem, in.scale = true, 1
	dispSize := uint32(0)
	switch mod {
	case 1:
		dispSize = 1
	case 2:
		dispSize = 4
	}
	switch {
	case rm == 4:
		sib, err := r.byte()
		if err != nil {
			return err
		}
		if index := sib>>3&7 | p.x<<3; index != 4 {
			in.index, in.scale = index, 1<<(sib>>6)
		}
		if sib&7 == 5 && mod == 0 {
			dispSize = 4
		} else {
			in.base = sib&7 | p.b<<3
		}
	case rm == 5 && mod == 0:
		in.base, dispSize = regRIP, 4
	default:
		in.base = rm | p.b<<3
	}
	if dispSize != 0 {
		d, err := r.sint(dispSize)
		if err != nil {
			return err
		}
		in.disp = int32(d)
		// EVEX counts displacements of 8 bits in operands (SDM volume 2, 2.7.5: N of every tuple type is the operand's size).
		if p.evex && dispSize == 1 {
			in.disp *= int32(in.msize)
		}
	}
	return nil
}

// operands applies the form's operands: registers written, memory access, immediate.
func (r *reader) operands(in *inst, p *prefixes, op, modrm byte) *Error {
	f := in.form
	usesVVVV, usesVHi := false, false
	for i := range f.ops {
		o := &f.ops[i]
		reg := uint8(regNone)
		switch o.kind {
		case 'E', 'M', 'R':
			if in.hasMem {
				continue
			}
			if p.evex && p.x != 0 {
				return refuse(in.off, RulePrefix, "EVEX.X with a general register")
			}
			reg = modrm&7 | p.b<<3
		case 'G':
			if p.rHi != 0 {
				return refuse(in.off, RulePrefix, "EVEX.R' with a general register")
			}
			reg = modrm>>3&7 | p.r<<3
		case 'Z':
			reg = op&7 | p.b<<3
		case 'B':
			reg, usesVVVV = p.vvvv, true
			if f.fx == fxShr && in.osz == 8 && reg == r.anchor() {
				in.src = reg
				continue
			}
		case 'V', 'W', 'U':
			continue
		case 'H':
			usesVVVV, usesVHi = true, true
			continue
		case 'L':
			v, err := r.byte()
			if err != nil {
				return err
			}
			if v&15 != 0 {
				return refuse(in.off, RuleForm, "the bits below a register in an immediate are not zero")
			}
			continue
		case 'g':
			if p.r|p.rHi != 0 {
				return refuse(in.off, RulePrefix, "an opmask register above 7")
			}
			continue
		case 'e', 'r':
			if !in.hasMem && p.x|p.b != 0 {
				return refuse(in.off, RulePrefix, "an opmask register above 7")
			}
			continue
		case 'h':
			if usesVVVV = true; p.vvvv > 7 {
				return refuse(in.off, RulePrefix, "an opmask register above 7")
			}
			continue
		case 'N':
			if p.x|p.b != 0 || in.base != 0 || in.disp != 0 || in.index != regNone && (in.index != 0 || in.scale != 1) {
				return refuse(in.off, RuleForm, "nop in an unusual encoding")
			}
			continue
		case 'I':
			size := uint32(o.bytes(in.osz))
			if o.size == 'z' {
				size = min(size, 4)
			}
			v, err := r.sint(size)
			if err != nil {
				return err
			}
			in.imm = v
			continue
		case 'J':
			v, err := r.sint(uint32(o.bytes(in.osz)))
			if err != nil {
				return err
			}
			in.target = v
			continue
		default: // A: the address is in base, index, disp
			continue
		}
		if o.size == 'b' && !p.rex && reg >= 4 {
			reg -= 4 // AH, CH, DH, BH
		}
		if reg == regRSP {
			return refuse(in.off, RuleRSP, "RSP is an operand")
		}
		if reg == regRBP && r.linux {
			return refuse(in.off, RuleRBP, "RBP is an operand")
		}
		if o.write {
			in.clobber |= 1 << reg
			if in.dst == regNone {
				in.dst = reg
			}
		} else {
			in.src = reg
		}
	}
	if !usesVVVV && p.vvvv != 0 || !usesVHi && p.vHi != 0 {
		return refuse(in.off, RulePrefix, "VEX.vvvv names a register that the form does not have")
	}
	if f.bitImm && (in.imm < 0 || in.imm >= int64(in.osz)*8) {
		return refuse(in.off, RuleBits, "bit %d of an operand of %d bits", uint8(in.imm), int(in.osz)*8)
	}
	return nil
}

// anchor is the register with target.TagShift in its low six bits, which is all that SHRX reads of its count (SDM volume 2):
// nothing of the address becomes known.
func (r *reader) anchor() uint8 {
	if r.linux {
		return regRBP
	}
	return regRSP
}

// bytes returns the operand's size.
func (o *operand) bytes(osz uint8) uint8 {
	switch o.size {
	case 'b':
		return 1
	case 'w':
		return 2
	case 'd':
		return 4
	case 'q':
		return 8
	case 'o':
		return 16
	default: // v, y, z
		return osz
	}
}

// checkPrefixes refuses LOCK and GS where they have no meaning.
func (in *inst) checkPrefixes(p *prefixes) *Error {
	if p.lock && !(in.form.lock && in.hasMem && in.mwrite) {
		return refuse(in.off, RuleLock, "LOCK on a form that does not take it")
	}
	if p.gs && in.msize == 0 {
		return refuse(in.off, RulePrefix, "65: GS without a memory access")
	}
	if in.hasMem && (in.base == regRSP || in.index == regRSP) && in.msize == 0 {
		return refuse(in.off, RuleRSP, "an address is computed from RSP")
	}
	return nil
}

// checkRBP refuses RBP in an address other than the base of an access, in Linux; checkAnchor sees to these.
func (in *inst) checkRBP() *Error {
	if in.hasMem && (in.index == regRBP || in.base == regRBP && in.msize == 0) {
		return refuse(in.off, RuleRBP, "an address is computed from RBP")
	}
	return nil
}
