// Package btc translates a path into sandboxed code for the BTC machine (docs/btc-machine.md). Translation is a pure
// function: same path and options, same blob. What the translator does not know how to do exactly ends the translation at that
// instruction, where the thread leaves and goes on natively.
package btc

import (
	"errors"
	"fmt"
	"slices"

	"ub/path"
	"ub/target"
	"ub/x86"
)

// Options select variants of the translation. The zero value is what runs in production; the switches exist to measure
// what each rule costs, and the verifier refuses blobs made without the rules that matter for safety.
type Options struct {
	// Kernel is the one that runs the blob.
	Kernel target.Kernel
	// InlineTargets is how many expected targets of an indirect branch are compared with inline: 0 means
	// DefaultInlineTargets, negative none, at most MaxInlineTargets.
	InlineTargets int
	// NoTagCheck omits the check of address bits 59..63. An address with only those bits set would then be accessed as if
	// they were clear, where the processor faults: safe, but not exact.
	NoTagCheck bool
	// NoVectors and NoAVX512 leave instructions to the processor that need vector registers, or those of AVX-512: for
	// machines that have no place for them.
	NoVectors, NoAVX512 bool
	// NoSuperblocks makes every block start with an empty register cache.
	NoSuperblocks bool
	// NoJoins makes every block that more than one way leads to start with an empty register cache.
	NoJoins bool
	// NoSlotOperands loads every virtual register into a reserved one instead of operating on its slot.
	NoSlotOperands bool
}

const (
	DefaultInlineTargets = 8
	MaxInlineTargets     = 8

	// FewTargets is how many a branch has at most whose targets are worth being entries of its path.
	FewTargets = 4
)

func (o Options) inlineTargets() int {
	switch {
	case o.InlineTargets == 0:
		return DefaultInlineTargets
	case o.InlineTargets < 0:
		return 0
	}
	return min(o.InlineTargets, MaxInlineTargets)
}

// translator is the state of one translation.
type translator struct {
	p *path.Path
	o Options
	k *rules
	e emitter
	c cache

	order  []*path.Block
	pos    []int        // place in order, by block index
	preds  []int        // ways into a block, by block index
	polls  []bool       // backward jumps lead there, and it begins with a poll
	far    []bool       // backward jumps lead there by a way station, which has the poll
	loops  []bool       // from the end of a small loop, and not just because of the layout
	chases []x86.RegSet // the pointers that the loop around a block chases
	stacks []bool       // where the convention about stackReg applies, by block index

	stackless []int // the place of the head of the loop without stack that a block is in, or -1; by block index
	labels    []x86.Label
	gaps      []int  // by place in order
	joins     []join // by block index, kept from round to round

	narrowLabels bool // something may be known of the size of registers at labels
	mayCrowd     bool // loops may still give up stackReg
	crowded      bool // some has, in this round

	// Of the current round, by block index where not said otherwise.
	exits     []exit
	cold      []coldEdge
	stops     map[uint64]bool // blocks at whose first instruction the translation ends
	incoming  []*cache        // what the forward ways to a block agree on, nil if there is none so far
	back      []cache         // the same of the backward ways
	hasBack   []bool
	stubs     []cache // the state that an entry's stub establishes
	stations  []station
	reached   []bool // by a forward way from code that is reached
	vain      bool   // something has been prepared for a loop that it does not use
	unsettled bool   // some assumption did not hold: the round is void

	b    *path.Block // current block
	next *path.Block // the one after it in the layout, or nil
	i    int         // current instruction in b
	in   *x86.Inst
	keep bool // the register cache stays valid into next
	live bool // b is reached, as far as forward ways tell
}

// ErrNoEntry is wrapped by the error of a translation that cannot be entered anywhere.
var ErrNoEntry = errors.New("nothing to enter")

// Translate makes the blob of p. It fails when there is nothing to enter: none of p's entries starts with an instruction
// that can be translated; the error says why.
func Translate(p *path.Path, o Options) (*Blob, error) {
	n := len(p.Blocks)
	t := &translator{
		p: p, o: o, k: &kernels[o.Kernel],
		order: layout(p),
		pos:   make([]int, n),
		preds: make([]int, n),
		polls: make([]bool, n),
		far:   make([]bool, n),
		loops: make([]bool, n),
		joins: make([]join, n),

		narrowLabels: true,
	}
	for i, b := range t.order {
		t.pos[b.Index] = i
	}
	t.countEdges()
	t.findStackBlocks()
	t.findGaps()
	for round := 1; ; round++ {
		t.mayCrowd = round < maxRounds/2
		blob, err := t.round()
		if err != nil {
			return nil, err
		}
		if !t.unsettled && !(round == 1 && t.loopsWantMore()) && !(t.vain && round < maxRounds-1) {
			return blob, nil
		}
		if t.crowded {
			t.forgetLimits()
		}
		t.narrowLabels = round < maxRounds-2
		if round == maxRounds {
			t.o.NoJoins = true
			t.joins = make([]join, n)
		}
	}
}

