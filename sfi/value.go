package sfi

import (
	"fmt"
	"math/bits"

	"ub/target"
)

// kind says what is proved about a register.
type kind uint8

const (
	unknown    kind = iota
	isNum           // a number in [lo, hi], 0 <= lo <= hi < machine.numbers: such a number is a sanitized address as it is
	isWindow        // w + d: w sanitized, d in [lo, hi], both within reach
	isTouched       // w + d: an access at w has completed, so that w is the program's; d in [lo, hi], both within reach
	isBase          // the host address of the window (Sentry only)
	isAbsolute      // the host address of the window + w + d, as isWindow: for string instructions (Sentry only)
	numKinds
)

// value is what is proved about the 64 bits of one register. The zero value is unknown.
type value struct {
	lo, hi int64
	kind   kind

	// also: a value of kind isWindow is a touched one as well, [tlo, thi] from what was accessed (machine.both).
	also     bool
	tlo, thi int32
}

// state is what is proved about all registers at one place. RSP's element stays unknown: RSP is never an operand. So does
// RBP's where it is reserved.
type state [16]value

func (m *machine) num(lo, hi int64) value {
	if lo < 0 || hi >= m.numbers {
		return value{}
	}
	return value{lo: lo, hi: hi, kind: isNum}
}

// near makes a value of kind isWindow, isTouched or isAbsolute.
func (m *machine) near(k kind, lo, hi int64) value {
	if lo < -m.reach[k].below || hi > m.reach[k].above {
		return value{}
	}
	return value{lo: lo, hi: hi, kind: k}
}

// asWindow views a number as the sanitized address that it is.
func (v value) asWindow() value {
	if v.kind == isNum {
		return value{kind: isWindow}
	}
	return v
}

// add returns v + d.
func (m *machine) add(v value, d int64) value {
	switch v.kind {
	case isNum:
		if n := m.num(v.lo+d, v.hi+d); n.kind == isNum {
			return n
		}
		return m.near(isWindow, d, d)
	case isBase:
		return m.near(isAbsolute, d, d)
	case isWindow:
		w := m.near(isWindow, v.lo+d, v.hi+d)
		if v.also {
			w = w.and(m.near(isTouched, int64(v.tlo)+d, int64(v.thi)+d))
		}
		return w
	case isTouched, isAbsolute:
		return m.near(v.kind, v.lo+d, v.hi+d)
	}
	return value{}
}

// and returns a value that is both w, of kind isWindow, and t, of kind isTouched, if they are.
func (w value) and(t value) value {
	switch {
	case t.kind == unknown:
		return w
	case w.kind == unknown:
		return t
	}
	w.also, w.tlo, w.thi = true, int32(t.lo), int32(t.hi)
	return w
}

// walk is what v, of kind isTouched or isWindow, is as a touched value. A sanitized address is as good as one that was accessed,
// but not the other way around.
func (v value) walk() (lo, hi int64) {
	if v.also {
		return int64(v.tlo), int64(v.thi)
	}
	return v.lo, v.hi
}

// touched returns what is known about v when an access of v+d has completed. It does not ask where v was before: outside of
// the window v+d would have faulted, if the access was allowed. What was known exactly reaches further than the new proof, and
// is kept; so are numbers, which need none.
func (m *machine) touched(v value, d int64) value {
	t := m.near(isTouched, -d, -d)
	switch {
	case t.kind == unknown, d > m.walkBelow: // too far above to get back from there
		return v
	case v.kind == isWindow && m.both:
		return v.and(t)
	case v.kind == isTouched, v.kind == isWindow && v.lo != v.hi:
		return t
	}
	return v
}

// join returns what is true of both a and b.
func (m *machine) join(a, b value) value {
	if a == b {
		return a
	}
	if a.kind != b.kind {
		a, b = a.asWindow(), b.asWindow()
	}
	walks := func(v value) bool { return v.kind == isTouched || v.kind == isWindow }
	lo, hi := min(a.lo, b.lo), max(a.hi, b.hi)
	switch {
	case walks(a) && walks(b):
		var w, t value
		if a.kind == b.kind {
			w = value{lo: lo, hi: hi, kind: a.kind}
		}
		if a.kind != b.kind || a.also || b.also {
			alo, ahi := a.walk()
			blo, bhi := b.walk()
			t = m.near(isTouched, min(alo, blo), max(ahi, bhi))
		}
		return w.and(t)
	case a.kind != b.kind || a.kind == unknown:
		return value{}
	}
	return value{lo: lo, hi: hi, kind: a.kind}
}

// reads tells whether the instruction's memory operand is exactly this slot of the context block.
func (in *inst) reads(slot int32) bool {
	return in.hasMem && !in.gs && in.base == regRSP && in.index == regNone && in.disp == slot
}

