package btc

import (
	"ub/target"
	"ub/x86"
)

// Pointer chasing. A loop that follows a list waits for each of its loads: what stands between a pointer's arrival and its use is
// paid in full, while there is room for a few instructions beside it. PDEP takes three clocks, two shifts take two: they clear the upper
// bits of the address. That these are clear is checked beside it, by a probe: a byte is read from what PDEP makes of the address, which
// faults where the program's own access would, and nobody looks at it. (With the flags free, an AND would be one clock; but they are the
// program's.)

// findChases finds the pointers that small loops chase: registers that are loaded from where they point to. ends has the loops' last
// places in the layout, by the first.
func (t *translator) findChases(ends map[int]int) {
	t.chases = make([]x86.RegSet, len(t.order))
	for head, end := range ends {
		var regs x86.RegSet
		for _, b := range t.order[head : end+1] {
			for i := range b.Insts {
				if in := &b.Insts[i]; chases(in) && !t.k.isVirtual(in.Mem.Base) {
					regs |= 1 << in.Mem.Base
				}
			}
		}
		for _, b := range t.order[head : end+1] {
			t.chases[b.Index] |= regs
		}
	}
}

// chases tells whether in loads a register from where it points to.
func chases(in *x86.Inst) bool {
	m := &in.Mem
	return in.Class == x86.ClassPlain && in.Op == x86.OpMOV && in.HasMem && in.Width == 8 && in.Ops[0].Kind == x86.KindReg &&
		in.Ops[0].Reg == m.Base && m.Index == x86.NoReg && m.Seg == x86.SegNone && !m.Addr32
}

// chased returns sanitized(g) if that exists or g is not chased here, else the same made in a shorter time, for an access
// at [g+disp].
func (t *translator) chased(g x86.Reg, disp int32) loc {
	if t.chases[t.b.Index]&(1<<g) == 0 || t.c.saneOf(g).ok() || t.c.idle() < 3 {
		return t.sanitized(g)
	}
	src := uint8(g)
	count := t.number(uint64(64 - t.k.addrBits()))
	n := t.alloc()
	t.e.shlx(n, src, count)
	t.e.shrx(n, n, count)
	tmp := t.alloc()
	if !t.tagless(t.c.narrow[g]) {
		t.checkTagWith(tmp, src)
	}
	t.e.pdep(tmp, src, target.SlotAddrMask)
	t.fault(FaultAccess)
	t.e.gsProbe(tmp, memRef{tmp, disp})
	t.release(tmp)
	t.release(count)
	t.c.at(n).sane = true
	t.c.san[g] = loc{n: n}
	return t.c.san[g]
}

// number returns a pinned register that holds the small constant c.
func (t *translator) number(c uint64) uint8 {
	for _, n := range allocOrder {
		if r := t.c.at(n); r.konst && r.value == c {
			t.c.hold(n)
			return n
		}
	}
	n := t.alloc()
	t.e.movImm(n, c)
	r := t.c.at(n)
	r.konst, r.value, r.sane, r.proven = true, c, true, true
	return n
}
