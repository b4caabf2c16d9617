package btc

import (
	"ub/target"
	"ub/x86"
)

// String instructions. Without REP each is one element: an access (or two) and a step of the pointers, DF being 0, for which
// ordinary instructions do, and the pointers need not be rebased. With REP, MOVS and STOS run natively on
// rebased pointers; they exist for their speed on long operands. REP LODS, SCAS and CMPS are rare and not translated.
func (t *translator) str() (stop string) {
	in := t.in
	if in.Mem.Seg == x86.SegFS || in.Mem.Seg == x86.SegGS || in.Mem.Addr32 {
		return "string instruction with a segment or 32-bit addresses"
	}
	if in.Rep || in.RepNE {
		if in.Op != x86.OpMOVS && in.Op != x86.OpSTOS {
			return "REP " + in.Op.String()
		}
		t.rep()
		return ""
	}
	w := in.Width
	d := int32(w)
	const acc = uint8(x86.RAX)
	switch in.Op {
	case x86.OpLODS:
		src := t.pointer(x86.RSI)
		t.fault(FaultAccess)
		t.e.gsLoad(w, acc, src)
		t.prove(src)
		t.c.wrote(x86.RAX)
		t.step(x86.RSI, d)
	case x86.OpSTOS:
		dst := t.pointer(x86.RDI)
		t.fault(FaultAccess)
		t.e.gsStore(w, dst, acc)
		t.prove(dst)
		t.step(x86.RDI, d)
	case x86.OpMOVS:
		src := t.pointer(x86.RSI)
		dst := t.pointer(x86.RDI)
		n := t.alloc()
		t.fault(FaultAccess)
		t.e.gsLoad(w, n, src)
		t.prove(src)
		t.fault(FaultAccess)
		t.e.gsStore(w, dst, n)
		t.prove(dst)
		t.step(x86.RSI, d)
		t.step(x86.RDI, d)
	case x86.OpSCAS:
		dst := t.pointer(x86.RDI)
		t.fault(FaultAccess)
		t.e.gsCmp(w, acc, dst)
		t.prove(dst)
		t.step(x86.RDI, d)
	case x86.OpCMPS:
		src := t.pointer(x86.RSI)
		dst := t.pointer(x86.RDI)
		n := t.alloc()
		t.fault(FaultAccess)
		t.e.gsLoad(w, n, src)
		t.prove(src)
		t.fault(FaultAccess)
		t.e.gsCmp(w, n, dst)
		t.prove(dst)
		t.step(x86.RSI, d)
		t.step(x86.RDI, d)
	default:
		return "string instruction " + in.Op.String()
	}
	return ""
}

func (t *translator) pointer(g x86.Reg) memRef { return t.off(g, 0) }

// step moves a string pointer by d bytes, without touching the flags.
func (t *translator) step(g x86.Reg, d int32) {
	t.e.lea(uint8(g), uint8(g), 0, 0, d)
	t.c.bumped(g, d)
}

// rep translates REP MOVS and REP STOS. Native RDI and RSI become host addresses while the instruction runs, and its
// fault record says how to turn them back; RCX counts as it does for the program. All four reserved registers are
// needed, so the virtual ones go home first.
func (t *translator) rep() {
	const (
		rcx, rsi, rdi = uint8(x86.RCX), uint8(x86.RSI), uint8(x86.RDI)
		startSI       = 15
		origSI        = 14
		startDI       = 13
		origDI        = 12
		tmp           = origDI
	)
	t.flush()
	t.c.reset()
	hasSI := t.in.Op == x86.OpMOVS

	// A count of 2^16 and more would run too long without a poll; natively it runs to its end. The verifier wants to
	// see the bound, hence the MOVZX of what is known to be the whole of RCX.
	ok := t.e.newLabel()
	t.e.mov(startSI, rcx)
	t.e.movImm(origSI, 16)
	t.e.shrx(rcx, rcx, origSI)
	t.e.jrcxz(ok)
	t.e.mov(rcx, startSI)
	t.e.jmp(t.coldExit(target.SymStop, t.in.Addr))
	t.e.bind(ok)
	t.e.movzx16(rcx, startSI)

	check := func(g uint8) {
		if t.o.NoTagCheck {
			return
		}
		t.e.tag(tmp, g)
		t.fault(FaultTouch)
		t.e.touch(tmp)
	}
	check(rdi)
	if hasSI {
		check(rsi)
	}
	t.e.mov(origDI, rdi)
	based := t.k.kernel == target.Sentry // the address of the window is added
	t.e.pdep(startDI, rdi, target.SlotAddrMask)
	if based {
		t.e.load(origSI, target.SlotBase)
		t.e.lea(startDI, startDI, origSI, 1, 0)
	}
	fix := &StringFix{OrigDI: origDI, StartDI: startDI}
	if hasSI {
		t.e.pdep(startSI, rsi, target.SlotAddrMask)
		if based {
			t.e.lea(startSI, startSI, origSI, 1, 0)
		}
		t.e.mov(origSI, rsi)
		t.e.mov(rsi, startSI)
		fix.HasSI, fix.OrigSI, fix.StartSI = true, origSI, startSI
	}
	t.e.mov(rdi, startDI)
	t.e.fault(FaultString, t.in.Addr, nil)
	t.e.setString(fix)
	t.e.rep(hasSI, t.in.Width)

	// p = orig + (p - start), and -start is ~start + 1.
	t.e.not(startDI)
	t.e.lea(rdi, rdi, startDI, 1, 1)
	t.e.lea(rdi, rdi, origDI, 1, 0)
	if hasSI {
		t.e.not(startSI)
		t.e.lea(rsi, rsi, startSI, 1, 1)
		t.e.lea(rsi, rsi, origSI, 1, 0)
		t.c.wrote(x86.RSI)
	}
	t.c.wrote(x86.RDI)
	t.c.wrote(x86.RCX)
}
