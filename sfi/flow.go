package sfi

import "slices"

// patience is how often a register may lose precision at a loop head from one visit to the next before it becomes unknown.
// Registers that are handed on in a loop (r12 = r13 + 8, r13 = r14 + 8, ...) settle within as many rounds as there are of
// them; what still changes then is counting up or down, and would be out of bounds some time.
const patience = 6

// maxSteps bounds the dataflow: instructions stepped over for each instruction of the blob. Translated code takes a few, and
// the largest blobs of TestBounded 8; but a blob can be made in which each sweep finds one more way into long code.
const maxSteps = 64

// block is a basic block: control enters it at the first instruction only, and leaves it behind the last only.
type block struct {
	first, last int32 // in insts, inclusive
	head        int32 // in heads, or -1: no jump goes back to it
	reached     bool
	queued      bool
	in          state // holds at the first instruction whenever control gets there, if reached
}

// head is what is remembered about a block that a jump goes back to. Every cycle has such a jump, and so such a block: it is
// enough to stop the growth of intervals there.
type head struct {
	seen    state     // the block's state when it was visited last
	changes [16]uint8 // how often each register has changed since the first visit
	visited bool
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
	v.blocks, v.heads = slices.Grow(v.blocks[:0], n)[:n], v.heads[:0]
	n = -1
	for i := range v.insts {
		if v.insts[i].mark&markLeader != 0 {
			n++
			b := &v.blocks[n]
			b.first, b.head, b.reached, b.queued = int32(i), -1, false, false
		}
		v.blocks[n].last = int32(i)
		v.insts[i].block = int32(n)
	}
	for i := range v.insts {
		if t := v.jumpsTo(&v.insts[i]); t >= 0 && int(t) <= i {
			if b := &v.blocks[v.insts[t].block]; b.head < 0 {
				b.head = int32(len(v.heads))
				v.heads = append(v.heads, head{})
			}
		}
	}
}

// jumpsTo returns the index of the instruction in the blob that in jumps to, or -1.
func (v *verifier) jumpsTo(in *inst) int32 {
	if in.form.flow == flowNext || in.target < 0 || in.target >= int64(len(v.code)) {
		return -1
	}
	return v.at[in.target]
}

// solve computes the blocks' states: the strongest that hold on every edge, whichever way a conditional jump goes. The
// condition itself is never used. So a state also holds when the processor runs ahead on a wrong guess.
//
// It tells whether it came to an end; if not, the states mean nothing.
func (v *verifier) solve(entries []uint32) bool {
	var nothing state
	for _, e := range entries {
		if int64(e) < int64(len(v.code)) && v.at[e] >= 0 {
			v.flowTo(v.insts[v.at[e]].block, &nothing)
		}
	}
	if !v.drain() {
		return false
	}
	// Code that no entry reaches is held to the same rules, with nothing known.
	for b := range v.blocks {
		if !v.blocks[b].reached {
			v.flowTo(int32(b), &nothing)
			if !v.drain() {
				return false
			}
		}
	}
	return true
}

// flowTo merges s into a block's state.
func (v *verifier) flowTo(n int32, s *state) {
	b := &v.blocks[n]
	changed := !b.reached
	if changed {
		b.reached, b.in = true, *s
	} else {
		for r := range b.in {
			if j := v.machine.join(b.in[r], s[r]); j != b.in[r] {
				b.in[r], changed = j, true
			}
		}
	}
	if changed && !b.queued {
		b.queued = true
		if n > v.current {
			v.queue.push(n)
		} else {
			v.later.push(n)
		}
	}
}

// drain works until no state changes any more. It sweeps over the blocks in the order of their addresses, so that all ways
// into a block from in front of it have been merged when it is visited, and all ways back to a head when the next sweep begins.
func (v *verifier) drain() bool {
	for {
		if len(v.queue) == 0 {
			if v.queue, v.later = v.later, v.queue; len(v.queue) == 0 {
				return true
			}
			v.current = -1
		}
		n := v.queue.pop()
		v.current = n
		b := &v.blocks[n]
		b.queued = false
		if v.steps += int(b.last - b.first + 1); v.steps > maxSteps*len(v.insts) {
			v.fail(refuse(v.insts[b.first].off, RuleLoops, "the loops depend on each other in too many ways: no end after %d steps", v.steps))
			return false
		}
		if b.head >= 0 {
			v.heads[b.head].widen(v.machine, &b.in)
		}
		s := b.in
		for i := b.first; i <= b.last; i++ {
			s.step(v.machine, &v.insts[i])
		}
		last := &v.insts[b.last]
		if last.form.flow != flowJmp && int(n)+1 < len(v.blocks) {
			v.flowTo(n+1, &s)
		}
		if t := v.jumpsTo(last); t >= 0 {
			v.flowTo(v.insts[t].block, &s)
		}
	}
}

// widen gives up on the registers that have changed too often from visit to visit. A number first becomes any number: if it is
// the address of something that the loop walks through, the accesses prove the rest; so they do when it is no longer known how
// far a sanitized address has come. Since nothing ever gets more precise again, each head is visited at most
// 1 + 15*4*(patience+1) times.
func (h *head) widen(m *machine, s *state) {
	for r := range s {
		if h.visited && s[r] != h.seen[r] {
			if s[r].kind != h.seen[r].kind {
				h.changes[r] = 0 // another head may have given up on it
			}
			if h.changes[r]++; h.changes[r] > patience {
				whole := m.num(0, m.numbers-1)
				switch {
				case s[r].kind == isNum && s[r] != whole:
					s[r], h.changes[r] = whole, 0
				case s[r].also:
					s[r], h.changes[r] = m.near(isTouched, int64(s[r].tlo), int64(s[r].thi)), 0
				default:
					s[r] = value{}
				}
			}
		}
	}
	h.seen, h.visited = *s, true
}

// heap is a set of blocks with the first one of the code on top.
type heap []int32

func (h *heap) push(n int32) {
	q := append(*h, n)
	i := len(q) - 1
	for ; i > 0 && q[(i-1)/2] > n; i = (i - 1) / 2 {
		q[i] = q[(i-1)/2]
	}
	q[i] = n
	*h = q
}

func (h *heap) pop() int32 {
	q := *h
	top, n := q[0], q[len(q)-1]
	q = q[:len(q)-1]
	*h = q
	i := 0
	for c := 1; c < len(q); c = 2*i + 1 {
		if c+1 < len(q) && q[c+1] < q[c] {
			c++
		}
		if q[c] >= n {
			break
		}
		q[i] = q[c]
		i = c
	}
	if len(q) != 0 {
		q[i] = n
	}
	return top
}

// checkMemory checks every memory operand with what is known there.
func (v *verifier) checkMemory() {
	for n := range v.blocks {
		b := &v.blocks[n]
		s := b.in
		for i := b.first; i <= b.last; i++ {
			if v.fail(s.checkAccess(v.machine, &v.insts[i])) {
				return
			}
			s.step(v.machine, &v.insts[i])
		}
	}
}
