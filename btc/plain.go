package btc

import (
	"ub/target"
	"ub/x86"
)

// plain translates an instruction with explicit operands: the same instruction on renamed registers and a sanitized
// address.
func (t *translator) plain() (stop string) {
	in := t.in
	if stop = refusal(in); stop != "" {
		return stop
	}
	if v := vecOf(in); v > target.VecNone && t.o.NoVectors || v > target.VecAVX && t.o.NoAVX512 {
		return "vector registers of that kind are not to be used"
	}
	switch in.Op {
	case x86.OpLEA:
		return t.lea()
	case x86.OpMOV:
		if t.move() {
			return ""
		}
	case x86.OpCLD: // DF is 0 all through
		return ""
	}
	if isPrefetch(in.Op) {
		// Only a hint. To prefetch safely would cost more than a miss of it.
		return ""
	}
	if stop, done := t.highByte(); done {
		return stop
	}
	var ref memRef
	if in.HasMem {
		if ref, stop = t.address(&in.Mem, memSize(in)); stop != "" {
			return stop
		}
	}
	step, stepped := addend(in)
	if stepped && in.Ops[0].Reg == x86.RSP && t.stepStack(step) {
		return ""
	}
	if t.onSlot() {
		return ""
	}
	var s x86.Subst
	var written [LinuxVirtualSlots]uint8
	for i, v := range t.k.virtuals {
		read, write := accessOf(in, v)
		var n uint8
		switch {
		case read && write:
			n = t.own(v, stepped)
		case read:
			n = t.value(v)
		case write:
			n = t.fresh(v)
		default:
			continue
		}
		s = s.Rename(v, x86.Reg(n))
		if write {
			written[i] = n
		}
	}
	if in.HasMem {
		s = s.Mem(t.e.at(ref))
	}
	t.emit(in, s, ref)
	for i, v := range t.k.virtuals {
		if n := written[i]; n != 0 {
			san := t.c.san[v]
			if stepped {
				t.setStepped(v, n, step)
			} else {
				t.setNew(v, n)
			}
			if stepped && san.ok() && san.n != n {
				t.c.san[v] = san.plus(step)
			}
		}
	}
	t.wroteNatives()
	return ""
}

// emit emits the current instruction, or a variant of it, with its fault record; ref is where its memory operand is.
func (t *translator) emit(in *x86.Inst, s x86.Subst, ref memRef) {
	switch {
	case in.Op == x86.OpDIV || in.Op == x86.OpIDIV:
		t.fault(FaultDivide)
	case in.HasMem, in.Vec != x86.VecNone: // of the latter, a floating-point exception that the program has unmasked
		t.fault(FaultAccess)
	case in.Op == x86.OpRDTSC, in.Op == x86.OpRDTSCP: // when the process has switched them off
		t.fault(FaultAccess)
	case maybeUndefined(in.Op):
		t.fault(FaultAccess)
	}
	t.e.inst(in, s)
	switch {
	case in.Masked:
	case maybeNoAccess(in):
		t.proveValue(ref)
	default:
		t.prove(ref)
	}
}

// maybeUndefined tells of which general-purpose operations there are processors without them, among those that have BMI2,
// which translations need anyway: the manuals promise no order in which features came. Then the program gets its SIGILL from
// its own kernel, instead of taking down the one that runs the translation.
func maybeUndefined(o x86.Op) bool {
	switch o {
	case x86.OpANDN, x86.OpBEXTR, x86.OpBLSI, x86.OpBLSMSK, x86.OpBLSR, x86.OpCRC32, x86.OpPOPCNT:
		return true
	}
	return false
}

// maybeNoAccess tells of which instructions the verifier does not take for granted that they access their memory operand: a
// count or a predicate might make that needless. They do on all processors there are, but say nothing about its address
// to the verifier.
func maybeNoAccess(in *x86.Inst) bool {
	switch in.Op {
	case x86.OpSHL, x86.OpSHR, x86.OpSAR, x86.OpROL, x86.OpROR, x86.OpRCL, x86.OpRCR, x86.OpSHLD, x86.OpSHRD:
		return true
	}
	return in.Vec != x86.VecNone && (in.Enc.ImmLen > 0 || in.NumOps > 3)
}

// wroteNatives tells the cache what the current instruction did to program registers that are not virtual.
func (t *translator) wroteNatives() {
	in := t.in
	step, stepped := addend(in)
	for g := x86.RAX; g <= x86.R11; g++ {
		switch {
		case in.Writes&(1<<g) == 0 || t.k.isVirtual(g):
		case stepped:
			t.c.bumped(g, step)
		default:
			t.c.wrote(g)
		}
	}
}

