package btc

import (
	"slices"

	"ub/path"
	"ub/target"
	"ub/x86"
)

// exit is a way out of the blob in its cold part.
type exit struct {
	label  x86.Label
	sym    target.Sym
	target uint64   // program address, for R13
	rip    uint64   // the instruction that leaves
	dirty  []RegLoc // to be written back on the way

	wild    bool  // RCX is in regSaveRCX, all slots are current
	undoRSP int32 // and this is to be added to the program's RSP
}

const (
	regTarget  = 13 // R13: the program address control goes to, at every symbol
	regFrom    = 14 // R14: for Dispatch, the native address of the transfer
	regSaveRCX = 15
)

// jumpsBackward reports whether a jump to b from the current block goes to its own or an earlier place.
func (t *translator) jumpsBackward(b *path.Block) bool { return t.pos[b.Index] <= t.pos[t.b.Index] }

// coldExit returns the label of an exit that writes back what is not in its slot now.
func (t *translator) coldExit(sym target.Sym, addr uint64) x86.Label {
	x := exit{label: t.e.newLabel(), sym: sym, target: addr, rip: t.in.Addr, dirty: t.c.dirtyLocs()}
	t.exits = append(t.exits, x)
	return x.label
}

// emitExit leaves from here. Nothing follows it in this block.
func (t *translator) emitExit(sym target.Sym, addr uint64) {
	t.writeBackFor(t.c.dirtyLocs())
	t.leave(sym, addr)
}

func (t *translator) leave(sym target.Sym, addr uint64) {
	t.e.movImm(regTarget, addr)
	if sym == target.SymDispatch {
		t.e.leaHere(regFrom)
	}
	t.e.jmpSym(sym)
}

// writeBackFor makes slots current on the way out, when the reserved registers are not needed any more: what is off by
// a distance is corrected in place.
func (t *translator) writeBackFor(dirty []RegLoc) {
	var moved [16]int32
	for _, d := range dirty {
		if by := d.Delta - moved[d.Native]; by != 0 {
			t.e.lea(d.Native, d.Native, 0, 0, by)
			moved[d.Native] = d.Delta
		}
		t.e.store(slotOf(x86.Reg(d.Virtual)), d.Native)
	}
}

func (t *translator) emitColdExits() {
	for i := range t.exits {
		x := &t.exits[i]
		t.e.line(x.rip)
		t.e.bind(x.label)
		t.writeBackFor(x.dirty)
		if x.wild {
			t.e.mov(uint8(x86.RCX), regSaveRCX)
		}
		if x.undoRSP != 0 {
			t.e.load(regFrom, target.SlotRSP)
			t.e.lea(regFrom, regFrom, 0, 0, x.undoRSP)
			t.e.store(target.SlotRSP, regFrom)
		}
		t.leave(x.sym, x.target)
	}
}

// goTo continues at program address addr: by falling into the next block of the layout, by a jump, or by leaving.
func (t *translator) goTo(addr uint64) {
	t.c.unpin()
	b := t.p.BlockAt(addr)
	switch {
	case b == nil:
		t.emitExit(target.SymDispatch, addr)
	case b == t.next && t.inherits(b):
		t.keep = true
	default:
		t.flushFor(b)
		if !t.jumpsBackward(b) {
			t.establish(b)
		}
		t.edge(b, true)
		if b != t.next {
			t.e.jmp(t.way(b))
		}
	}
}

// inherits reports whether b, next in the layout, is reached only by falling into it, so that the register cache stays
// valid across the boundary.
func (t *translator) inherits(b *path.Block) bool {
	return !b.Entry && t.preds[b.Index] == 1 && !t.o.NoSuperblocks
}

// branch translates the branch at the end of the current block.
func (t *translator) branch() (stop string) {
	in := t.in
	switch in.Flow {
	case x86.FlowJump:
		t.goTo(in.Target)
	case x86.FlowCond:
		t.conditional(in.Target, in.Addr+uint64(in.Len))
	case x86.FlowCall:
		t.pushConst(in.Addr + uint64(in.Len))
		t.goTo(in.Target)
	case x86.FlowIndJump:
		if stop = t.loadTarget(); stop == "" {
			t.indirect()
		}
	case x86.FlowIndCall:
		if stop = t.loadTarget(); stop == "" {
			t.checkTarget()
			t.pushConst(in.Addr + uint64(in.Len))
			t.indirect()
		}
	case x86.FlowRet:
		t.claim(regTarget)
		ref := t.stack(0)
		t.fault(FaultAccess)
		t.e.gsLoad(8, regTarget, ref)
		t.prove(ref)
		t.moveRSP(retSize(in))
		t.indirect()
	case x86.FlowSyscall:
		t.emitExit(target.SymSyscall, in.Addr+uint64(in.Len))
	default:
		return "branch of an unknown kind"
	}
	return stop
}

