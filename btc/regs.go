package btc

import (
	"math"

	"ub/path"
	"ub/x86"
)

// allocOrder: R14 and R15 first, since as an address base R12 needs a SIB byte and R13 a displacement; R12 last, since it is
// stackReg.
var allocOrder = [numReserved]uint8{14, 15, 13, 12}

// alloc returns a reserved register that holds nothing, pinned until the end of the instruction.
func (t *translator) alloc() uint8 {
	for _, n := range allocOrder {
		if !t.c.at(n).pin && !t.c.busy(n) {
			t.c.drop(n)
			t.c.hold(n)
			return n
		}
	}
	var best uint8
	bestScore := -1
	for _, n := range allocOrder {
		if t.c.at(n).pin {
			continue
		}
		if s := t.evictScore(n); s > bestScore {
			best, bestScore = n, s
		}
	}
	if best == 0 {
		panic("BUG: an instruction needs more than four reserved registers")
	}
	t.evict(best)
	t.c.hold(best)
	return best
}

// hasIdle tells whether a register is free, or will not be needed for long.
func (t *translator) hasIdle() bool {
	for _, n := range allocOrder {
		if !t.c.at(n).pin && (!t.c.busy(n) || t.evictScore(n) >= 4*horizon) {
			return true
		}
	}
	return false
}

// allocFor is alloc for the sanitized value of g.
func (t *translator) allocFor(g x86.Reg) uint8 {
	if g == x86.RSP && !t.c.at(stackReg).pin && !t.c.busy(stackReg) {
		t.c.drop(stackReg)
		t.c.hold(stackReg)
		return stackReg
	}
	return t.alloc()
}

// release ends the protection of n (0: none) before the end of the instruction.
func (t *translator) release(n uint8) {
	if n != 0 {
		t.c.at(n).pin = false
	}
}

// evict frees n, writing back what is only there.
func (t *translator) evict(n uint8) {
	if n == stackReg {
		t.crowdOut()
	}
	for _, v := range t.k.virtuals {
		if t.c.val[v].n == n && t.c.dirty&(1<<v) != 0 {
			t.writeBack(v)
		}
	}
	t.c.drop(n)
}

// horizon is how many instructions ahead look for the next use of something, in at most horizonBlocks blocks.
const (
	horizon       = 24
	horizonBlocks = 4
)

// stackWorth is the distance of the next use of RSP, at most, as its register is worth more than others: the blocks behind this one
// want it, and to get it back takes twice as long.
const stackWorth = 8

// evictScore says how good a victim n is: the further away its next use, and the cheaper to give up, the better.
func (t *translator) evictScore(n uint8) int {
	r := t.c.at(n)
	vals, sans := t.c.sharers(n)
	d := 0
	t.ahead(func(in *x86.Inst) bool {
		if in.Reads&vals != 0 || sans&(1<<x86.RSP) != 0 && usesStack(in) {
			return false
		}
		if in.HasMem && in.Op != x86.OpLEA {
			m := &in.Mem
			if m.Base < 16 && m.Index == x86.NoReg && sans&(1<<m.Base) != 0 ||
				m.Base == x86.RIP && r.konst || m.Seg == x86.SegFS && r.fs ||
				r.hasEA && exprOf(m) == r.expr {
				return false
			}
		}
		d++
		return true
	})
	if sans&(1<<x86.RSP) != 0 && t.stacks[t.b.Index] && t.stackless[t.b.Index] < 0 {
		d = min(d, stackWorth)
	}
	score := 4 * d
	if t.c.dirty&vals == 0 {
		score += 2
	}
	if r.sane {
		score-- // four instructions to get back, against one for a value
	}
	return max(score, 0)
}

// ahead calls f for the instructions after the current one, as control most likely takes them, until f returns false or
// the horizon is reached.
func (t *translator) ahead(f func(*x86.Inst) bool) {
	b, i := t.b, t.i+1
	n := 0
	for blocks := 0; b != nil && blocks < horizonBlocks; blocks++ {
		for ; i < len(b.Insts); i++ {
			if n++; n > horizon || !f(&b.Insts[i]) {
				return
			}
		}
		b, i = t.likely(b), 0
	}
}

// likely is the block that most likely follows b: loops go round.
func (t *translator) likely(b *path.Block) *path.Block {
	in := b.Last()
	if in != nil && in.Flow == x86.FlowCond {
		to := t.p.BlockAt(in.Target)
		if to == nil || t.pos[to.Index] > t.pos[b.Index] {
			to = t.p.BlockAt(in.Addr + uint64(in.Len))
		}
		return to
	}
	var buf [8]uint64
	for _, a := range b.Succs(buf[:0]) {
		return t.p.BlockAt(a)
	}
	return nil
}

// usesStack reports whether in accesses the stack through RSP implicitly.
func usesStack(in *x86.Inst) bool {
	switch in.Class {
	case x86.ClassPush, x86.ClassPop:
		return true
	}
	return in.Flow == x86.FlowCall || in.Flow == x86.FlowIndCall || in.Flow == x86.FlowRet
}

