package sfi

import "slices"

// patience is how often a block's state may lose precision step by step before whatever still changes becomes unknown.
// Each block is thus visited at most 1 + patience + 15 times, and the whole work is proportional to the code.
const patience = 4

// block is a basic block: control enters it at the first instruction only, and leaves it behind the last only.
type block struct {
	first, last int32 // in insts, inclusive
	changes     uint8
	reached     bool
	queued      bool
	in          state // holds at the first instruction whenever control gets there, if reached
}

// makeBlocks cuts the code at the leaders.
func (v *verifier) makeBlocks() {
	n := 0
	for i := range v.insts {
		if v.insts[i].mark&markLeader != 0 {
			n++
		}
	}
	// Reused blocks keep an old state, but reached is false: it is written before it is read.
	v.blocks = slices.Grow(v.blocks[:0], n)[:n]
	n = -1
	for i := range v.insts {
		if v.insts[i].mark&markLeader != 0 {
			n++
			b := &v.blocks[n]
			b.first, b.changes, b.reached, b.queued = int32(i), 0, false, false
		}
		v.blocks[n].last = int32(i)
		v.insts[i].block = int32(n)
	}
}

// solve computes the blocks' states: the strongest that hold on every edge, whichever way a conditional jump goes. The
// condition itself is never used. So a state also holds when the processor runs ahead on a wrong guess.
func (v *verifier) solve(entries []uint32) {
	var nothing state
	for _, e := range entries {
		if int64(e) < int64(len(v.code)) && v.at[e] >= 0 {
			v.flowTo(v.insts[v.at[e]].block, &nothing)
		}
	}
	v.drain()
	// Code that no entry reaches is held to the same rules, with nothing known.
	for b := range v.blocks {
		if !v.blocks[b].reached {
			v.flowTo(int32(b), &nothing)
			v.drain()
		}
	}
}

// flowTo merges s into a block's state.
func (v *verifier) flowTo(n int32, s *state) {
	b := &v.blocks[n]
	changed := !b.reached
	if changed {
		b.reached, b.in = true, *s
	} else {
		for r := range b.in {
			j := join(b.in[r], s[r])
			if j != b.in[r] {
				if b.changes >= patience {
					j = value{}
				}
				b.in[r], changed = j, true
			}
		}
		if changed && b.changes < patience {
			b.changes++
		}
	}
	if changed && !b.queued {
		b.queued = true
		v.queue = append(v.queue, n)
	}
}

// drain works until no state changes any more.
func (v *verifier) drain() {
	for len(v.queue) != 0 {
		n := v.queue[len(v.queue)-1]
		v.queue = v.queue[:len(v.queue)-1]
		b := &v.blocks[n]
		b.queued = false
		s := b.in
		for i := b.first; i <= b.last; i++ {
			s.step(&v.insts[i])
		}
		v.steps += int(b.last - b.first + 1)
		last := &v.insts[b.last]
		if last.form.flow != flowJmp && int(n)+1 < len(v.blocks) {
			v.flowTo(n+1, &s)
		}
		if last.form.flow != flowNext {
			if t := last.target; t >= 0 && t < int64(len(v.code)) && v.at[t] >= 0 {
				v.flowTo(v.insts[v.at[t]].block, &s)
			}
		}
	}
}

// checkMemory checks every memory operand with what is known there.
func (v *verifier) checkMemory() {
	for n := range v.blocks {
		b := &v.blocks[n]
		s := b.in
		for i := b.first; i <= b.last; i++ {
			if v.fail(s.checkAccess(&v.insts[i])) {
				return
			}
			s.step(&v.insts[i])
		}
	}
}
