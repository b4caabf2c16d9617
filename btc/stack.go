package btc

import "ub/x86"

// moveRSP notes that the program's RSP has grown by d. It is not written: later stack accesses fold the distance into
// their displacement, and it is made good where RSP itself is needed or at the end of the superblock. An access through
// the sanitized RSP has just succeeded, so that one is the value.
func (t *translator) moveRSP(d int32) {
	t.c.narrow[x86.RSP] = max(t.c.narrow[x86.RSP], sum(t.k.narrowAddr, narrow32))
	to := t.c.valueOf(x86.RSP).plus(d)
	if !to.ok() { // too far, or no longer in a register
		n := t.own(x86.RSP, false)
		t.e.lea(n, n, 0, 0, d)
		t.setNew(x86.RSP, n)
		return
	}
	t.c.bumped(x86.RSP, d)
	t.c.val[x86.RSP] = to
	t.c.dirty |= 1 << x86.RSP
}

// push translates PUSH: the store first, then RSP.
func (t *translator) push() (stop string) {
	in := t.in
	if in.Width != 8 {
		return "push of 2 bytes"
	}
	if in.NumOps == 0 || in.Op != x86.OpPUSH {
		return "push of flags or a segment"
	}
	switch o := &in.Ops[0]; o.Kind {
	case x86.KindImm:
		ref := t.stack(-8)
		t.fault(FaultAccess)
		t.e.gsStoreImm(8, ref, int32(in.Imm))
		t.prove(ref)
	case x86.KindReg:
		src := uint8(o.Reg)
		if t.k.isVirtual(o.Reg) {
			src = t.value(o.Reg)
		}
		ref := t.stack(-8)
		t.fault(FaultAccess)
		t.e.gsStore(8, ref, src)
		t.prove(ref)
	case x86.KindMem:
		from, stop := t.address(&in.Mem, 8)
		if stop != "" {
			return stop
		}
		n := t.alloc()
		t.fault(FaultAccess)
		t.e.gsLoad(8, n, from)
		t.prove(from)
		t.release(from.n)
		ref := t.stack(-8)
		t.fault(FaultAccess)
		t.e.gsStore(8, ref, n)
		t.prove(ref)
	default:
		return "push of an unknown operand"
	}
	t.moveRSP(-8)
	return ""
}

// pushConst pushes a return address. It is one store, so a constant that is not a sign-extended imm32 needs a register.
func (t *translator) pushConst(c uint64) {
	if fits32(int64(c)) {
		ref := t.stack(-8)
		t.fault(FaultAccess)
		t.e.gsStoreImm(8, ref, int32(c))
		t.prove(ref)
	} else {
		ref := t.stack(-8)
		n := t.alloc()
		t.e.movImm(n, c)
		t.fault(FaultAccess)
		t.e.gsStore(8, ref, n)
		t.prove(ref)
		t.release(n)
	}
	t.moveRSP(-8)
}

// pop translates POP.
func (t *translator) pop() (stop string) {
	in := t.in
	if in.Width != 8 {
		return "pop of 2 bytes"
	}
	if in.NumOps == 0 || in.Op != x86.OpPOP {
		return "pop of flags or a segment"
	}
	switch o := &in.Ops[0]; {
	case o.Kind == x86.KindReg && !t.k.isVirtual(o.Reg):
		ref := t.stack(0)
		t.fault(FaultAccess)
		t.e.gsLoad(8, uint8(o.Reg), ref)
		t.prove(ref)
		t.c.wrote(o.Reg)
		t.moveRSP(8)
	case o.Kind == x86.KindReg:
		ref := t.stack(0)
		n := t.fresh(o.Reg)
		t.fault(FaultAccess)
		t.e.gsLoad(8, n, ref)
		t.prove(ref)
		if o.Reg != x86.RSP { // POP RSP: what was read is the new RSP (SDM, POP)
			t.moveRSP(8)
		}
		t.setNew(o.Reg, n)
	case o.Kind == x86.KindMem:
		if in.Mem.Base == x86.RSP {
			return "pop to an address off RSP" // which is RSP after the pop (SDM, POP); too rare to be worth a case
		}
		if stop := t.addressStop(&in.Mem, 8); stop != "" { // before anything is read
			return stop
		}
		ref := t.stack(0)
		n := t.alloc()
		t.fault(FaultAccess)
		t.e.gsLoad(8, n, ref)
		t.prove(ref)
		t.release(ref.n)
		to, stop := t.address(&in.Mem, 8)
		if stop != "" {
			return stop
		}
		t.fault(FaultAccess)
		t.e.gsStore(8, to, n)
		t.prove(to)
		t.moveRSP(8)
	default:
		return "pop of an unknown operand"
	}
	return ""
}

// leaveFrame translates LEAVE: RSP = RBP, then POP RBP. The saved RBP is read before RSP changes.
func (t *translator) leaveFrame() (stop string) {
	if t.in.Width != 8 {
		return "leave of 2 bytes"
	}
	ref := t.off(x86.RBP, 0)
	l := loc{ref.n, ref.disp}
	n := uint8(x86.RBP)
	if t.k.isVirtual(x86.RBP) {
		n = t.alloc()
	}
	t.fault(FaultAccess)
	t.e.gsLoad(8, n, ref)
	t.prove(ref)
	t.c.wrote(x86.RBP)
	t.c.wrote(x86.RSP)
	t.c.san[x86.RSP] = l
	t.c.val[x86.RSP] = l
	t.moveRSP(8)
	if t.k.isVirtual(x86.RBP) {
		t.setNew(x86.RBP, n)
	}
	return ""
}