// usedLater reports whether the value of v is read again soon, before it is overwritten.
func (t *translator) usedLater(v x86.Reg) bool {
	used := false
	t.ahead(func(in *x86.Inst) bool {
		if used = in.Reads&(1<<v) != 0; used {
			return false
		}
		kills, _ := path.Kills(in)
		return kills&(1<<v) == 0
	})
	return used
}

// writeBack makes v's slot current. v's value stays where it is.
func (t *translator) writeBack(v x86.Reg) {
	l := t.c.val[v]
	src := l.n
	if l.delta != 0 {
		if src = t.spare(); src != 0 {
			t.e.lea(src, l.n, 0, 0, l.delta)
		} else {
			t.advance(l.n, l.delta)
			src = l.n
		}
	}
	t.e.store(slotOf(v), src)
	t.c.dirty &^= 1 << v
}

// spare returns a register that holds nothing, without pinning it, or 0.
func (t *translator) spare() uint8 {
	for _, n := range allocOrder {
		if !t.c.at(n).pin && !t.c.busy(n) {
			t.c.drop(n)
			return n
		}
	}
	return 0
}

// advance adds d to n itself. It is a plain value from then on: only what pdep made, unchanged, is used as an address.
func (t *translator) advance(n uint8, d int32) {
	if t.c.at(n).pin {
		panic("BUG: a register that the instruction addresses with would change")
	}
	t.e.lea(n, n, 0, 0, d)
	for g := range t.c.san {
		if t.c.san[g].n == n {
			t.c.san[g] = loc{}
		}
		if t.c.val[g].n == n {
			t.c.val[g].delta -= d
		}
	}
	used := t.c.at(n).used
	*t.c.at(n) = resReg{used: used}
}

// flush makes all slots current.
func (t *translator) flush() {
	for _, v := range t.k.virtuals {
		if t.c.dirty&(1<<v) != 0 {
			t.writeBack(v)
		}
	}
}

// value returns a pinned native register that holds exactly virtual register v.
func (t *translator) value(v x86.Reg) uint8 {
	l := t.c.valueOf(v)
	switch {
	case !l.ok():
		n := t.alloc()
		t.e.load(n, slotOf(v))
		t.c.val[v] = loc{n: n}
		return n
	case l.delta == 0:
		t.c.val[v] = l
		t.c.hold(l.n)
		return l.n
	}
	pinned := t.c.at(l.n).pin
	t.c.hold(l.n)
	n := t.alloc()
	t.c.at(l.n).pin = pinned
	t.e.lea(n, l.n, 0, 0, l.delta)
	t.c.val[v] = loc{n: n}
	return n
}

// operand returns where program register g can be read for an address computation: itself, or a pinned native register
// and a distance.
func (t *translator) operand(g x86.Reg) loc {
	if !t.k.isVirtual(g) {
		return loc{n: uint8(g)}
	}
	if l := t.c.valueOf(g); l.ok() {
		t.c.val[g] = l
		t.c.hold(l.n)
		return l
	}
	return loc{n: t.value(g)}
}

// own returns a pinned native register that holds v and nothing else, so that an instruction can change it in place. With
// keep, a register that is also the sanitized address of v is left as that.
func (t *translator) own(v x86.Reg, keep bool) uint8 {
	l := t.c.valueOf(v)
	addressing := l.ok() && t.c.at(l.n).pin
	n := t.value(v)
	vals, sans := t.c.sharers(n)
	r := t.c.at(n)
	addressing = addressing && n == l.n
	if !addressing && vals == 1<<v && (sans&^(1<<v) == 0 && !(keep && r.sane)) && !r.konst && !r.fs && !r.hasEA {
		return n
	}
	m := t.alloc()
	t.e.mov(m, n)
	t.c.val[v] = loc{n: m}
	if !addressing {
		t.release(n)
	}
	return m
}

// fresh returns a pinned native register to write v's whole new value to, while v's old value stays recoverable.
func (t *translator) fresh(v x86.Reg) uint8 {
	if l := t.c.val[v]; l.ok() && !t.c.at(l.n).pin {
		vals, sans := t.c.sharers(l.n)
		r := t.c.at(l.n)
		if vals == 1<<v && sans&^(1<<v) == 0 && !r.konst && !r.fs && !r.hasEA {
			t.c.hold(l.n)
			return l.n
		}
	}
	return t.alloc()
}

// setNew commits that v's new value, not yet in its slot, is in n, which held at most v's old one.
func (t *translator) setNew(v x86.Reg, n uint8) {
	t.c.wrote(v)
	pin, used := t.c.at(n).pin, t.c.at(n).used
	t.c.drop(n)
	*t.c.at(n) = resReg{pin: pin, used: used}
	t.c.setVal(v, n)
}

// setStepped is setNew for a value that is the old one plus step: sanitized expressions that use v keep serving.
func (t *translator) setStepped(v x86.Reg, n uint8, step int32) {
	t.c.shiftEA(v, step)
	t.c.forget(v)
	pin, used := t.c.at(n).pin, t.c.at(n).used
	t.c.drop(n)
	*t.c.at(n) = resReg{pin: pin, used: used}
	t.c.setVal(v, n)
}

// fits32 reports whether v is representable as a sign-extended 32-bit immediate.
func fits32(v int64) bool { return v >= math.MinInt32 && v <= math.MaxInt32 }