// step moves s over one accepted instruction. Whatever may be written becomes unknown; only the forms with an effect in
// forms.txt leave something known, and only in their destination. An access tells something about its base, unless this is
// written: then about nothing, since what was the base is gone.
func (s *state) step(m *machine, in *inst) {
	v := s.result(m, in)
	if in.sure && in.program && in.base < 16 && in.index == regNone {
		s[in.base] = m.touched(s[in.base], int64(in.disp))
	}
	for c := in.clobber; c != 0; c &= c - 1 {
		s[bits.TrailingZeros16(c)] = value{}
	}
	if in.dst != regNone {
		s[in.dst] = v
	}
}

// result returns what is known about in's destination after it. Writes of 16 bits keep the upper bits: nothing is known
// then. Writes of 32 bits clear them (Intel SDM volume 1, 3.4.1.1).
func (s *state) result(m *machine, in *inst) value {
	if in.form.fx == fxNone || in.osz == 2 {
		return value{}
	}
	wide := in.osz == 8
	unknown32 := value{}
	if !wide {
		unknown32 = m.num(0, 1<<32-1)
	}
	switch in.form.fx {
	case fxCopy:
		switch {
		case in.hasMem && wide && in.reads(target.SlotBase) && m.kernel == target.Sentry:
			return value{kind: isBase}
		case in.hasMem && wide && in.reads(target.SlotFSBase):
			return m.num(0, m.numbers-1)
		case in.src != regNone && (wide || s[in.src].kind == isNum && s[in.src].hi < 1<<32):
			return s[in.src]
		}
		return unknown32
	case fxImm:
		if wide {
			return m.num(in.imm, in.imm)
		}
		return m.num(int64(uint32(in.imm)), int64(uint32(in.imm)))
	case fxZext:
		return m.num(0, 1<<(8*in.form.ops[1].bytes(0))-1)
	case fxShr:
		// No other form has the anchor as a source, and this one only as its count, with 64 bits.
		if in.src == m.touch.base {
			return m.num(0, target.MaxTag)
		}
		// The processor reads the low six bits of a count (SDM volume 2, SARX/SHLX/SHRX), and clears as many bits. It must be one
		// count for certain: that it is any of some would do too, but nobody needs it.
		if c := s[in.src]; wide && c.kind == isNum && c.lo == c.hi && c.lo&63 > 0 {
			return m.num(0, 1<<(64-c.lo&63)-1)
		}
	case fxPdep:
		if wide && in.reads(target.SlotAddrMask) {
			return m.near(isWindow, 0, 0)
		}
	case fxLea:
		if !wide {
			return unknown32
		}
		return s.sum(m, in)
	case fxPlus, fxMinus, fxPlus1, fxMinus1:
		if wide && in.dst != regNone {
			return m.add(s[in.dst], in.summand())
		}
	}
	return value{}
}

// summand is what an instruction with such an effect adds to its destination.
func (in *inst) summand() int64 {
	switch in.form.fx {
	case fxPlus:
		return in.imm
	case fxMinus:
		return -in.imm
	case fxPlus1:
		return 1
	default:
		return -1
	}
}

// sum returns the value of a 64-bit lea: a known register plus displacement, or the window's base plus a sanitized address.
func (s *state) sum(m *machine, in *inst) value {
	d := int64(in.disp)
	switch {
	case in.base == regRIP:
		return value{}
	case in.index == regNone && in.base == regNone:
		return m.num(d, d)
	case in.index == regNone:
		return m.add(s[in.base], d)
	case in.base == regNone || in.scale != 1:
		return value{}
	}
	x, y := s[in.base].asWindow(), s[in.index].asWindow()
	if x.kind == isBase {
		x, y = y, x
	}
	if x.kind == isWindow && y.kind == isBase {
		return m.near(isAbsolute, x.lo+d, x.hi+d)
	}
	return value{}
}

func (v value) String() string {
	switch v.kind {
	case isNum:
		return fmt.Sprintf("number[%#x,%#x]", v.lo, v.hi)
	case isWindow:
		if v.also {
			return fmt.Sprintf("window[%d,%d], touched[%d,%d]", v.lo, v.hi, v.tlo, v.thi)
		}
		return fmt.Sprintf("window[%d,%d]", v.lo, v.hi)
	case isTouched:
		return fmt.Sprintf("touched[%d,%d]", v.lo, v.hi)
	case isBase:
		return "base"
	case isAbsolute:
		return fmt.Sprintf("base+window[%d,%d]", v.lo, v.hi)
	}
	return "unknown"
}
