package x86

import (
	"encoding/binary"
	"errors"
)

// MaxLen is the architecture's limit on the length of an instruction (SDM vol. 2, 2.3.11).
const MaxLen = 15

// Errors of Decode. In each case Inst.Len is how far the bytes were understood.
var (
	ErrTruncated = errors.New("x86: the bytes end inside the instruction")
	ErrTooLong   = errors.New("x86: instruction longer than 15 bytes")
	ErrUndefined = errors.New("x86: not an instruction in 64-bit mode")
	ErrLock      = errors.New("x86: LOCK on an instruction that cannot be locked")
)

// Decode decodes the instruction at the start of code, which is at address addr. It looks at no more than MaxLen bytes.
//
// An instruction that exists but is not in the tables decodes without an error and with Known false: only Addr, Len, Flow,
// Class, Enc and perhaps Op mean something then.
func Decode(code []byte, addr uint64) (Inst, error) {
	var d decoder
	d.in.Addr = addr
	d.in.Mem.Base, d.in.Mem.Index, d.in.Mask = NoReg, NoReg, NoReg
	d.code = code
	if len(d.code) > MaxLen {
		d.code = d.code[:MaxLen]
		d.cut = true
	}
	err := d.decode()
	d.in.Len = d.pos
	if err != nil {
		d.in.Known, d.in.Flow, d.in.Class = false, FlowStop, ClassStop
	}
	return d.in, err
}

type decoder struct {
	in   Inst
	code []byte
	pos  int
	cut  bool // code had more than MaxLen bytes

	lock  bool
	rep   byte // the last of F2h and F3h, or 0
	seg   Seg
	addr  bool // 67h
	space int
	// The bits of REX or VEX/EVEX/XOP that extend register numbers, as 0 or 8, and W.
	rexR, rexX, rexB uint8
	rexW             bool
	vvvv             uint8
	vexL             uint8
}

func (d *decoder) end() error {
	if d.cut || len(d.code) == MaxLen {
		return ErrTooLong
	}
	return ErrTruncated
}

func (d *decoder) decode() error {
	opcode, err := d.prefixes()
	if err != nil {
		return err
	}
	e := &d.in.Enc
	switch {
	case opcode == 0xc4 || opcode == 0xc5:
		err = d.vex(opcode)
	case opcode == 0x62:
		err = d.evex()
	case opcode == 0x8f && d.pos < len(d.code) && d.code[d.pos]&0x1f >= 8:
		err = d.xop()
	default:
		err = d.escape(opcode)
	}
	if err != nil {
		return err
	}
	layout := layoutOf(d.space, e.Opcode)
	if layout == '-' {
		return ErrUndefined
	}
	if err := d.modRM(layout); err != nil {
		return err
	}
	if err := d.immediate(layout); err != nil {
		return err
	}
	return d.describe()
}

// prefixes reads the legacy prefixes and REX, and returns the first byte after them. REX counts only as the last prefix;
// of F2h and F3h, and of segment overrides, the last one counts.
func (d *decoder) prefixes() (byte, error) {
	e := &d.in.Enc
	for d.pos < len(d.code) {
		b := d.code[d.pos]
		d.pos++
		switch b {
		case 0x66:
			e.OpSize66 = true
		case 0x67:
			d.addr = true
		case 0xf0:
			d.lock = true
		case 0xf2, 0xf3:
			d.rep = b
		case 0x64:
			d.seg = SegFS
		case 0x65:
			d.seg = SegGS
		case 0x26, 0x2e, 0x36, 0x3e:
			if d.seg == SegNone {
				d.seg = SegOther
			}
		default:
			if b&0xf0 == 0x40 {
				e.REX = b
				continue
			}
			e.PrefF2, e.PrefF3 = d.rep == 0xf2, d.rep == 0xf3
			if e.REX != 0 {
				d.rexR, d.rexX, d.rexB = e.REX<<1&8, e.REX<<2&8, e.REX<<3&8
				d.rexW = e.REX&8 != 0
			}
			return b, nil
		}
		e.REX = 0 // another prefix after it makes it void
	}
	return 0, d.end()
}

