package sfi

// The first half of the decoder: prefixes, opcode, and which form of the allow-list they belong to. decode.go has the rest.

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