// addend returns what the instruction adds to its only destination, a whole register, when that is a small constant.
func addend(in *x86.Inst) (int32, bool) {
	if in.Width != 8 || in.NumOps == 0 || in.Ops[0].Kind != x86.KindReg {
		return 0, false
	}
	d := in.Imm
	switch in.Op {
	case x86.OpADD:
	case x86.OpSUB:
		d = -d
	case x86.OpINC:
		return 1, true
	case x86.OpDEC:
		return -1, true
	default:
		return 0, false
	}
	return int32(d), in.Ops[1].Kind == x86.KindImm && d >= -maxDelta && d <= maxDelta
}

// accessOf returns how the operands of in use virtual register v. What is written in part counts as read. Address
// registers do not count.
func accessOf(in *x86.Inst, v x86.Reg) (read, write bool) {
	for i := range in.Ops[:in.NumOps] {
		if o := &in.Ops[i]; o.Kind == x86.KindReg && o.Reg == v && o.Field != x86.FieldImplicit {
			write = write || o.Access&(x86.Write|x86.CondWrite) != 0
			read = read || o.Access&(x86.Read|x86.CondWrite) != 0 || o.Size < 4
		}
	}
	return
}

// memSize is how many bytes the memory operand of in has.
func memSize(in *x86.Inst) int {
	for i := range in.Ops[:in.NumOps] {
		if o := &in.Ops[i]; o.Kind == x86.KindMem {
			return int(o.Size)
		}
	}
	return 1
}

func isPrefetch(o x86.Op) bool { return o >= x86.OpPREFETCH && o <= x86.OpPREFETCHWT1 }

func slotMem(v x86.Reg) x86.Mem {
	return x86.Mem{Base: x86.RSP, Index: x86.NoReg, Scale: 1, Disp: slotOf(v)}
}

// onSlot translates the current instruction, if it has one virtual register that is worth it, to operate on that
// register's slot: when the value is in no reserved register, is not read again in this block, and the operand can be
// memory; or when a constant is added to a register whose sanitized value is to be kept.
func (t *translator) onSlot() bool {
	in := t.in
	if t.o.NoSlotOperands || in.HasMem || in.Vec != x86.VecNone {
		return false
	}
	at := -1
	for i := range in.Ops[:in.NumOps] {
		o := &in.Ops[i]
		if o.Kind != x86.KindReg || !t.k.isVirtual(o.Reg) || o.Field == x86.FieldImplicit {
			continue
		}
		if at >= 0 {
			return false
		}
		at = i
	}
	if at < 0 || in.Ops[at].Field != x86.FieldRM {
		return false
	}
	o := &in.Ops[at]
	v := o.Reg
	writes := o.Access&(x86.Write|x86.CondWrite) != 0
	switch in.Op {
	case x86.OpXCHG, x86.OpXADD, x86.OpCMPXCHG: // XCHG would lock; the others are rare
		return false
	case x86.OpRDRAND, x86.OpRDSEED, x86.OpRDPID, x86.OpBSWAP: // registers only
		return false
	case x86.OpBT, x86.OpBTS, x86.OpBTR, x86.OpBTC:
		if in.Ops[1].Kind != x86.KindImm { // with memory, the offset would reach beyond the slot
			return false
		}
	}
	if writes && o.Size == 4 { // must clear the upper half
		return false
	}
	step, stepped := addend(in)
	val := t.c.valueOf(v)
	switch {
	case t.c.dirty&(1<<v) != 0:
		return false
	case stepped && val.ok() && t.c.at(val.n).sane:
		// The slot is current: step it, and keep the address at a distance.
	case stepped && t.c.san[v].ok() && !val.ok():
	case val.ok() || t.usedLater(v):
		return false
	}
	t.emit(in, x86.Subst{}.Mem(slotMem(v)), memRef{})
	if writes {
		if stepped {
			t.c.val[v] = val.plus(step)
			t.c.bumped(v, step)
		} else {
			t.c.wrote(v)
		}
	}
	t.wroteNatives()
	return true
}

