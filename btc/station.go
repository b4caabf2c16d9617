package btc

import (
	"ub/path"
	"ub/x86"
)

// Polls. A backward jump must lead to one (the verifier's rule "backward"): that every loop has one follows. In a loop it stands
// at the head. But most backward jumps close no loop: they are calls and returns, and ways that lead far, to where the layout has
// put something that was found earlier. Those who get there from in front of it, which is how control most often goes, should not pay for them. So
// such a jump goes to a way station at the start of the code, which polls and jumps on.

// station is the way of backward jumps to a block.
type station struct {
	label   x86.Label
	scratch uint8 // what it polls into: the block's join state has nothing there
	used    bool
}

const (
	// tightLoop is the number of blocks from which on a loop does not care where in a cache line it begins.
	tightLoop = 8

	// farJump is the number of blocks from which on a backward jump has a way station: one more jump is nothing to a loop of that
	// size.
	farJump = 32
)

// countEdges finds how many ways lead into each block, which blocks backward jumps go to, and how.
func (t *translator) countEdges() {
	var buf [8]uint64
	forward := make([]bool, len(t.order))
	ends := make(map[int]int) // of small loops, by head, in layout order
	for _, b := range t.order {
		in := b.Last()
		indirect := in != nil && (in.Flow == x86.FlowIndJump || in.Flow == x86.FlowIndCall || in.Flow == x86.FlowRet)
		for i, a := range b.Succs(buf[:0]) {
			s := t.p.BlockAt(a)
			if s == nil {
				continue
			}
			t.preds[s.Index]++
			if indirect && i >= t.o.inlineTargets() {
				continue
			}
			size := t.pos[b.Index] - t.pos[s.Index]
			call := indirect || in != nil && in.Flow == x86.FlowCall
			switch {
			case size < 0:
				forward[s.Index] = true
			case !call && size >= farJump || !t.comesTo(s, b):
				t.far[s.Index] = true
			case !call && size < tightLoop:
				t.polls[s.Index], t.loops[s.Index] = true, true
				ends[t.pos[s.Index]] = max(ends[t.pos[s.Index]], t.pos[b.Index])
			default:
				t.polls[s.Index] = true
			}
		}
	}
	t.findChases(ends)
	for i, far := range t.far {
		if far && (t.polls[i] || !forward[i]) {
			t.far[i], t.polls[i] = false, true
		}
	}
}

// comesTo tells whether control may come from block from to block to, within one function: calls are taken to return.
func (t *translator) comesTo(from, to *path.Block) bool {
	seen := make([]bool, len(t.order))
	seen[from.Index] = true
	var buf [8]uint64
	for todo := []*path.Block{from}; len(todo) > 0; {
		b := todo[len(todo)-1]
		if todo = todo[:len(todo)-1]; b == to {
			return true
		}
		next := buf[:0]
		switch in := b.Last(); {
		case in != nil && (in.Flow == x86.FlowCall || in.Flow == x86.FlowIndCall):
			next = append(next, in.Addr+uint64(in.Len))
		case in == nil || in.Flow != x86.FlowRet:
			next = b.Succs(next)
		}
		for _, a := range next {
			if s := t.p.BlockAt(a); s != nil && !seen[s.Index] {
				seen[s.Index] = true
				todo = append(todo, s)
			}
		}
	}
	return false
}

// emitStations emits the way stations. What the blocks' labels expect in the reserved registers is what the round before has found.
func (t *translator) emitStations() {
	t.stations = make([]station, len(t.order))
	for _, b := range t.order {
		if !t.far[b.Index] {
			continue
		}
		s := station{label: t.e.newLabel(), scratch: t.unusedBy(&t.joins[b.Index].state)}
		t.stations[b.Index] = s
		t.e.line(b.Addr)
		t.e.bind(s.label)
		t.e.fault(FaultPoll, b.Addr, nil)
		t.e.poll(s.scratch)
		t.e.jmp(t.labels[b.Index])
	}
}

// way returns where a jump to b from the current block goes.
//
// Stations that no code which is reached jumps to are given up, since the verifier looks at them too, with nothing known there.
func (t *translator) way(b *path.Block) x86.Label {
	switch {
	case !t.jumpsBackward(b):
	case t.far[b.Index] && t.live:
		s := &t.stations[b.Index]
		s.used = true
		return s.label
	case !t.polls[b.Index]:
		t.far[b.Index], t.polls[b.Index], t.unsettled = false, true, true
	}
	return t.labels[b.Index]
}

// checkStations gives up the stations that this round has not used.
func (t *translator) checkStations() {
	for i := range t.far {
		if t.far[i] && !t.stations[i].used {
			t.far[i], t.unsettled = false, true
		}
	}
}
