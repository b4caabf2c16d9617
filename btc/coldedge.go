package btc

import (
	"ub/path"
	"ub/x86"
)

// What a block demands of the ways that lead to it (current slots, the stack's register) is made good on the way itself, not
// in front of the branch, where that is possible: the branch that is not taken, as most are that lead far, then costs
// nothing, and what is only in registers may stay there. Such a way is a piece of code of its own, with a jump at its
// end: behind an earlier block that nothing falls out of, since a jump that goes backward would have to lead to a poll.

// coldEdge is the way from a conditional branch to a block behind it.
type coldEdge struct {
	label x86.Label
	to    *path.Block

	b     *path.Block // where the branch is, and the state there
	i     int
	state cache
	live  bool
}

// findGaps finds, for each place in the layout, the next one whose block does not fall into the one after it.
func (t *translator) findGaps() {
	t.gaps = make([]int, len(t.order))
	gap := len(t.order)
	for i := len(t.order) - 1; i >= 0; i-- {
		if i+1 == len(t.order) || !mayFallInto(t.order[i], t.order[i+1]) {
			gap = i
		}
		t.gaps[i] = gap
	}
}

// mayFallInto tells whether b's translation may run on into that of next, which follows it.
func mayFallInto(b, next *path.Block) bool {
	var buf [8]uint64
	for _, a := range b.Succs(buf[:0]) {
		if a == next.Addr {
			return true
		}
	}
	return false
}

// hasWay tells whether there is a place for the way from the current block to b.
func (t *translator) hasWay(b *path.Block) bool {
	from := t.pos[t.b.Index]
	return !t.jumpsBackward(b) && t.gaps[from] < t.pos[b.Index]
}

// keepsDirty tells whether the other way from a conditional branch leaves the register cache as it is.
func (t *translator) keepsDirty(b *path.Block) bool {
	return b == nil || b == t.next && t.inherits(b)
}

// wayWorth is how many instructions must be saved on the other way for one more jump on this one: nothing says which of them the
// program takes more often.
const wayWorth = 2

// worthWay tells whether the way to b, from the current state, is to be a piece of code of its own; other is where control
// goes else.
func (t *translator) worthWay(b, other *path.Block) bool {
	if !t.hasWay(b) {
		return false
	}
	saved := 0
	if t.wantsStack(b) && !t.stackReady() && !(t.wantsStack(other) && !t.keepsDirty(other)) {
		if saved++; !t.c.saneOf(x86.RSP).ok() {
			saved += 3 // it is loaded, checked and sanitized
		}
	}
	if t.keepsDirty(other) {
		for _, d := range t.c.dirtyLocs() {
			if saved++; d.Delta != 0 {
				saved++
			}
		}
	}
	return saved >= wayWorth
}

// coldEdge returns the label of a way to b with the current state.
func (t *translator) coldEdge(b *path.Block) x86.Label {
	x := coldEdge{label: t.e.newLabel(), to: b, b: t.b, i: t.i, state: t.c, live: t.live}
	t.cold = append(t.cold, x)
	return x.label
}

// emitColdEdges emits the ways that have been asked for. Nothing falls into the code that follows.
func (t *translator) emitColdEdges() {
	b, i, in, c, live := t.b, t.i, t.in, t.c, t.live
	for _, x := range t.cold {
		t.b, t.i, t.in, t.c, t.live = x.b, x.i, &x.b.Insts[x.i], x.state, x.live
		t.e.line(t.in.Addr)
		t.e.bind(x.label)
		t.flushFor(x.to)
		t.c.unpin()
		t.edge(x.to, true)
		t.e.jmp(t.labels[x.to.Index])
	}
	t.cold = t.cold[:0]
	t.b, t.i, t.in, t.c, t.live = b, i, in, c, live
}