// move translates the moves of 8 bytes between registers of which at least one is virtual: often there is nothing to do
// but to remember where the value is. It returns false for all others.
func (t *translator) move() bool {
	in := t.in
	if in.Width != 8 || in.HasMem || in.NumOps != 2 || in.Ops[1].Kind != x86.KindReg || in.Ops[0].Kind != x86.KindReg {
		return false
	}
	d, s := in.Ops[0].Reg, in.Ops[1].Reg
	if d > x86.R15 || s > x86.R15 {
		return false
	}
	if d == s {
		return true
	}
	san := t.saneHeld(s)
	switch {
	case t.k.isVirtual(d) && t.k.isVirtual(s):
		l := t.c.valueOf(s)
		if !l.ok() {
			l = loc{n: t.value(s)}
		}
		t.shareVal(d, l)
	case t.k.isVirtual(d):
		if san.ok() && t.c.at(san.n).proven {
			t.shareVal(d, san)
			break
		}
		if !t.usedLater(d) && !t.o.NoSlotOperands {
			t.e.store(slotOf(d), uint8(s))
			t.c.wrote(d)
			break
		}
		n := t.fresh(d)
		t.e.mov(n, uint8(s))
		t.setNew(d, n)
	case t.k.isVirtual(s):
		l := t.c.valueOf(s)
		switch {
		case !l.ok() && !t.usedLater(s) && !t.o.NoSlotOperands:
			t.e.load(uint8(d), slotOf(s))
		case l.ok() && l.delta != 0:
			t.e.lea(uint8(d), l.n, 0, 0, l.delta)
		default:
			t.e.mov(uint8(d), t.value(s))
		}
		t.c.wrote(d)
	default:
		t.e.mov(uint8(d), uint8(s))
		t.c.wrote(d)
	}
	if san.ok() {
		t.c.san[d] = san
	}
	return true
}

// saneHeld is where program register s is sanitized, held so that what the instruction allocates is not taken from there.
func (t *translator) saneHeld(s x86.Reg) loc {
	l := t.c.saneOf(s)
	if l.ok() {
		t.c.hold(l.n)
	}
	return l
}

// shareVal makes virtual register d, not in its slot, the value at l, which may serve others too.
func (t *translator) shareVal(d x86.Reg, l loc) {
	t.c.wrote(d)
	t.c.val[d] = l
	t.c.dirty |= 1 << d
}

// lea translates LEA, which accesses no memory: the address is not sanitized. A segment does not count.
func (t *translator) lea() (stop string) {
	in := t.in
	d := in.Ops[0].Reg
	if in.Width == 2 {
		return "lea with a 16-bit destination"
	}
	m := &in.Mem
	if m.Base == x86.RIP || m.Base == x86.NoReg && m.Index == x86.NoReg {
		c := uint64(int64(m.Disp))
		if m.Base == x86.RIP {
			c += in.Addr + uint64(in.Len)
		}
		if in.Width == 4 {
			c = uint64(uint32(c))
		}
		t.define(d, func(n uint8) { t.e.movImm(n, c) })
		return ""
	}
	if in.Width == 8 && m.Index == x86.NoReg {
		t.leaStep(d, m.Base, m.Disp)
		return ""
	}
	am := t.renamed(m)
	t.define(d, func(n uint8) {
		if in.Width == 4 {
			t.e.leaMem32(n, am)
		} else {
			t.e.leaMem(n, am)
		}
	})
	return ""
}

// leaStep translates d = s + disp, through which sanitized addresses stay known.
func (t *translator) leaStep(d, s x86.Reg, disp int32) {
	san := t.saneHeld(s).plus(disp)
	l := t.c.valueOf(s)
	switch {
	case d == s && !t.k.isVirtual(d):
		t.e.lea(uint8(d), uint8(d), 0, 0, disp)
		t.c.bumped(d, disp)
		return
	case t.k.isVirtual(d) && l.ok() && l.plus(disp).ok():
		t.shareVal(d, l.plus(disp))
	default:
		o := t.operand(s)
		if !fits32(int64(o.delta) + int64(disp)) {
			o = loc{n: t.value(s)}
		}
		t.define(d, func(n uint8) { t.e.lea(n, o.n, 0, 0, o.delta+disp) })
	}
	if san.ok() {
		t.c.san[d] = san
	}
}

// define gives program register d the whole value that f computes into a native register.
func (t *translator) define(d x86.Reg, f func(n uint8)) {
	if !t.k.isVirtual(d) {
		f(uint8(d))
		t.c.wrote(d)
		return
	}
	n := t.fresh(d)
	f(n)
	t.setNew(d, n)
}
