package x86

import "fmt"

// Reencode returns the instruction with operands replaced as s says; everything else that has an effect is kept:
// LOCK, REP, widths, immediates. Prefixes without effect are dropped. It fails, and says why, when
//   - the instruction is not Known, or a direct branch (the assembler places those);
//   - a RIP-relative operand would be kept: it means something else elsewhere. Replace it, if need be by a RIP-relative one;
//   - AH..BH would be needed together with REX;
//   - s replaces an operand that the form does not have, or an implicit one;
//   - a vector operand becomes memory, or memory one: of those, only registers are replaced by registers, memory by memory;
//   - another register becomes memory, or memory a register, where the form has no such encoding or would do something else then: a
//     32-bit write (a register's upper half is zeroed, memory's is not), a bit offset beyond the width, an atomic access.
func (in *Inst) Reencode(s Subst) ([]byte, error) {
	p, err := in.place(&s)
	if err != nil {
		return nil, fmt.Errorf("x86: cannot re-encode %s: %w", in.Mnemonic(), err)
	}
	seg := Mem{Seg: SegNone}
	switch {
	case p.mem != nil:
		seg = *p.mem
	case in.Class == ClassString && s.hasMem:
		seg.Seg = s.mem.Seg
	case in.Class == ClassString:
		seg.Seg = in.Mem.Seg
	}
	b := seg.appendPrefixes(make([]byte, 0, MaxLen))
	unit := int32(1)
	switch in.Enc.Kind {
	case EncVEX:
		b = in.appendVEX(b, p)
	case EncEVEX:
		b = in.appendEVEX(b, p)
		unit = int32(p.memSize) // of disp8 (SDM vol. 2, 2.7.5)
	default:
		if b, err = in.appendLegacy(b, p); err != nil {
			return nil, fmt.Errorf("x86: cannot re-encode %s: %w", in.Mnemonic(), err)
		}
	}
	if in.Enc.HasModRM {
		if p.mem != nil {
			b = p.mem.appendModRM(b, p.reg&7, unit)
		} else {
			b = append(b, 0xc0|p.reg&7<<3|p.rm&7)
		}
	}
	b = append(b, in.Enc.ImmRaw[:in.Enc.ImmLen]...)
	if len(b) > MaxLen {
		return nil, fmt.Errorf("x86: cannot re-encode %s: longer than %d bytes", in.Mnemonic(), MaxLen)
	}
	return b, nil
}

// placed is an instruction's operands by where they are encoded, as register numbers of 4 bits, or 5 with EVEX.
type placed struct {
	reg, rm, opcode, vvvv byte
	mem                   *Mem // in place of rm
	memSize               uint8
	low, high             bool // SPL..DIL, which need REX, or AH..BH, which exclude it
}