// escape finds the map of a legacy opcode.
func (d *decoder) escape(b byte) error {
	e := &d.in.Enc
	e.Kind, e.Opcode = EncLegacy, b
	if b != 0x0f {
		return nil
	}
	next, err := d.next()
	if err != nil {
		return err
	}
	switch next {
	case 0x38, 0x3a:
		e.Map = 2
		if next == 0x3a {
			e.Map = 3
		}
		if next, err = d.next(); err != nil {
			return err
		}
		d.space = spaceLegacy + int(e.Map)
	case 0x0f:
		e.Kind, e.Map, d.space = Enc3DNow, 1, space3DNow
	default:
		e.Map, d.space = 1, spaceLegacy+1
	}
	e.Opcode = next
	return nil
}

func (d *decoder) next() (byte, error) {
	if d.pos >= len(d.code) {
		return 0, d.end()
	}
	d.pos++
	return d.code[d.pos-1], nil
}

// noPrefix refuses what must not precede VEX, EVEX and XOP (SDM vol. 2, 2.3.2 to 2.3.4).
func (d *decoder) noPrefix() error {
	if e := &d.in.Enc; d.lock || d.rep != 0 || e.OpSize66 || e.REX != 0 {
		return ErrUndefined
	}
	return nil
}

// setPP takes over the mandatory prefix that VEX and its like carry.
func (d *decoder) setPP(pp byte) {
	e := &d.in.Enc
	e.OpSize66, e.PrefF3, e.PrefF2 = pp == 1, pp == 2, pp == 3
}

func (d *decoder) vex(b byte) error {
	e := &d.in.Enc
	if err := d.noPrefix(); err != nil {
		return err
	}
	e.Kind = EncVEX
	p, err := d.next()
	if err != nil {
		return err
	}
	e.VEX[0], e.VEX[1] = b, p
	d.rexR = ^p >> 4 & 8
	e.Map = 1
	last := p
	if b == 0xc4 {
		d.rexX, d.rexB = ^p>>3&8, ^p>>2&8
		e.Map = p & 0x1f
		if last, err = d.next(); err != nil {
			return err
		}
		e.VEX[2] = last
		d.rexW = last&0x80 != 0
	}
	d.vvvv, d.vexL = ^last>>3&15, last>>2&1
	d.setPP(last & 3)
	if e.Map < 1 || e.Map > 3 {
		return ErrUndefined
	}
	d.space = spaceVEX + int(e.Map) - 1
	e.Opcode, err = d.next()
	return err
}

func (d *decoder) xop() error {
	e := &d.in.Enc
	if err := d.noPrefix(); err != nil {
		return err
	}
	e.Kind = EncXOP
	if len(d.code) < d.pos+3 {
		d.pos = len(d.code)
		return d.end()
	}
	e.VEX = [4]byte{0x8f, d.code[d.pos], d.code[d.pos+1]}
	e.Map, e.Opcode = e.VEX[1]&0x1f, d.code[d.pos+2]
	d.pos += 3
	d.rexR, d.rexX, d.rexB = ^e.VEX[1]>>4&8, ^e.VEX[1]>>3&8, ^e.VEX[1]>>2&8
	d.rexW, d.vvvv, d.vexL = e.VEX[2]&0x80 != 0, ^e.VEX[2]>>3&15, e.VEX[2]>>2&1
	d.setPP(e.VEX[2] & 3)
	if e.Map > 10 || e.VEX[2]&3 != 0 {
		return ErrUndefined
	}
	d.space = spaceXOP + int(e.Map) - 8
	return nil
}

