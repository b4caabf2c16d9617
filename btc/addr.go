package btc

import (
	"ub/target"
	"ub/x86"
)

// memRef is where the translated access goes: [n+disp], or [disp] when n is 0, in the kernel's segment.
type memRef struct {
	n    uint8
	disp int32
}

// at is the operand for an access at m.
func (e *emitter) at(m memRef) x86.Mem {
	out := x86.Mem{Seg: e.k.seg, Base: x86.NoReg, Index: x86.NoReg, Scale: 1, Disp: m.disp}
	if m.n != 0 {
		out.Base = x86.Reg(m.n)
	}
	return out
}

// nearDisp bounds the displacements for which only the base of [base+disp] is sanitized. A base with a larger one may
// be a mere offset into a table, for example a negative one, and need not be in the window when the address is: then
// sanitizing the base would fault where the program does not. (That would still be right, since it then runs natively,
// but never fast.)
const nearDisp = 1<<19 - 1<<12

func exprOf(m *x86.Mem) ea {
	return ea{fs: m.Seg == x86.SegFS, base: m.Base, index: m.Index, scale: m.Scale}
}

// addressStop returns why address cannot make m accessible, or "".
func (t *translator) addressStop(m *x86.Mem, size int) string {
	switch {
	case m.Seg == x86.SegGS || m.Addr32:
		return "segment GS or 32-bit address"
	case m.Base == x86.RIP && m.Seg == x86.SegFS:
		return "FS with a RIP-relative address"
	case m.Seg == x86.SegFS:
		return ""
	}
	if c, ok := t.constantOf(m); ok && !t.k.inAddressSpace(c, size) {
		return "constant address outside of the program's address space"
	}
	return ""
}

// constantOf returns the constant that the address of m is, but for a segment.
func (t *translator) constantOf(m *x86.Mem) (uint64, bool) {
	c := uint64(int64(m.Disp))
	if m.Base == x86.RIP {
		return t.in.Addr + uint64(t.in.Len) + c, true
	}
	return c, m.Base == x86.NoReg && m.Index == x86.NoReg
}

// address emits what makes m, an operand of the current instruction of size bytes, accessible, and returns where. The
// register in it is pinned. stop says why that is not possible.
func (t *translator) address(m *x86.Mem, size int) (ref memRef, stop string) {
	if stop := t.addressStop(m, size); stop != "" {
		return memRef{}, stop
	}
	fs := m.Seg == x86.SegFS
	c, isConst := t.constantOf(m)
	switch {
	case isConst && fs && int64(m.Disp) >= -t.k.below:
		return memRef{t.fsBase(), m.Disp}, ""
	case isConst && !fs:
		return t.constant(c, size), ""
	case m.Index == x86.NoReg && !fs && m.Disp < nearDisp && m.Disp > -nearDisp:
		l := t.chased(m.Base, m.Disp)
		if ref = (memRef{l.n, m.Disp + l.delta}); t.reaches(ref) {
			return ref, ""
		}
		t.release(l.n)
	}
	return t.expression(m), ""
}

// stack returns where [rsp+disp] is.
func (t *translator) stack(disp int32) memRef { return t.off(x86.RSP, disp) }

// off returns where [g+disp] is, disp being small. The register in it is pinned.
func (t *translator) off(g x86.Reg, disp int32) memRef {
	l := t.sanitized(g)
	if ref := (memRef{l.n, l.delta + disp}); t.reaches(ref) {
		return ref
	}
	t.release(l.n)
	o := t.operand(g)
	n := t.alloc()
	fill := func() { t.e.lea(n, o.n, 0, 0, o.delta) }
	fill()
	t.sanitizeMade(n, t.c.narrow[g], fill)
	if o.n >= firstReserved {
		t.release(o.n)
	}
	t.c.at(n).sane = true
	t.c.san[g] = loc{n: n}
	return memRef{n, disp}
}

// sanitized returns a pinned register that holds the sanitized value of program register g, less a distance.
func (t *translator) sanitized(g x86.Reg) loc {
	if l := t.c.saneOf(g); l.ok() {
		t.c.san[g] = l
		t.c.hold(l.n)
		return l
	}
	var n uint8
	switch l := t.c.valueOf(g); {
	case !t.k.isVirtual(g):
		n = t.allocFor(g)
		t.sanitize(n, uint8(g), t.c.narrow[g])
	case !l.ok():
		n = t.allocFor(g)
		fill := func() { t.e.load(n, slotOf(g)) }
		fill()
		t.sanitizeMade(n, t.c.narrow[g], fill)
	default:
		t.c.hold(l.n)
		if vals, _ := t.c.sharers(l.n); vals == 1<<g && l.delta == 0 && t.c.dirty&(1<<g) == 0 {
			// The slot has the value should this fault, so the register need not keep it.
			n = l.n
			t.c.drop(n)
			t.c.hold(n)
			t.sanitizeMade(n, t.c.narrow[g], func() { t.e.load(n, slotOf(g)) })
			break
		}
		n = t.allocFor(g)
		if l.delta != 0 {
			fill := func() { t.e.lea(n, l.n, 0, 0, l.delta) }
			fill()
			t.sanitizeMade(n, t.c.narrow[g], fill)
		} else {
			t.sanitize(n, l.n, t.c.narrow[g])
		}
		t.release(l.n)
	}
	t.c.at(n).sane = true
	t.c.san[g] = loc{n: n}
	return t.c.san[g]
}

