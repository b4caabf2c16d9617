package btc

import (
	"math/bits"

	"ub/x86"
)

// How large the program's registers can be, as far as is known: what is left of the tag check.
//
// PDEP drops the upper bits of an address, so they are looked at first, with two instructions and a register. That is
// needless where the address cannot have bits that are dropped alone: a register that has just been an address, a sum of
// such a register and a number of 32 bits. This costs no register to remember, so it stays known when a sanitized address
// must make room; it is a matter of exactness only, and the verifier knows nothing of it.

// narrowness says of each program register how many of its upper bits are copies of its sign, the sign not counted: with
// n, it lies in [-2^(63-n), 2^(63-n)). 0 says nothing. If n is at least the number of bits that PDEP drops, they are copies of the highest
// that it keeps: were one of them set, that one would be, and the access would fault, as the program's does.
type narrowness [16]uint8

const topBits = 63 // a number of topBits-n bits and a sign has narrowness n

// sum is the narrowness of a sum or difference: one bit more than the larger one.
func sum(a, b uint8) uint8 {
	if n := min(a, b); n > 0 {
		return n - 1
	}
	return 0
}

// scaled is the narrowness of n's number times 2^k.
func scaled(n uint8, k int) uint8 { return uint8(max(int(n)-k, 0)) }

// ofConst is the narrowness of a number.
func ofConst(v int64) uint8 {
	if v < 0 {
		v = ^v
	}
	return uint8(topBits - bits.Len64(uint64(v)))
}

const narrow32 = topBits - 32 // a number of 32 bits, without sign

// of is what is known of program register g.
func (a *narrowness) of(g x86.Reg) uint8 {
	if g < 16 {
		return a[g]
	}
	return 0
}

// ofAddress is the narrowness of the address m.
func (t *translator) ofAddress(m *x86.Mem) uint8 {
	n := ofConst(int64(m.Disp))
	switch {
	case m.Base == x86.RIP || m.Addr32:
		return 0
	case m.Base != x86.NoReg:
		n = sum(n, t.c.narrow.of(m.Base))
	}
	if m.Index != x86.NoReg {
		n = sum(n, scaled(t.c.narrow.of(m.Index), bits.Len8(m.Scale)-1))
	}
	if m.Seg == x86.SegFS {
		n = sum(n, t.k.narrowAddr)
	}
	return n
}

// tagless tells whether an address of that narrowness needs no check of its tag.
func (t *translator) tagless(n uint8) bool { return n >= t.k.tagBits }

// narrows returns what will be known of the registers when the current instruction, which is no branch, has been executed.
func (t *translator) narrows() narrowness {
	in := t.in
	old := &t.c.narrow
	out := *old
	for g := range out {
		if in.Writes&(1<<g) != 0 {
			out[g] = 0
		}
	}
	t.accessed(&out)
	if in.Class == x86.ClassPush || in.Class == x86.ClassPop {
		if in.Writes&(1<<x86.RSP) != 0 && !(in.Class == x86.ClassPop && in.NumOps > 0 && in.Ops[0].Reg == x86.RSP) {
			out[x86.RSP] = sum(t.k.narrowAddr, narrow32)
		}
		return out
	}
	if in.Class != x86.ClassPlain || in.Vec != x86.VecNone || in.NumOps == 0 {
		return out
	}
	d := &in.Ops[0]
	if d.Kind != x86.KindReg || d.Reg > x86.R15 || in.Writes&(1<<d.Reg) == 0 {
		return out
	}
	if in.Writes == 1<<d.Reg {
		out[d.Reg] = t.result(old)
	}
	return out
}