// round translates all blocks on what is known about joins from the rounds before it. t.unsettled says whether that was
// right.
func (t *translator) round() (*Blob, error) {
	n := len(t.order)
	t.e = emitter{k: t.k}
	t.e.init(t.p.NumInsts())
	t.c.reset()
	t.keep, t.unsettled, t.vain, t.crowded = false, false, false, false
	t.exits, t.cold = t.exits[:0], t.cold[:0]
	t.stops = make(map[uint64]bool)
	t.incoming = make([]*cache, n)
	t.back, t.hasBack = make([]cache, n), make([]bool, n)
	t.stubs = make([]cache, n)
	t.reached = make([]bool, n)
	t.labels = make([]x86.Label, n)
	for i := range t.labels {
		t.labels[i] = t.e.newLabel()
	}
	entries := make([]x86.Label, n)
	for _, b := range t.order {
		entries[b.Index] = t.labels[b.Index]
		if b.Entry {
			entries[b.Index] = t.stub(b)
		}
	}
	t.emitStations()
	for i, b := range t.order {
		t.next = nil
		if i+1 < n {
			t.next = t.order[i+1]
		}
		t.block(b)
		if t.gaps[i] == i {
			t.emitColdEdges()
		}
	}
	t.emitColdExits()
	t.checkStations()
	for i := range t.joins {
		t.joins[i].back, t.joins[i].hasBack = t.back[i], t.hasBack[i]
	}
	if t.unsettled {
		return nil, nil
	}
	blob, err := t.e.finish()
	blob.Kernel = t.k.kernel
	if err != nil {
		return nil, fmt.Errorf("assembling the translation: %w", err)
	}
	for _, addr := range t.p.Entries {
		if b := t.p.BlockAt(addr); !t.stops[addr] {
			blob.Entries = append(blob.Entries, Entry{RIP: addr, Off: t.e.offset(entries[b.Index])})
		}
	}
	if len(blob.Entries) == 0 {
		return nil, fmt.Errorf("%w: the translation would end at the first instruction of each of %#x", ErrNoEntry, t.p.Entries)
	}
	for _, r := range t.p.Source() {
		blob.Source = append(blob.Source, Range(r))
	}
	return blob, nil
}

// block translates b.
func (t *translator) block(b *path.Block) {
	t.b, t.in = b, nil
	if t.loops[b.Index] {
		t.e.align()
	}
	t.e.line(b.Addr)
	t.e.bind(t.labels[b.Index])
	if !t.keep {
		t.c = t.joinState(b)
		t.live = b.Entry || t.reached[b.Index]
	}
	t.keep = false
	if t.polls[b.Index] {
		t.i = -1
		n := t.alloc()
		t.e.fault(FaultPoll, b.Addr, t.c.dirtyLocs())
		t.e.poll(n)
		t.c.unpin()
	}
	for i := range b.Insts {
		t.i, t.in = i, &b.Insts[i]
		t.e.line(t.in.Addr)
		narrow := t.narrows()
		stop := t.inst()
		t.c.unpin()
		if stop != "" {
			if i == 0 {
				t.stops[b.Addr] = true
			}
			t.emitExit(target.SymStop, t.in.Addr)
			return
		}
		if t.in.Flow == x86.FlowNext {
			t.c.narrow = narrow
		}
	}
	switch b.End {
	case path.EndFall:
		t.goTo(b.Next)
	case path.EndStop:
		t.e.line(b.Next)
		t.emitExit(target.SymStop, b.Next)
	}
	t.c.unpin()
}

// inst translates the current instruction. stop is why it does not; then nothing has been emitted that changes the
// program's state.
func (t *translator) inst() (stop string) {
	in := t.in
	if stop := path.StopReason(in); stop != "" {
		return stop
	}
	if in.Flow != x86.FlowNext {
		return t.branch()
	}
	t.flushEarly()
	switch in.Class {
	case x86.ClassNop:
		return ""
	case x86.ClassPush:
		return t.push()
	case x86.ClassPop:
		return t.pop()
	case x86.ClassLeave:
		return t.leaveFrame()
	case x86.ClassString:
		return t.str()
	case x86.ClassPlain:
		return t.plain()
	}
	return fmt.Sprintf("no translation for class %d", in.Class)
}

// flushEarly writes back before a compare whose result the block's last instruction branches on, and moves the pointers
// of a loop, rather than between the two, so that the processor still fuses them.
func (t *translator) flushEarly() {
	if t.i != len(t.b.Insts)-2 || t.b.Last() == nil {
		return
	}
	j := t.b.Last()
	if j.Flow != x86.FlowCond || t.in.Class != x86.ClassPlain ||
		slices.ContainsFunc(t.k.virtuals, func(v x86.Reg) bool { return t.in.Writes&(1<<v) != 0 }) {
		return
	}
	to := t.p.BlockAt(j.Target)
	if to == nil {
		return
	}
	if other := t.p.BlockAt(j.Addr + uint64(j.Len)); to == t.next && other != nil && other != to {
		if t.worthWay(other, to) {
			return
		}
	} else if t.worthWay(to, other) {
		return
	}
	if t.wantsStack(to) && t.c.saneOf(x86.RSP).ok() {
		t.settleStack(false)
	}
	t.flush()
	if t.jumpsBackward(to) && t.in.Writes == 0 {
		t.shift(&t.joins[to.Index].state)
	}
}

// fault notes that the next native instruction may fault, with the program's state as the cache has it now.
func (t *translator) fault(k FaultKind) { t.e.fault(k, t.in.Addr, t.c.dirtyLocs()) }