// sanitize makes dst, which is allocated for it, the sanitized value of another native register, src, which is of the narrowness n;
// it faults first if that has tag bits.
func (t *translator) sanitize(dst, src, n uint8) {
	if !t.tagless(n) {
		t.checkTagWith(dst, src)
	}
	t.e.pdep(dst, src, target.SlotAddrMask)
}

// sanitizeMade is sanitize in place, for a register that has just been made by fill, if that can be done again (else it is nil), and
// is of no other use.
func (t *translator) sanitizeMade(dst, n uint8, fill func()) {
	switch {
	case t.tagless(n) || t.o.NoTagCheck:
	case fill == nil || t.hasIdle():
		t.checkTag(dst)
	default: // to make it twice is cheaper than to give something up
		t.checkTagWith(dst, dst)
		fill()
	}
	t.e.pdep(dst, dst, target.SlotAddrMask)
}

// checkTag faults if any of the address bits of src that pdep drops is set. It needs a register for a moment.
func (t *translator) checkTag(src uint8) {
	if t.o.NoTagCheck {
		return
	}
	n := t.alloc()
	t.checkTagWith(n, src)
	t.release(n)
}

// checkTagWith is checkTag with a register that holds nothing.
func (t *translator) checkTagWith(n, src uint8) {
	if t.o.NoTagCheck {
		return
	}
	t.e.tag(n, src)
	t.fault(FaultTouch)
	t.e.touch(n)
}

// constant returns the constant address c, which is in the window with its size bytes.
func (t *translator) constant(c uint64, size int) memRef {
	if c+uint64(size) <= 1<<31 {
		return memRef{0, int32(c)}
	}
	for _, n := range allocOrder {
		if r := t.c.at(n); r.konst {
			if d := int64(c - r.value); d < 1<<30 && d > -1<<30 && d >= -t.k.below {
				t.c.hold(n)
				return memRef{n, int32(d)}
			}
		}
	}
	return memRef{t.number(c), 0}
}

// fsBase returns a pinned register with the program's FS base, which is below the window's end.
func (t *translator) fsBase() uint8 {
	for _, n := range allocOrder {
		if t.c.at(n).fs {
			t.c.hold(n)
			return n
		}
	}
	n := t.alloc()
	t.e.load(n, target.SlotFSBase)
	r := t.c.at(n)
	r.fs, r.sane, r.proven = true, true, true
	return n
}

// expression computes and sanitizes the whole effective address of m.
func (t *translator) expression(m *x86.Mem) memRef {
	key := exprOf(m)
	for _, n := range allocOrder {
		if r := t.c.at(n); r.hasEA && r.expr == key {
			if d := int64(m.Disp) - int64(r.disp); d < maxDelta && d > -maxDelta && t.reaches(memRef{n, int32(d)}) {
				t.c.hold(n)
				return memRef{n, int32(d)}
			}
		}
	}
	var n uint8
	var am x86.Mem
	fill := func() { t.e.leaMem(n, am) }
	switch {
	case key.fs && (m.Base == x86.NoReg || m.Index == x86.NoReg):
		n, am = t.computeFS(m)
	case key.fs:
		n, am = t.compute(m)
		t.releaseParts(am, n)
		am = x86.Mem{Base: x86.Reg(t.fsBase()), Index: x86.Reg(n), Scale: 1}
		fill()
		fill = nil // it has been made of itself
	default:
		n, am = t.compute(m)
	}
	t.sanitizeMade(n, t.ofAddress(m), fill)
	t.releaseParts(am, n)
	r := t.c.at(n)
	r.sane, r.hasEA, r.expr, r.disp = true, true, key, m.Disp
	return memRef{n, 0}
}

// compute returns a pinned register with base + index*scale + disp of m, whatever the segment, and how that was computed: from
// registers that are pinned too. Base is not RIP.
func (t *translator) compute(m *x86.Mem) (n uint8, am x86.Mem) {
	am = t.renamed(m)
	n = t.alloc()
	t.e.leaMem(n, am)
	return n, am
}

// releaseParts releases the registers that n has been computed from.
func (t *translator) releaseParts(am x86.Mem, n uint8) {
	for _, x := range []x86.Reg{am.Base, am.Index} {
		if x >= firstReserved && x < firstReserved+numReserved && x != x86.Reg(n) {
			t.release(uint8(x))
		}
	}
}

// computeFS is compute for FS base + register*scale + disp of m, which has at most one register.
func (t *translator) computeFS(m *x86.Mem) (n uint8, am x86.Mem) {
	am = *m
	am.Seg = x86.SegNone
	if am.Base != x86.NoReg {
		am.Base, am.Index, am.Scale = x86.NoReg, am.Base, 1
	}
	if am.Index != x86.NoReg {
		if am.Index == x86.RSP || t.k.isVirtual(am.Index) {
			am.Index = x86.Reg(t.value(am.Index))
		}
	}
	am.Base = x86.Reg(t.fsBase())
	n = t.alloc()
	t.e.leaMem(n, am)
	return n, am
}

// renamed returns m with virtual registers replaced by pinned native ones that hold them.
func (t *translator) renamed(m *x86.Mem) x86.Mem {
	out := *m
	out.Seg = x86.SegNone
	disp := int64(m.Disp)
	if m.Base < 16 {
		l := t.operand(m.Base)
		out.Base = x86.Reg(l.n)
		disp += int64(l.delta)
	}
	if m.Index < 16 && t.k.isVirtual(m.Index) {
		out.Index = x86.Reg(t.value(m.Index))
	}
	if !fits32(disp) {
		out.Base = x86.Reg(t.value(m.Base))
		disp = int64(m.Disp)
	}
	out.Disp = int32(disp)
	return out
}