// loadTarget puts the operand of an indirect jump or call into R13.
func (t *translator) loadTarget() (stop string) {
	in := t.in
	if in.Width != 8 {
		return "indirect branch with a 16-bit operand"
	}
	t.claim(regTarget)
	if in.HasMem {
		ref, stop := t.address(&in.Mem, 8)
		if stop != "" {
			return stop
		}
		t.fault(FaultAccess)
		t.e.gsLoad(8, regTarget, ref)
		t.prove(ref)
		t.release(ref.n)
		return ""
	}
	g := in.Ops[0].Reg
	if l := t.operand(g); l.delta == 0 {
		t.e.mov(regTarget, l.n)
	} else {
		t.e.lea(regTarget, l.n, 0, 0, l.delta)
	}
	return ""
}

// claim allocates the particular reserved register n, moving or writing back what it holds. It comes first in an
// instruction, when nothing is pinned.
func (t *translator) claim(n uint8) {
	if t.c.at(n).pin {
		panic("BUG: claimed register is in use")
	}
	if m := t.spare(); t.c.busy(n) && m != 0 && m != n {
		t.e.mov(m, n)
		*t.c.at(m) = *t.c.at(n)
		for g := range t.c.san {
			if t.c.san[g].n == n {
				t.c.san[g].n = m
			}
			if t.c.val[g].n == n {
				t.c.val[g].n = m
			}
		}
		t.c.drop(n)
	}
	t.evict(n)
	t.c.hold(n)
}

// conditional translates a conditional branch to taken or else to fall.
func (t *translator) conditional(taken, fall uint64) {
	in := t.in
	bt, bf := t.p.BlockAt(taken), t.p.BlockAt(fall)
	if in.Op != x86.OpJcc {
		t.countedBranch(taken, fall)
		return
	}
	cond := in.Cond
	if bt != nil && bt == t.next && bf != t.next {
		taken, fall, bt, bf = fall, taken, bf, bt
		cond ^= 1
	}
	if bt == nil {
		t.e.jcc(cond, t.coldExit(target.SymDispatch, taken))
	} else if t.worthWay(bt, bf) {
		t.e.jcc(cond, t.coldEdge(bt))
	} else {
		t.flushFor(bt)
		t.edge(bt, true)
		t.e.jcc(cond, t.way(bt))
	}
	t.goTo(fall)
}

// countedBranch translates JRCXZ and the LOOP family, which have no form that leaves RCX and the flags alone but JRCXZ,
// with its reach of 128 bytes.
func (t *translator) countedBranch(taken, fall uint64) {
	t.flushFor(t.p.BlockAt(taken), t.p.BlockAt(fall))
	yes, no := t.e.newLabel(), t.e.newLabel()
	switch t.in.Op {
	case x86.OpJRCXZ:
		t.e.jrcxz(yes)
		t.e.jmp(no)
	case x86.OpLOOP, x86.OpLOOPE, x86.OpLOOPNE:
		t.e.lea(uint8(x86.RCX), uint8(x86.RCX), 0, 0, -1)
		t.c.wrote(x86.RCX)
		t.e.jrcxz(no)
		switch t.in.Op {
		case x86.OpLOOPE:
			t.e.jcc(condNE, no)
		case x86.OpLOOPNE:
			t.e.jcc(condE, no)
		}
	}
	t.e.bind(yes)
	if b := t.p.BlockAt(taken); b != nil {
		t.edge(b, false)
		t.e.jmp(t.way(b))
	} else {
		t.e.jmp(t.coldExit(target.SymDispatch, taken))
	}
	t.e.bind(no)
	t.goTo(fall)
}

const (
	condE  = 4
	condNE = 5
)

// The processor faults on a branch to a non-canonical address at the branch, before its other effects (SDM vol. 2, CALL,
// JMP, RET); resuming the program at such an address would be too late. So a target is checked before anything goes
// there that is not known to be code. The check is for less than 2^canonicalBits, which all of user space is.
const canonicalBits = 47

// checkTarget leaves with stop, for the processor to fault, if the address in R13 is not canonical. The instruction has
// had no effect yet.
func (t *translator) checkTarget() {
	const rcx = uint8(x86.RCX)
	save, bits := t.alloc(), t.alloc()
	t.e.mov(save, rcx)
	t.e.movImm(bits, canonicalBits)
	t.e.shrx(rcx, regTarget, bits)
	ok := t.e.newLabel()
	t.e.jrcxz(ok)
	t.e.mov(rcx, save)
	t.e.jmp(t.coldExit(target.SymStop, t.in.Addr))
	t.e.bind(ok)
	t.e.mov(rcx, save)
	t.release(save)
	t.release(bits)
}

