package sfi

import (
	"fmt"
	"math/bits"

	"ub/target"
)

// WalkLimit bounds how far an access may lie from the address that the last access through the same register has proved: every
// byte touched lies in [w-WalkLimit, w+WalkLimit). Such a proof holds when the access has completed, but a processor may run
// ahead behind one that is going to fault. Each access in flight then leads WalkLimit further at most; see docs/sfi.md, Speculation.
const WalkLimit = 1 << 20

// The guards are wide enough for this many accesses in flight, the first of them DispLimit outside: more than any processor has.
const _ = uint((target.GuardSize-target.DispLimit)/WalkLimit - 4096)

// kind says what is proved about a register.
type kind uint8

const (
	unknown    kind = iota
	isNum           // a number in [lo, hi], 0 <= lo <= hi < WindowSize: such a number is a sanitized address as it is
	isWindow        // w + d: w sanitized, d in [lo, hi], both within +-DispLimit
	isTouched       // w + d: an access at w has completed, so that w lies in the window; d in [lo, hi], both within +-WalkLimit
	isBase          // the host address of the window
	isAbsolute      // the host address of the window + w + d, as isWindow: for string instructions
)

// value is what is proved about the 64 bits of one register. The zero value is unknown.
type value struct {
	lo, hi int64
	kind   kind
}

// state is what is proved about all registers at one place. RSP's element stays unknown: RSP is never an operand.
type state [16]value

func num(lo, hi int64) value {
	if lo < 0 || hi >= target.WindowSize {
		return value{}
	}
	return value{lo, hi, isNum}
}

// reach is how far from a value of this kind's w a byte may lie.
func (k kind) reach() int64 {
	if k == isTouched {
		return WalkLimit
	}
	return target.DispLimit
}

// near makes a value of kind isWindow, isTouched or isAbsolute.
func near(k kind, lo, hi int64) value {
	if lo < -k.reach() || hi > k.reach() {
		return value{}
	}
	return value{lo, hi, k}
}

// asWindow views a number as the sanitized address that it is.
func (v value) asWindow() value {
	if v.kind == isNum {
		return value{0, 0, isWindow}
	}
	return v
}

// add returns v + d.
func (v value) add(d int64) value {
	switch v.kind {
	case isNum:
		if n := num(v.lo+d, v.hi+d); n.kind == isNum {
			return n
		}
		return near(isWindow, d, d)
	case isBase:
		return near(isAbsolute, d, d)
	case isWindow, isTouched, isAbsolute:
		return near(v.kind, v.lo+d, v.hi+d)
	}
	return value{}
}

// touched returns what is known about v when an access of v+d has completed. It does not ask where v was before: outside of
// the window v+d would have faulted, if the access was allowed. What was known exactly reaches further than the new proof, and
// is kept; so are numbers, which need none.
func (v value) touched(d int64) value {
	if v.kind == isTouched || v.kind == isWindow && v.lo != v.hi {
		if t := near(isTouched, -d, -d); t.kind == isTouched {
			return t
		}
	}
	return v
}

// join returns what is true of both a and b.
func join(a, b value) value {
	if a == b {
		return a
	}
	if a.kind != b.kind {
		a, b = a.asWindow(), b.asWindow()
	}
	lo, hi := min(a.lo, b.lo), max(a.hi, b.hi)
	switch {
	case a.kind == isTouched && b.kind == isWindow, a.kind == isWindow && b.kind == isTouched:
		// A sanitized address is as good as one that was accessed, but not the other way around.
		return near(isTouched, lo, hi)
	case a.kind != b.kind || a.kind == unknown:
		return value{}
	}
	return value{lo, hi, a.kind}
}

// reads tells whether the instruction's memory operand is exactly this slot of the context block.
func (in *inst) reads(slot int32) bool {
	return in.hasMem && !in.gs && in.base == regRSP && in.index == regNone && in.disp == slot
}

// step moves s over one accepted instruction. Whatever may be written becomes unknown; only the forms with an effect in
// forms.txt leave something known, and only in their destination. An access tells something about its base, unless this is
// written: then about nothing, since what was the base is gone.
func (s *state) step(in *inst) {
	v := s.result(in)
	if in.sure && in.gs && in.base < 16 && in.index == regNone {
		s[in.base] = s[in.base].touched(int64(in.disp))
	}
	for m := in.clobber; m != 0; m &= m - 1 {
		s[bits.TrailingZeros16(m)] = value{}
	}
	if in.dst != regNone {
		s[in.dst] = v
	}
}

// result returns what is known about in's destination after it. Writes of 16 bits keep the upper bits: nothing is known
// then. Writes of 32 bits clear them (Intel SDM volume 1, 3.4.1.1).
func (s *state) result(in *inst) value {
	if in.form.fx == fxNone || in.osz == 2 {
		return value{}
	}
	wide := in.osz == 8
	unknown32 := value{}
	if !wide {
		unknown32 = num(0, 1<<32-1)
	}
	switch in.form.fx {
	case fxCopy:
		switch {
		case in.hasMem && wide && in.reads(target.SlotBase):
			return value{kind: isBase}
		case in.hasMem && wide && in.reads(target.SlotFSBase):
			return num(0, target.WindowSize-1)
		case in.src != regNone && (wide || s[in.src].kind == isNum && s[in.src].hi < 1<<32):
			return s[in.src]
		}
		return unknown32
	case fxImm:
		if wide {
			return num(in.imm, in.imm)
		}
		return num(int64(uint32(in.imm)), int64(uint32(in.imm)))
	case fxZext:
		return num(0, 1<<(8*in.form.ops[1].bytes(0))-1)
	case fxPext:
		if wide && in.reads(target.SlotTagMask) {
			return num(0, 1<<bits.OnesCount64(target.TagMask)-1)
		}
	case fxPdep:
		if wide && in.reads(target.SlotAddrMask) {
			return near(isWindow, 0, 0)
		}
	case fxLea:
		if !wide {
			return unknown32
		}
		return s.sum(in)
	case fxPlus, fxMinus, fxPlus1, fxMinus1:
		if wide && in.dst != regNone {
			return s[in.dst].add(in.summand())
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
func (s *state) sum(in *inst) value {
	d := int64(in.disp)
	switch {
	case in.base == regRIP:
		return value{}
	case in.index == regNone && in.base == regNone:
		return num(d, d)
	case in.index == regNone:
		return s[in.base].add(d)
	case in.base == regNone || in.scale != 1:
		return value{}
	}
	x, y := s[in.base].asWindow(), s[in.index].asWindow()
	if x.kind == isBase {
		x, y = y, x
	}
	if x.kind == isWindow && y.kind == isBase {
		return near(isAbsolute, x.lo+d, x.hi+d)
	}
	return value{}
}

func (v value) String() string {
	switch v.kind {
	case isNum:
		return fmt.Sprintf("number[%#x,%#x]", v.lo, v.hi)
	case isWindow:
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
