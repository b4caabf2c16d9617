package btc

import (
	"slices"

	"ub/path"
	"ub/target"
	"ub/x86"
)

// The stack pointer is what code uses most, and what ways that meet would seldom have in the same place if left to chance.
// So there is a convention: whenever control gets to the label of a block that will soon use the stack, stackReg holds the
// sanitized RSP. All ways to the block see to that; the rest of what they have is met as it is (join.go).

// stackReg is the one that indirect branches leave alone.
const stackReg = 12

// stackBound is how far stackReg may be, at a label, from an address that was sanitized or accessed.
const stackBound = 1 << 16

// findStackBlocks finds the blocks to which the convention applies: those from which a use of the RSP that they begin with can be
// reached. A program may have anything in RSP while it does not use it. Small loops in which it is not used are those that may give its
// register away.
func (t *translator) findStackBlocks() {
	t.stacks = make([]bool, len(t.p.Blocks))
	t.stackless = make([]int, len(t.p.Blocks))
	uses := make([]stackUse, len(t.p.Blocks))
	for _, b := range t.p.Blocks {
		uses[b.Index] = stackUseOf(b)
		t.stacks[b.Index] = uses[b.Index] == stackUsed
	}
	var buf [8]uint64
	for changed := true; changed; {
		changed = false
		for i := len(t.order) - 1; i >= 0; i-- {
			b := t.order[i]
			if t.stacks[b.Index] || uses[b.Index] == stackChanged {
				continue
			}
			for _, a := range b.Succs(buf[:0]) {
				if s := t.p.BlockAt(a); s != nil && t.stacks[s.Index] {
					t.stacks[b.Index], changed = true, true
					break
				}
			}
		}
	}
	for i := range t.stackless {
		t.stackless[i] = -1
	}
	for end, b := range t.order {
		in := b.Last()
		if in == nil || in.Flow != x86.FlowCond && in.Flow != x86.FlowJump {
			continue
		}
		for _, a := range b.Succs(buf[:0]) {
			s := t.p.BlockAt(a)
			if s == nil || t.pos[s.Index] > end || end-t.pos[s.Index] >= tightLoop {
				continue
			}
			loop := t.order[t.pos[s.Index] : end+1]
			if slices.ContainsFunc(loop, func(b *path.Block) bool { return uses[b.Index] != stackUnused }) {
				continue
			}
			for _, b := range loop { // the larger of two that share blocks comes last
				t.stackless[b.Index] = t.pos[s.Index]
			}
		}
	}
}

// stackUse is what a block does to the RSP that it begins with, first.
type stackUse uint8

const (
	stackUnused stackUse = iota
	stackUsed
	stackChanged
)

func stackUseOf(b *path.Block) stackUse {
	for i := range b.Insts {
		in := &b.Insts[i]
		if usesStack(in) || in.HasMem && in.Mem.Base == x86.RSP && in.Mem.Seg == x86.SegNone && in.Op != x86.OpLEA {
			return stackUsed
		}
		if _, stepped := addend(in); in.Writes&(1<<x86.RSP) != 0 && !stepped {
			return stackChanged
		}
	}
	return stackUnused
}

// crowdOut is called when stackReg is needed for something else. In a loop that does not use the stack it is given up in front of the
// loop, and not in each round.
func (t *translator) crowdOut() {
	loop := t.stackless[t.b.Index]
	if loop < 0 || !t.mayCrowd || t.c.saneOf(x86.RSP).n != stackReg {
		return
	}
	for i := loop; i < len(t.order) && t.stackless[t.order[i].Index] == loop; i++ {
		if b := t.order[i].Index; t.stacks[b] {
			t.stacks[b], t.unsettled, t.crowded = false, true, true
		}
	}
}

func (t *translator) wantsStack(b *path.Block) bool {
	return b != nil && t.stacks[b.Index] && !t.o.NoJoins
}

// low is how far below what is known of it stackReg may be at a label.
func (k *rules) stackLow() int32 { return -int32(min(stackBound, k.walkBelow/2)) }

// nearStack reports whether b is within what the convention allows.
func (k *rules) nearStack(b bounds) bool {
	lo, hi := b.walk()
	return b.known() && lo >= k.stackLow() && hi <= stackBound
}

// stackReady reports whether stackReg is as the convention wants it.
func (t *translator) stackReady() bool {
	r := t.c.at(stackReg)
	return t.c.san[x86.RSP] == loc{n: stackReg} && r.sane && t.k.nearStack(r.bounds)
}

// demandStack adds the convention to the state at a label.
func (t *translator) demandStack(s *cache) {
	if s.san[x86.RSP] != (loc{n: stackReg}) || !s.at(stackReg).sane {
		s.drop(stackReg)
		s.san[x86.RSP] = loc{n: stackReg}
		s.val[x86.RSP] = loc{}
		s.at(stackReg).sane = true
	}
	r := s.at(stackReg)
	r.bounds = bounds{lo: t.k.stackLow(), hi: stackBound}
	if t.k.touches {
		r.bounds = bounds{lost: true, also: true, tlo: t.k.stackLow(), thi: stackBound}
	}
}

