package btc

import "ub/x86"

// highByte translates instructions on AH, CH, DH or BH that cannot be encoded as they are because the translation needs
// REX: for the reserved register in their address, or for a renamed one. done is false for all others.
func (t *translator) highByte() (stop string, done bool) {
	in := t.in
	h, m := -1, -1
	for i := range in.Ops[:in.NumOps] {
		switch o := &in.Ops[i]; {
		case o.Kind == x86.KindReg && o.Reg >= x86.AH && o.Reg <= x86.BH && o.Field != x86.FieldImplicit:
			h = i
		case o.Kind == x86.KindReg && t.k.isVirtual(o.Reg):
			m = i
		case o.Kind == x86.KindMem:
			m = i
		}
	}
	if h < 0 || m < 0 {
		return "", false
	}
	if in.Ops[m].Kind == x86.KindReg {
		return "high byte register with a virtual register", true
	}
	ref, stop := t.address(&in.Mem, 1)
	if stop != "" {
		return stop, true
	}
	high, mem := &in.Ops[h], &in.Ops[m]
	low := high.Reg - x86.AH
	writesMem := mem.Access&(x86.Write|x86.CondWrite) != 0
	switch {
	case ref.n == 0: // no REX needed
		t.emit(in, x86.Subst{}.Mem(t.e.at(ref)), memRef{})
	case high.Access&(x86.Write|x86.CondWrite) == 0:
		// Only read: a copy does, but not of what the instruction uses implicitly besides (CMPXCHG).
		n := t.alloc()
		t.e.rorx(n, uint8(low), 8)
		t.emit(in, x86.Subst{}.Field(high.Field, x86.Reg(n)).Mem(t.e.at(ref)), ref)
	case writesMem:
		return "high byte register exchanged with memory", true
	default:
		// The access first, then the operation on registers, with the two low bytes exchanged meanwhile.
		n := t.alloc()
		t.fault(FaultAccess)
		t.e.gsLoad(1, n, ref)
		t.prove(ref)
		t.e.xchgHigh(uint8(low))
		t.e.inst(in, x86.Subst{}.Field(high.Field, low).RM(x86.Reg(n)))
		t.e.xchgHigh(uint8(low))
	}
	t.wroteNatives()
	return "", true
}
