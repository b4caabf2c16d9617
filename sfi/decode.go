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

// prefixes is what was read in front of the opcode.
type prefixes struct {
	p66, lock, gs, rex bool
	rep                byte // 0, 0xF2 or 0xF3
	w, r, x, b         uint8
	vvvv               uint8
	vex                bool  // VEX or EVEX
	l                  uint8 // VEX.L or EVEX.L'L

	evex       bool
	rHi, vHi   uint8 // EVEX.R' and V': the fifth bits of ModRM.reg and vvvv
	z, bcastRC bool  // EVEX.z and b
	aaa        uint8
}

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

// prefixes reads legacy prefixes and REX, and returns the byte behind them.
func (r *reader) prefixes(p *prefixes) (byte, *Error) {
	for {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		dup := false
		switch b {
		case 0x66:
			dup, p.p66 = p.p66, true
		case 0xf2, 0xf3:
			dup, p.rep = p.rep != 0 || p.lock, b
		case 0xf0:
			dup, p.lock = p.rep != 0 || p.lock, true
		case 0x65:
			if r.linux {
				return 0, refuse(r.start, RuleSegment, "65: no segment prefix at all, GS is the kernel's")
			}
			dup, p.gs = p.gs, true
		case 0x67:
			return 0, refuse(r.start, RulePrefix, "67: addresses of 32 bits wrap around where the proofs do not")
		case 0x26, 0x2e, 0x36, 0x3e, 0x64:
			return 0, refuse(r.start, RuleSegment, "%02X: the only segment prefix is GS", b)
		default:
			if b&0xf0 != 0x40 {
				return b, nil
			}
			p.rex, p.w, p.r, p.x, p.b = true, b>>3&1, b>>2&1, b>>1&1, b&1
			if b, err = r.byte(); err != nil {
				return 0, err
			}
			if b&0xf0 == 0x40 || b == 0x66 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x65 ||
				b == 0x67 || b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 {
				return 0, refuse(r.start, RulePrefix, "REX is not the last prefix")
			}
			return b, nil
		}
		if dup {
			return 0, refuse(r.start, RulePrefix, "%02X: a second prefix of its group", b)
		}
	}
}

// vex reads the rest of a VEX prefix and the opcode (Intel SDM volume 2, 2.3.5).
func (r *reader) vex(p *prefixes, first byte) (space int, op byte, err *Error) {
	if p.rex || p.p66 || p.rep != 0 || p.lock {
		return 0, 0, refuse(r.start, RulePrefix, "VEX behind REX, 66, F2, F3 or F0 is undefined")
	}
	p.vex = true
	b, err := r.byte()
	if err != nil {
		return 0, 0, err
	}
	p.r = ^b >> 7 & 1
	maps := byte(1)
	if first == 0xc4 {
		p.x, p.b, maps = ^b>>6&1, ^b>>5&1, b&0x1f
		if b, err = r.byte(); err != nil {
			return 0, 0, err
		}
		p.w = b >> 7
	}
	p.vvvv, p.l = ^b>>3&15, b>>2&1
	p.setPP(b)
	if op, err = r.byte(); err != nil {
		return 0, 0, err
	}
	if maps < 1 || maps > 3 {
		return 0, 0, refuse(r.start, RuleForm, "VEX map %d is undefined", maps)
	}
	return spaceVEX0F + int(maps) - 1, op, nil
}

// evex reads the rest of an EVEX prefix and the opcode (Intel SDM volume 2, 2.7.1). Its fixed bits must be as they were before
// APX gave them a meaning.
func (r *reader) evex(p *prefixes) (space int, op byte, err *Error) {
	if p.rex || p.p66 || p.rep != 0 || p.lock {
		return 0, 0, refuse(r.start, RulePrefix, "EVEX behind REX, 66, F2, F3 or F0 is undefined")
	}
	at, err := r.take(3)
	if err != nil {
		return 0, 0, err
	}
	p0, p1, p2 := r.code[at], r.code[at+1], r.code[at+2]
	if op, err = r.byte(); err != nil {
		return 0, 0, err
	}
	p.vex, p.evex = true, true
	p.r, p.x, p.b, p.rHi = ^p0>>7&1, ^p0>>6&1, ^p0>>5&1, ^p0>>4&1
	p.w, p.vvvv = p1>>7, ^p1>>3&15
	p.setPP(p1)
	p.z, p.l, p.bcastRC, p.vHi, p.aaa = p2>>7 != 0, p2>>5&3, p2>>4&1 != 0, ^p2>>3&1, p2&7
	maps := p0 & 7
	switch {
	case p0>>3&1 != 0 || p1>>2&1 == 0:
		return 0, 0, refuse(r.start, RuleForm, "EVEX with a fixed bit changed: undefined, or APX")
	case maps == 5 || maps == 6:
		return 0, 0, refuse(r.start, RuleForm, "EVEX map %d: FP16 has not been looked at yet", maps)
	case maps < 1 || maps > 3:
		return 0, 0, refuse(r.start, RuleForm, "EVEX map %d is undefined", maps)
	}
	return spaceEVEX0F + int(maps) - 1, op, nil
}