// result is the narrowness of the register that is the first operand of the current instruction, and all that it writes.
func (t *translator) result(old *narrowness) uint8 {
	in := t.in
	d := &in.Ops[0]
	if d.Access&x86.CondWrite != 0 || d.Field == x86.FieldImplicit {
		return 0
	}
	if d.Size == 4 {
		return narrow32 // the upper half is cleared
	}
	if d.Size != 8 { // what is above stays
		return min(old[d.Reg], topBits-16)
	}
	source := func(o *x86.Operand) uint8 {
		switch {
		case o.Kind == x86.KindImm:
			return ofConst(in.Imm)
		case o.Kind == x86.KindReg && o.Size == 8:
			return old.of(o.Reg)
		}
		return 0
	}
	if in.NumOps < 2 {
		switch in.Op {
		case x86.OpINC, x86.OpDEC, x86.OpNEG:
			return sum(old[d.Reg], old[d.Reg])
		case x86.OpNOT:
			return old[d.Reg]
		}
		return 0
	}
	s := &in.Ops[1]
	switch in.Op {
	case x86.OpMOV:
		return source(s)
	case x86.OpLEA:
		m := in.Mem
		m.Seg = x86.SegNone
		if m.Base == x86.RIP {
			return ofConst(int64(in.Addr + uint64(in.Len) + uint64(int64(m.Disp))))
		}
		return t.ofAddress(&m)
	case x86.OpMOVZX, x86.OpMOVSX, x86.OpMOVSXD:
		if s.Size < 8 {
			return topBits - 8*s.Size
		}
	case x86.OpADD, x86.OpSUB:
		if in.Op == x86.OpSUB && s.Kind == x86.KindReg && s.Reg == d.Reg {
			return topBits
		}
		return sum(old[d.Reg], source(s))
	case x86.OpXOR:
		if s.Kind == x86.KindReg && s.Reg == d.Reg {
			return topBits
		}
		return min(old[d.Reg], source(s))
	case x86.OpAND:
		if s.Kind == x86.KindImm && in.Imm >= 0 {
			return ofConst(in.Imm)
		}
		return min(old[d.Reg], source(s))
	case x86.OpOR, x86.OpCMOVcc:
		return min(old[d.Reg], source(s))
	case x86.OpSHL:
		if s.Kind == x86.KindImm {
			return scaled(old[d.Reg], int(in.Imm&63))
		}
	case x86.OpSHR:
		if k := uint8(in.Imm & 63); s.Kind == x86.KindImm && k > 0 {
			return k - 1 // 64-k bits, and no sign
		}
	case x86.OpSAR:
		if s.Kind == x86.KindImm {
			return uint8(min(int(old[d.Reg])+int(in.Imm&63), topBits))
		}
	}
	return 0
}

// accessed adds what the current instruction's access to memory, once it has completed, says about the registers in the
// address: what was accessed is in the program's memory.
func (t *translator) accessed(out *narrowness) {
	in := t.in
	m := &in.Mem
	if _, ok := explicitAccess(in); !ok || in.Masked || in.BitOffset || maybeNoAccess(in) {
		return
	}
	if m.Seg == x86.SegFS || m.Base >= 16 || in.Writes&(1<<m.Base) != 0 {
		return
	}
	n := sum(t.k.narrowAddr, narrow32)
	if m.Index != x86.NoReg {
		if m.Index >= 16 || m.Index == m.Base {
			return
		}
		n = sum(n, scaled(t.c.narrow[m.Index], bits.Len8(m.Scale)-1))
	}
	out[m.Base] = max(out[m.Base], n)
}

// narrowLimit is what the backward ways to a block have shown not to hold at its label, for the next rounds. It is apart
// from what they have shown about the reserved registers: that is worth more, and is not to suffer from another round.
type narrowLimit struct {
	rounds [16]uint8 // in which the register was larger than assumed
	at     narrowness
}

func (l *narrowLimit) apply(a *narrowness) {
	for g := range a {
		if l.rounds[g] > 0 {
			a[g] = min(a[g], l.at[g])
		}
	}
}

// limitNarrow looks whether the registers are, on the backward way to the block of j, what they were assumed to be at its
// label. If not, less is assumed in the next round: nothing, the second time, since a number that grows in each round of a
// loop would grow in each of ours.
func (t *translator) limitNarrow(j *join) (changed bool) {
	l := &j.narrow
	for g, want := range j.state.narrow {
		have := t.c.narrow[g]
		if have >= want {
			continue
		}
		if changed = true; l.rounds[g] > 0 {
			have = 0
		}
		l.rounds[g]++
		l.at[g] = have
	}
	return changed
}