// indirect continues at the program address in R13: it is compared with the expected targets, likeliest first, without
// touching the flags; else control goes to the dispatcher. RCX is lent to JRCXZ meanwhile; nothing can fault there.
func (t *translator) indirect() {
	targets := t.b.Targets
	if n := t.o.inlineTargets(); len(targets) > n {
		targets = targets[:n]
	}
	t.c.unpin()
	t.c.hold(regTarget)
	if len(targets) > 0 {
		t.settleRSP()
	}
	blocks := make([]*path.Block, len(targets))
	for i, addr := range targets {
		blocks[i] = t.p.BlockAt(addr)
	}
	t.flushFor(blocks...)
	const rcx = uint8(x86.RCX)
	checked := t.in.Flow == x86.FlowIndCall // before the return address was pushed
	if len(targets) > 0 || !checked {
		t.e.mov(regSaveRCX, rcx)
	}
	hits := make([]x86.Label, len(targets))
	for i := range hits {
		hits[i] = t.e.newLabel()
	}
	here := t.c
	after := here // where a target is reached: the registers that the comparisons use hold nothing more
	after.unpin()
	after.drop(regTarget)
	after.drop(regSaveRCX)
	if slices.ContainsFunc(targets, func(addr uint64) bool { return !fits32(-int64(addr)) }) {
		after.drop(regFrom)
	}
	// arrive is the way from a hit to the blocks: all but the next one, which comes last, to be run into.
	arrive := func(from, to int) {
		last := -1
		for i := from; i < to; i++ {
			if blocks[i] == t.next && to == len(targets) {
				last = i
				continue
			}
			t.arrive(hits[i], &after, blocks[i], len(targets) <= 2)
			t.e.jmp(t.way(blocks[i]))
		}
		if last >= 0 {
			t.arrive(hits[last], &after, t.next, len(targets) <= 2)
		}
	}
	var loaded uint64 // what R14 holds the negative of
	for i, addr := range targets {
		if i == hitsInReach {
			more := t.e.newLabel()
			t.e.jmp(more)
			arrive(0, i)
			t.e.bind(more)
			t.c = here
		}
		if d := -int64(addr); fits32(d) {
			t.e.lea(rcx, regTarget, 0, 0, int32(d))
		} else {
			if loaded == 0 || !fits32(int64(loaded-addr)) {
				t.e.movImm(regFrom, -addr)
				loaded = addr
			}
			t.e.lea(rcx, regTarget, regFrom, 1, int32(loaded-addr))
		}
		t.e.jrcxz(hits[i])
	}
	if !checked {
		ok := t.e.newLabel()
		t.e.movImm(regFrom, canonicalBits)
		t.e.shrx(rcx, regTarget, regFrom)
		t.e.jrcxz(ok)
		t.e.jmp(t.wildTarget())
		t.e.bind(ok)
	}
	if len(targets) > 0 || !checked {
		t.e.mov(rcx, regSaveRCX)
	}
	t.e.leaHere(regFrom)
	t.e.jmpSym(target.SymDispatch)
	if len(targets) > hitsInReach {
		arrive(hitsInReach, len(targets))
	} else {
		arrive(0, len(targets))
	}
	t.c = after
}

// hitsInReach is how many targets are compared with before the ways to them follow, so that JRCXZ reaches these.
const hitsInReach = 4

// arrive is the way from a comparison that has found its target, b, with the register cache as it is then. Many hits leave no room
// for conforming within reach of the first JRCXZ.
func (t *translator) arrive(hit x86.Label, state *cache, b *path.Block, conform bool) {
	t.e.bind(hit)
	t.e.mov(uint8(x86.RCX), regSaveRCX)
	t.c = *state
	t.edge(b, conform)
}

// settleRSP makes R12, which the comparisons leave alone, the program's RSP, if that is in a register.
func (t *translator) settleRSP() {
	const n = 12
	l := t.c.valueOf(x86.RSP)
	if !l.ok() || l == (loc{n: n}) || !t.c.at(l.n).sane {
		return
	}
	dirty := t.c.dirty & (1 << x86.RSP)
	if l.n != n {
		t.evict(n)
	} else {
		for _, v := range t.k.virtuals {
			if v != x86.RSP && t.c.val[v].n == n && t.c.dirty&(1<<v) != 0 {
				t.writeBack(v)
			}
		}
		// Writing back may have moved the register, and with it RSP's distance.
		if l = t.c.valueOf(x86.RSP); !l.ok() || !t.c.at(l.n).sane {
			return
		}
	}
	from := *t.c.at(l.n)
	to := from.bounds.at(l.delta)
	if lo, hi := to.walk(); !to.known() || lo < -maxDelta || hi > maxDelta {
		return
	}
	t.e.lea(n, l.n, 0, 0, l.delta)
	t.c.drop(n)
	*t.c.at(n) = resReg{sane: true, proven: true, bounds: to}
	t.c.val[x86.RSP], t.c.san[x86.RSP] = loc{n: n}, loc{n: n}
	t.c.dirty |= dirty
}

// wildTarget returns the label of the cold exit for a jump or return to a non-canonical address: what the instruction
// has done by then is taken back.
func (t *translator) wildTarget() x86.Label {
	x := exit{label: t.e.newLabel(), sym: target.SymStop, target: t.in.Addr, rip: t.in.Addr, wild: true}
	if t.in.Flow == x86.FlowRet {
		x.undoRSP = -retSize(t.in)
	}
	t.exits = append(t.exits, x)
	return x.label
}

// retSize is how far RET moves RSP.
func retSize(in *x86.Inst) int32 {
	if in.NumOps == 0 {
		return 8
	}
	return 8 + int32(uint16(in.Imm))
}