// settleStack establishes the convention. done says that the current instruction has had its effect, so nothing may fault
// any more: RSP is then near what has just been accessed, and its tag need not be checked.
func (t *translator) settleStack(done bool) {
	if t.stackReady() {
		return
	}
	c := &t.c
	pinned := make([]uint8, 0, numReserved)
	hold := func(n uint8) {
		if !c.at(n).pin {
			c.hold(n)
			pinned = append(pinned, n)
		}
	}
	defer func() {
		for _, n := range pinned {
			t.release(n)
		}
	}()
	l := c.saneOf(x86.RSP)
	if l.ok() {
		if !t.k.nearStack(c.at(l.n).bounds.at(l.delta)) {
			l = loc{} // too far from what is known
		}
	}
	switch {
	case !l.ok():
		t.sanitizeStack(hold, done)
	case l.n == stackReg && l.delta == 0:
		c.san[x86.RSP] = l
	case l.n == stackReg:
		t.e.lea(stackReg, stackReg, 0, 0, l.delta)
		t.moved(stackReg, l.delta)
		c.san[x86.RSP] = loc{n: stackReg}
	default:
		hold(l.n)
		dirty := c.dirty & (1 << x86.RSP)
		val := c.valueOf(x86.RSP)
		t.evict(stackReg)
		if l.delta == 0 {
			t.e.mov(stackReg, l.n)
		} else {
			t.e.lea(stackReg, l.n, 0, 0, l.delta)
		}
		from := c.at(l.n)
		*c.at(stackReg) = resReg{sane: true, proven: from.proven, bounds: from.bounds.at(l.delta)}
		c.san[x86.RSP] = loc{n: stackReg}
		if val == l {
			c.val[x86.RSP] = loc{n: stackReg}
			c.dirty |= dirty
		}
	}
}

// sanitizeStack is settleStack when no register has the sanitized RSP.
func (t *translator) sanitizeStack(hold func(uint8), done bool) {
	c := &t.c
	if c.dirty&(1<<x86.RSP) != 0 {
		t.writeBack(x86.RSP)
	}
	t.evict(stackReg)
	hold(stackReg)
	t.e.load(stackReg, slotOf(x86.RSP))
	if !done && !t.tagless(t.c.narrow[x86.RSP]) {
		t.checkTag(stackReg)
	}
	t.e.pdep(stackReg, stackReg, target.SlotAddrMask)
	*c.at(stackReg) = resReg{sane: true, pin: c.at(stackReg).pin}
	c.san[x86.RSP] = loc{n: stackReg}
}

// stepStack translates an addition of a constant to RSP, when stackReg stands for it alone, in place: it stays the sanitized
// address that it was, at a distance.
func (t *translator) stepStack(step int32) bool {
	c := &t.c
	l := c.valueOf(x86.RSP)
	r := c.at(stackReg)
	vals, _ := c.sharers(stackReg)
	if l.n != stackReg || !r.sane || !r.proven || r.konst || r.fs || vals&^(1<<x86.RSP) != 0 {
		return false
	}
	for _, d := range []int32{l.delta, l.delta + step} {
		if b := r.bounds.at(d); !b.known() {
			return false
		}
	}
	c.val[x86.RSP], c.san[x86.RSP] = l, l
	if l.delta != 0 {
		t.e.lea(stackReg, stackReg, 0, 0, l.delta)
		t.moved(stackReg, l.delta)
	}
	t.emit(t.in, x86.Subst{}.Rename(x86.RSP, stackReg), memRef{})
	t.moved(stackReg, step)
	c.shiftEA(x86.RSP, step)
	c.val[x86.RSP], c.san[x86.RSP] = loc{n: stackReg}, loc{n: stackReg}
	c.dirty |= 1 << x86.RSP
	return true
}

// flushFor makes all slots current and establishes the convention, before control goes to one of the blocks.
func (t *translator) flushFor(blocks ...*path.Block) {
	settle := func() {
		for _, b := range blocks {
			t.settleFor(b)
		}
	}
	settle() // first, so that what is written back is RSP as it is in stackReg
	t.flush()
	settle() // again, since to write back what was at a distance from stackReg may have moved that
}

// settleFor is settleStack before control goes to b from the current instruction, or from behind it.
func (t *translator) settleFor(b *path.Block) {
	if !t.wantsStack(b) || t.stackReady() {
		return
	}
	done := false
	switch t.in.Flow {
	case x86.FlowNext: // the next instruction is b's first
		in := t.in
		defer func() { t.in = in }()
		t.e.line(b.Addr)
		t.in = &b.Insts[0]
	case x86.FlowCall, x86.FlowIndCall, x86.FlowRet:
		done = true
	}
	t.settleStack(done)
}