func (d *decoder) evex() error {
	e := &d.in.Enc
	if err := d.noPrefix(); err != nil {
		return err
	}
	e.Kind = EncEVEX
	if len(d.code) < d.pos+4 {
		d.pos = len(d.code)
		return d.end()
	}
	e.VEX = [4]byte{0x62, d.code[d.pos], d.code[d.pos+1], d.code[d.pos+2]}
	e.Map, e.Opcode = e.VEX[1]&7, d.code[d.pos+3]
	d.pos += 4
	d.rexR, d.rexX, d.rexB = ^e.VEX[1]>>4&8, ^e.VEX[1]>>3&8, ^e.VEX[1]>>2&8
	d.rexW, d.vvvv, d.vexL = e.VEX[2]&0x80 != 0, ^e.VEX[2]>>3&15, e.VEX[3]>>5&3
	d.setPP(e.VEX[2] & 3)
	// Bit 3 of the first payload byte must be 0, bit 2 of the second 1 (SDM vol. 2, 2.7.1).
	if e.VEX[1]&8 != 0 || e.VEX[2]&4 == 0 || e.Map == 0 || e.Map == 4 || e.Map == 7 {
		return ErrUndefined
	}
	d.space = spaceEVEX + int(e.Map) - 1
	return nil
}

// modRM reads ModRM, SIB and displacement, if the layout has them.
func (d *decoder) modRM(layout byte) error {
	switch layout {
	case '.', 'i', 'z', 'v', 'w', 'd', 'e', 'o':
		return nil
	}
	in, e := &d.in, &d.in.Enc
	b, err := d.next()
	if err != nil {
		return err
	}
	e.HasModRM, e.ModRM = true, b
	mod, rm := b>>6, b&7
	if layout == 'c' {
		return nil
	}
	if mod == 3 {
		return nil
	}
	in.HasMem = true
	m := &in.Mem
	m.Seg, m.Addr32, m.Scale = d.seg, d.addr, 1
	disp := [3]int{0, 1, 4}[mod]
	switch {
	case rm == 4:
		s, err := d.next()
		if err != nil {
			return err
		}
		e.HasSIB, e.SIB = true, s
		if x := s>>3&7 | d.rexX; x != 4 { // SP cannot be an index
			m.Index, m.Scale = Reg(x), 1<<(s>>6)
		}
		if s&7 == 5 && mod == 0 {
			disp = 4
		} else {
			m.Base = Reg(s&7 | d.rexB)
		}
	case rm == 5 && mod == 0:
		m.Base, disp = RIP, 4
	default:
		m.Base = Reg(rm | d.rexB)
	}
	if d.pos+disp > len(d.code) {
		d.pos = len(d.code)
		return d.end()
	}
	switch disp {
	case 1:
		m.Disp = int32(int8(d.code[d.pos]))
	case 4:
		m.Disp = int32(binary.LittleEndian.Uint32(d.code[d.pos:]))
	}
	d.pos += disp
	return nil
}

// immediate reads what follows ModRM.
func (d *decoder) immediate(layout byte) error {
	e := &d.in.Enc
	n := immLen(layout, d.width(osV), &d.in, d.addr)
	if d.space == spaceXOP+2 {
		n = 4
	}
	if d.pos+n > len(d.code) {
		d.pos = len(d.code)
		return d.end()
	}
	e.ImmLen = uint8(copy(e.ImmRaw[:], d.code[d.pos:d.pos+n]))
	d.pos += n
	return nil
}

// width is the operand size in bytes that the prefixes make of os.
func (d *decoder) width(os opsize) int {
	switch os {
	case os8:
		return 1
	case osV:
		switch {
		case d.rexW:
			return 8
		case d.in.Enc.OpSize66:
			return 2
		}
		return 4
	case osY:
		if d.rexW {
			return 8
		}
		return 4
	case osD64:
		if d.in.Enc.OpSize66 && !d.rexW {
			return 2
		}
		return 8
	case os64:
		return 8
	case os32:
		return 4
	case osCX:
		if d.addr {
			return 4
		}
		return 8
	}
	return 0
}