// place applies s to in's operands.
func (in *Inst) place(s *Subst) (*placed, error) {
	e := &in.Enc
	if !in.Known {
		return nil, fmt.Errorf("only its length is known")
	}
	f := &forms[in.row-1]
	p := &placed{reg: e.ModRM >> 3 & 7, rm: e.ModRM & 7, opcode: e.Opcode & 7}
	var has uint8
	for i := range in.Ops[:in.NumOps] {
		o := &in.Ops[i]
		has |= 1 << o.Field
		switch o.Kind {
		case KindRel:
			return nil, fmt.Errorf("it is a direct branch")
		case KindMem:
			if err := in.placeMem(p, s, f.args[i], o); err != nil {
				return nil, err
			}
		case KindReg:
			if o.Field == FieldRM && s.hasMem {
				if err := in.toMem(p, s, f.args[i], o); err != nil {
					return nil, err
				}
				continue
			}
			r, err := s.regFor(o)
			if err != nil {
				return nil, err
			}
			if o.Reg > BH {
				err = in.putVec(p, o, r)
			} else {
				err = p.put(o.Field, r, o.Size)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	has &^= 1 << FieldIS4 // in the immediate, which stays as it is
	if missing := s.set &^ has; missing != 0 {
		return nil, fmt.Errorf("it has no such operand")
	}
	if s.hasMem && p.mem == nil {
		if in.Class != ClassString || s.mem.Base != NoReg || s.mem.Index != NoReg {
			return nil, fmt.Errorf("it has no operand that could be memory")
		}
	}
	return p, nil
}

// placeMem places the memory operand o, or the register that replaces it.
func (in *Inst) placeMem(p *placed, s *Subst, a arg, o *Operand) error {
	if s.set&(1<<FieldRM) != 0 {
		switch {
		case s.hasMem:
			return fmt.Errorf("its memory operand is replaced twice")
		case a&argWhere != argE:
			return fmt.Errorf("the operand must be memory")
		case in.Atomic:
			return fmt.Errorf("the access is atomic")
		case in.BitOffset:
			return fmt.Errorf("the bit offset may reach outside of a register")
		}
		return p.put(FieldRM, s.regs[FieldRM], o.Size)
	}
	p.mem, p.memSize = &in.Mem, o.Size
	if s.hasMem {
		p.mem = &s.mem
	} else if in.Mem.Base == RIP {
		return fmt.Errorf("its RIP-relative operand is not replaced")
	}
	return p.mem.check()
}

// toMem replaces the register operand o in ModRM.rm by memory.
func (in *Inst) toMem(p *placed, s *Subst, a arg, o *Operand) error {
	f := &forms[in.row-1]
	switch {
	case s.set&(1<<FieldRM) != 0:
		return fmt.Errorf("its operand in ModRM.rm is replaced twice")
	case a&argWhere != argE:
		return fmt.Errorf("the operand must be a register")
	case f.sel&modReg != 0:
		return fmt.Errorf("the form exists with a register only")
	case in.Enc.Kind == EncEVEX && in.Enc.VEX[3]&0x10 != 0:
		return fmt.Errorf("rounding is given, which there is with a register only")
	case f.attr&bitOff != 0:
		return fmt.Errorf("the bit offset would reach outside of the memory operand")
	case o.Size == 4 && o.Access&(Write|CondWrite) != 0:
		return fmt.Errorf("the upper half of the register is zeroed, that of memory would not be")
	}
	p.mem, p.memSize = &s.mem, o.Size
	return s.mem.check()
}

// regFor is the register that s puts in the place of o.
func (s *Subst) regFor(o *Operand) (Reg, error) {
	renamed := o.Reg.general() < 16 && s.renamed&(1<<o.Reg.general()) != 0
	switch {
	case s.set&(1<<o.Field) != 0 && o.Field != FieldImplicit:
		return s.regs[o.Field], nil
	case !renamed || s.to[o.Reg.general()] == o.Reg.general():
		return o.Reg, nil
	case o.Field == FieldImplicit:
		return 0, fmt.Errorf("operand %v is implicit", o.Reg)
	case o.Reg >= AH && o.Reg <= BH:
		to := s.to[o.Reg-AH]
		if to > RBX {
			return 0, fmt.Errorf("%v has no high byte", to)
		}
		return AH + to, nil
	}
	return s.to[o.Reg], nil
}

// putVec places register r for the vector or opmask register operand o.
func (in *Inst) putVec(p *placed, o *Operand, r Reg) error {
	first, n := XMM0, Reg(16)
	switch {
	case o.Reg >= K0:
		first, n = K0, 8
	case in.Enc.Kind == EncEVEX:
		n = 32
	}
	if r < first || r >= first+n {
		return fmt.Errorf("register %v cannot be encoded there", r)
	}
	switch number := byte(r - first); o.Field {
	case FieldReg:
		p.reg = number
	case FieldRM:
		p.rm = number
	case FieldVVVV:
		p.vvvv = number
	}
	return nil
}

// put places register r, of size bytes.
func (p *placed) put(f Field, r Reg, size uint8) error {
	n := byte(r)
	switch {
	case r >= AH && r <= BH && size == 1:
		n = byte(r-AH) + 4
		p.high = f != FieldImplicit
	case r > R15:
		return fmt.Errorf("register %v cannot be encoded there", r)
	case size == 1 && r >= RSP && r <= RDI && f != FieldImplicit:
		p.low = true
	}
	switch f {
	case FieldReg:
		p.reg = n
	case FieldRM:
		p.rm = n
	case FieldOpcode:
		p.opcode = n
	case FieldVVVV:
		p.vvvv = n
	}
	return nil
}

// appendLegacy appends prefixes and opcode of an instruction without VEX. Of the prefixes those stay that the row asks
// for or that have an effect.
func (in *Inst) appendLegacy(b []byte, p *placed) ([]byte, error) {
	e, f := &in.Enc, &forms[in.row-1]
	if in.Lock {
		b = append(b, 0xf0)
	}
	if e.OpSize66 && (f.sel&p66 != 0 || in.Width == 2) {
		b = append(b, 0x66)
	}
	switch {
	case in.Rep || f.sel&pF3 != 0:
		b = append(b, 0xf3)
	case in.RepNE || f.sel&pF2 != 0:
		b = append(b, 0xf2)
	}
	rex := e.REX&8 | p.reg>>3<<2
	if p.mem != nil {
		rex |= p.mem.rex()
	} else {
		rex |= p.rm>>3 | p.opcode>>3
	}
	if rex != 0 || p.low {
		if p.high {
			return nil, fmt.Errorf("a high byte register cannot be encoded with REX")
		}
		b = append(b, 0x40|rex)
	}
	switch e.Map {
	case 1:
		b = append(b, 0x0f)
	case 2:
		b = append(b, 0x0f, 0x38)
	case 3:
		b = append(b, 0x0f, 0x3a)
	}
	return append(b, e.Opcode&^7|p.opcode&7), nil
}

// appendVEX appends the VEX prefix and the opcode.
func (in *Inst) appendVEX(b []byte, p *placed) []byte {
	e := &in.Enc
	x := p.rm >> 3 // B
	if p.mem != nil {
		x = p.mem.rex()
	}
	last := e.VEX[1] // W vvvv L pp; no W in the two-byte form
	w := byte(0)
	if e.VEX[0] == 0xc4 {
		last, w = e.VEX[2], e.VEX[2]&0x80
	}
	return appendVEX(b, e.Map, p.reg>>3, x, w|^p.vvvv&15<<3|last&7, e.Opcode)
}

// appendVEX appends VEX and opcode: extension bits r (of ModRM.reg) and xb (as in REX), last as it is in the prefix's
// last byte but for the two-byte form's R.
func appendVEX(b []byte, opmap, r, xb, last, opcode byte) []byte {
	if opmap == 1 && xb == 0 && last&0x80 == 0 {
		return append(b, 0xc5, (^r&1)<<7|last, opcode)
	}
	return append(b, 0xc4, (^r&1)<<7|(^xb&3)<<5|opmap, last, opcode)
}

// appendEVEX appends the EVEX prefix and the opcode. Opmask, rounding and the like stay; the bits that extend register
// numbers are inverted (SDM vol. 2, table 2-30).
func (in *Inst) appendEVEX(b []byte, p *placed) []byte {
	e := &in.Enc
	xb := p.rm >> 3 // X is bit 4 of a register number
	if p.mem != nil {
		xb = p.mem.rex()
	}
	p0 := e.VEX[1]&7 | (^p.reg>>3&1)<<7 | (^xb&3)<<5 | (^p.reg>>4&1)<<4
	p1 := e.VEX[2]&0x87 | (^p.vvvv&15)<<3
	p2 := e.VEX[3]&0xf7 | (^p.vvvv>>4&1)<<3
	return append(b, 0x62, p0, p1, p2, e.Opcode)
}
