package btc

import (
	"slices"

	"ub/path"
	"ub/x86"
)

// establish sanitizes, in front of a loop, the addresses that the loop's first block will use and that every round of
// the loop keeps, so that it need not do so each time. Should one of them fault, the program is at the loop's start.
func (t *translator) establish(b *path.Block) {
	j := &t.joins[b.Index]
	if !t.polls[b.Index] || !j.hasBack || len(b.Insts) == 0 || t.o.NoJoins {
		return
	}
	in := t.in
	defer func() { t.in = in }()
	t.e.line(b.Addr)
	t.in = &b.Insts[0]
	var written x86.RegSet
	n := 0
	// comes tells whether the loop comes round with something, as far as is known yet.
	comes := func(has func(c *cache) bool) bool { return has(&j.back) && (!j.limited || has(&j.limit)) }
	most := numReserved - 1
	if t.wantsStack(b) {
		t.c.hold(stackReg)
		most--
	}
	// room tells whether there are registers for an address: itself, the tag that is checked, and what it is made from, if that
	// must be loaded.
	room := func(from ...x86.Reg) bool {
		need := 2
		if slices.ContainsFunc(from, t.k.isVirtual) {
			need++
		}
		return n < most && t.c.unpinned() >= need
	}
	want := func(g x86.Reg) {
		if (written|j.vain.san)&(1<<g) == 0 && comes(func(c *cache) bool { return c.san[g].ok() }) && !t.c.saneOf(g).ok() && room(g) {
			n++
			t.sanitized(g)
			j.tried.san |= 1 << g
		}
	}
	wantEA := func(m *x86.Mem) {
		key := exprOf(m)
		for _, r := range []x86.Reg{m.Base, m.Index} {
			if r < 16 && written&(1<<r) != 0 {
				return
			}
		}
		has := func(c *cache) bool {
			return slices.ContainsFunc(c.r[:], func(r resReg) bool { return r.hasEA && r.expr == key })
		}
		if has(&t.c) || slices.Contains(j.vain.ea, key) {
			return
		}
		if comes(has) && room(m.Base, m.Index) {
			n++
			t.expression(m)
			j.tried.ea = append(j.tried.ea, key)
		}
	}
	for i := range b.Insts {
		x := &b.Insts[i]
		if x.Flow != x86.FlowNext {
			break
		}
		if x.HasMem && x.Op != x86.OpLEA && x.Class == x86.ClassPlain && x.Mem.Index != x86.NoReg && x.Mem.Base != x86.RIP &&
			x.Mem.Seg == x86.SegNone && t.addressStop(&x.Mem, memSize(x)) == "" {
			wantEA(&x.Mem)
		}
		if x.HasMem && x.Op != x86.OpLEA && x.Class == x86.ClassPlain && x.Mem.Base < 16 && x.Mem.Index == x86.NoReg &&
			x.Mem.Seg == x86.SegNone && x.Mem.Disp < nearDisp && x.Mem.Disp > -nearDisp {
			want(x.Mem.Base)
		}
		if usesStack(x) {
			want(x86.RSP)
		}
		for _, v := range t.k.virtuals {
			if x.Reads&^(written|j.vain.val)&(1<<v) != 0 && n < most && t.c.unpinned() >= 2 && j.back.val[v].ok() && !t.c.valueOf(v).ok() && !t.c.san[v].ok() {
				n++
				t.value(v)
				j.tried.val |= 1 << v
			}
		}
		written |= x.Writes
	}
	t.c.unpin()
}

// prepared is what is in reserved registers in front of a loop, for the loop.
type prepared struct {
	san, val x86.RegSet
	ea       []ea
}

// compare finds what has been prepared in vain, as some other way to the block comes without it; it tells whether there is
// any.
func (j *join) compare(s *cache) bool {
	found := false
	for g := range s.san {
		bit := x86.RegSet(1) << g
		if j.tried.san&bit != 0 && !s.saneOf(x86.Reg(g)).ok() {
			j.vain.san, found = j.vain.san|bit, true
		}
		if j.tried.val&bit != 0 && !s.valueOf(x86.Reg(g)).ok() {
			j.vain.val, found = j.vain.val|bit, true
		}
	}
	for _, e := range j.tried.ea {
		if !slices.ContainsFunc(s.r[:], func(r resReg) bool { return r.hasEA && r.expr == e }) {
			j.vain.ea, found = append(j.vain.ea, e), true
		}
	}
	j.tried = prepared{}
	return found
}

// loopsWantMore reports whether a loop comes round with addresses that its head does not have: the next round looks whether
// they can be had in front of it.
func (t *translator) loopsWantMore() bool {
	for i := range t.joins {
		j := &t.joins[i]
		if !j.hasBack || !t.polls[i] || t.o.NoJoins {
			continue
		}
		for _, n := range allocOrder {
			if j.back.at(n).sane && j.back.busy(n) && !j.state.covers(&j.back) {
				return true
			}
		}
	}
	return false
}