// setPP reads the field that stands for a mandatory prefix.
func (p *prefixes) setPP(b byte) {
	switch b & 3 {
	case 1:
		p.p66 = true
	case 2:
		p.rep = 0xf3
	case 3:
		p.rep = 0xf2
	}
}

// match finds the first line of the table for this opcode. It looks at the ModRM byte but does not consume it.
func (t *table) match(r *reader, space int, op byte, p *prefixes) (*form, *Error) {
	modrm := -1
	if r.pos < r.end {
		modrm = int(r.code[r.pos])
	}
	shape := false // a form was right but for its prefixes
	for _, i := range t.index[space][op] {
		f := &t.forms[i]
		if modrm < 0 && (f.hasModRM || f.digit >= 0 || f.modrmIs >= 0) {
			_, err := r.take(1)
			return nil, err
		}
		if !f.matchModRM(modrm) {
			continue
		}
		if !f.matchPrefixes(p) || f.refused == 0 && !f.matchVector(p, modrm) {
			shape = shape || f.refused == 0
			continue
		}
		if f.refused != 0 {
			// "mov with a prefix that mov does not take" is a better answer than a refusal meant for other operands.
			if shape && f.refused == RuleForm {
				break
			}
			return nil, &Error{Off: r.start, Rule: f.refused, Detail: f.reason}
		}
		return f, nil
	}
	if shape {
		return nil, refuse(r.start, RulePrefix, "a prefix that this instruction does not take, or lacks")
	}
	return nil, refuse(r.start, RuleForm, "no such form on the allow-list")
}

// matchModRM tells whether the form's conditions on ModRM hold. modrm is -1 only if the form has none.
func (f *form) matchModRM(modrm int) bool {
	if f.modrmIs >= 0 && modrm != f.modrmIs || f.digit >= 0 && modrm>>3&7 != int(f.digit) {
		return false
	}
	for i := range f.ops {
		switch f.ops[i].kind {
		case 'M', 'A', 'N':
			if modrm>>6 == 3 {
				return false
			}
		case 'R', 'U', 'r':
			if modrm>>6 != 3 {
				return false
			}
		}
	}
	return true
}

func (f *form) matchPrefixes(p *prefixes) bool {
	if f.refused != 0 {
		return f.anyPfx || (f.rep == 0 || f.rep == p.rep) && (f.p66 != required || p.p66)
	}
	if p.rep != f.rep && !(f.f3 && p.rep == 0xf3) {
		return false
	}
	switch f.p66 {
	case absent:
		if p.p66 {
			return false
		}
	case optional:
		if p.p66 && p.w != 0 { // W wins, so 66 would be without meaning
			return false
		}
	case required:
		if !p.p66 {
			return false
		}
	}
	return !(f.noREX && p.rex) && !(f.needB && p.b == 0) && !(f.w >= 0 && f.w != int8(p.w))
}

// matchVector tells whether the fields that only VEX and EVEX have are valid for the form. Where the manual has #UD this says no;
// it also does where the manual has "ignored", so that only one encoding is left.
func (f *form) matchVector(p *prefixes, modrm int) bool {
	if !p.vex {
		return true
	}
	registers := modrm >= 0xc0
	switch {
	case p.bcastRC && registers && f.er: // L'L is the rounding mode, the length is 512 or that of the scalar
		if f.lens&(len512|lenIgnored) == 0 {
			return false
		}
	case p.bcastRC && registers && f.sae: // L'L is ignored; the length is 512 or that of the scalar
		if f.lens&(len512|lenIgnored) == 0 || p.l == 3 {
			return false
		}
	case p.bcastRC && (registers || f.bcast == 0):
		return false
	case p.l == 3 || f.lens>>p.l&1 == 0:
		return false
	}
	if p.aaa != 0 && !f.mask || p.z && (!f.zero || p.aaa == 0) {
		return false
	}
	// Memory cannot be zeroed (SDM volume 2, 2.7.4).
	return !p.z || registers || !f.writesMemory()
}

func (f *form) writesMemory() bool {
	for i := range f.ops {
		switch f.ops[i].kind {
		case 'E', 'M', 'W', 'e':
			if f.ops[i].write {
				return true
			}
		}
	}
	return false
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
