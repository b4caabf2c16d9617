package path

import "ub/x86"

// Live is a set of general registers and flags whose values may still be read before they are overwritten.
type Live struct {
	Regs  x86.RegSet
	Flags x86.Flags
}

// everything is live where control can leave the path.
var everything = Live{Regs: ^x86.RegSet(0), Flags: x86.AllArith | x86.DF}

func (l Live) union(m Live) Live { return Live{l.Regs | m.Regs, l.Flags | m.Flags} }

// LiveIn returns what is live at the start of b. Everything is live at exits (syscalls, untranslatable instructions,
// targets outside the path) and at indirect branches, which can always miss. A fault or a poll is an exit as well, but
// not counted here: an optimisation that relies on liveness must keep state recoverable at those on its own.
func (p *Path) LiveIn(b *Block) Live {
	if p.live == nil {
		p.computeLive()
	}
	return p.live[b.Index]
}

// LiveBefore returns what is live before each instruction of b, by index.
func (p *Path) LiveBefore(b *Block) []Live {
	p.LiveIn(b) // for all blocks
	out := make([]Live, len(b.Insts))
	l := p.liveOut(b)
	for i := len(b.Insts) - 1; i >= 0; i-- {
		l = step(&b.Insts[i], l)
		out[i] = l
	}
	return out
}

// computeLive is the usual backward fixpoint. Blocks are visited in reverse order of discovery, which is near enough to
// postorder that a few rounds do.
func (p *Path) computeLive() {
	p.live = make([]Live, len(p.Blocks))
	for changed := true; changed; {
		changed = false
		for i := len(p.Blocks) - 1; i >= 0; i-- {
			b := p.Blocks[i]
			l := p.liveOut(b)
			for j := len(b.Insts) - 1; j >= 0; j-- {
				l = step(&b.Insts[j], l)
			}
			if l != p.live[i] {
				p.live[i] = l
				changed = true
			}
		}
	}
}

// liveOut is what is live after the last instruction of b.
func (p *Path) liveOut(b *Block) Live {
	if b.End == EndStop {
		return everything
	}
	if in := b.Last(); in != nil {
		switch in.Flow {
		case x86.FlowJump, x86.FlowCond, x86.FlowCall:
		default:
			return everything
		}
	}
	var buf [2]uint64
	var l Live
	for _, s := range b.Succs(buf[:0]) {
		t := p.byAddr[s]
		if t == nil {
			return everything
		}
		l = l.union(p.live[t.Index])
	}
	return l
}

// step is what is live before in, given what is live after it.
func step(in *x86.Inst, l Live) Live {
	regs, flags := Kills(in)
	reads := in.Reads
	if zeroes(in) {
		reads &^= 1 << in.Ops[0].Reg
	}
	l.Regs = l.Regs&^regs | reads
	l.Flags = l.Flags&^flags | in.FlagsRead
	return l
}

// zeroes reports whether in is an idiom for zero, whose result does not depend on the register it names twice.
func zeroes(in *x86.Inst) bool {
	a, b := &in.Ops[0], &in.Ops[1]
	return (in.Op == x86.OpXOR || in.Op == x86.OpSUB) && in.NumOps == 2 && a.Kind == x86.KindReg && b.Kind == x86.KindReg &&
		a.Reg == b.Reg && a.Reg <= x86.R15 && a.Size >= 4
}

// Kills returns the registers and flags that in overwrites whatever they held: not those of which a part is kept (writes
// of 8 and 16 bits) or that may stay as they are.
func Kills(in *x86.Inst) (x86.RegSet, x86.Flags) {
	var regs x86.RegSet
	for i := range in.Ops[:in.NumOps] {
		o := &in.Ops[i]
		if o.Kind == x86.KindReg && o.Reg <= x86.R15 && o.Size >= 4 &&
			o.Access&x86.Write != 0 && o.Access&x86.CondWrite == 0 {
			regs |= 1 << o.Reg
		}
	}
	flags := in.FlagsWritten
	if in.FlagsCond {
		flags = 0
	}
	return regs, flags
}
