package btc

import (
	"ub/path"
	"ub/x86"
)

// layout orders the blocks so that the likely successor of each follows it: what a branch falls into, the target of a
// direct jump or call, the first expected target of an indirect one, the instruction after a syscall. Chains start in
// order of discovery.
func layout(p *path.Path) []*path.Block {
	order := make([]*path.Block, 0, len(p.Blocks))
	placed := make([]bool, len(p.Blocks))
	for _, b := range p.Blocks {
		for b != nil && !placed[b.Index] {
			placed[b.Index] = true
			order = append(order, b)
			b = follower(p, b, placed)
		}
	}
	return order
}

// follower returns the block to place after b, or nil if the candidates have their places already.
func follower(p *path.Path, b *path.Block, placed []bool) *path.Block {
	var buf [8]uint64
	candidates := buf[:0]
	switch in := b.Last(); {
	case in == nil:
		candidates = b.Succs(candidates)
	case in.Flow == x86.FlowCond:
		candidates = append(candidates, in.Addr+uint64(in.Len), in.Target)
	case in.Flow == x86.FlowCall:
		candidates = append(candidates, in.Target, in.Addr+uint64(in.Len))
	case in.Flow == x86.FlowSyscall:
		candidates = append(candidates, in.Addr+uint64(in.Len))
	default:
		candidates = b.Succs(candidates)
	}
	for _, a := range candidates {
		if s := p.BlockAt(a); s != nil && !placed[s.Index] {
			return s
		}
	}
	return nil
}
