package sfi

import "ub/target"

const (
	regRCX = 1
	regRSI = 6
	regRDI = 7
)

// checkAccess checks the memory that an instruction touches, given what is known in front of it.
func (s *state) checkAccess(in *inst) *Error {
	switch {
	case in.form.fx == fxMovs || in.form.fx == fxStos:
		return s.checkString(in)
	case in.msize == 0:
		return nil
	case in.gs:
		return s.checkWindow(in)
	case in.base == regRSP:
		return s.checkBlock(in)
	}
	return refuse(in.off, RuleMemory, "program memory without GS")
}

// checkWindow checks gs:[base+disp]. Each byte touched must be within DispLimit of a sanitized address, or within WalkLimit of
// one that was accessed; the window and its guards do the rest.
func (s *state) checkWindow(in *inst) *Error {
	if in.index != regNone {
		return refuse(in.off, RuleMemory, "gs: with an index register")
	}
	if in.base == regNone {
		if in.disp < 0 {
			return refuse(in.off, RuleMemory, "gs:[disp32] below zero")
		}
		return nil
	}
	if in.base == regRIP || in.base == regRSP {
		return refuse(in.off, RuleMemory, "gs: with RIP or RSP")
	}
	v := s[in.base].asWindow()
	if v.kind != isWindow && v.kind != isTouched {
		return refuse(in.off, RuleAddress, "%s is not a sanitized address but %v", regNames[in.base], v)
	}
	lo, hi := v.lo+int64(in.disp), v.hi+int64(in.disp)+int64(in.msize)
	if near(v.kind, lo, hi).kind == unknown {
		return refuse(in.off, RuleAddress, "%s%+#x, %d bytes: %s is %v, so that is too far from a sanitized address or the last one accessed",
			regNames[in.base], in.disp, in.msize, regNames[in.base], v)
	}
	return nil
}

// checkBlock checks [rsp+disp], the context block, and the poll word below it.
func (s *state) checkBlock(in *inst) *Error {
	if in.form.vec != target.VecNone {
		return refuse(in.off, RuleSlot, "a vector instruction with the context block: nothing needs it")
	}
	if in.index != regNone {
		return s.checkTouch(in)
	}
	// 64 bits, so that the sums cannot wrap.
	d, size, end := int64(in.disp), int64(in.msize), int64(target.SlotsEnd)
	if in.mwrite {
		end = target.WritableEnd
	}
	switch {
	case in.isPoll():
		return nil
	case d < 0:
		return refuse(in.off, RuleSlot, "[rsp%+#x], %d bytes: below the context block, and not a poll, mov r32, [rsp%+#x]", d, size, target.PollDisp)
	case d+size > end:
		return refuse(in.off, RuleSlot, "[rsp%+#x], %d bytes: outside of the slots that may be accessed so", d, size)
	case d%8+size > 8:
		return refuse(in.off, RuleSlot, "[rsp%+#x], %d bytes: not within one slot", d, size)
	case d/8*8 == target.SlotPoll:
		return refuse(in.off, RulePoll, "SlotPoll is read: it is for Dispatch; blobs poll at [rsp%+#x]", target.PollDisp)
	}
	return nil
}

// checkTouch checks mov r, [rsp+index*8+SlotTouch]: with an index below 32 it reads the block's last quadword or the
// page behind it, which is never mapped.
func (s *state) checkTouch(in *inst) *Error {
	if in.form.fx != fxCopy || in.mwrite || in.osz < 4 || in.scale != 8 || in.disp != target.SlotTouch {
		return refuse(in.off, RuleMemory, "the context block with an index register, and not the touch pattern")
	}
	if v := s[in.index]; v.kind != isNum || v.hi > 31 {
		return refuse(in.off, RuleTouch, "%s is not proved to be a tag, but %v", regNames[in.index], v)
	}
	return nil
}

// checkString checks MOVS and STOS: RDI and, for MOVS, RSI point into the window, and the elements above them too. The
// direction is up, since nothing on the allow-list sets DF.
func (s *state) checkString(in *inst) *Error {
	extent := int64(in.elem())
	if in.rep {
		n := s[regRCX]
		if n.kind != isNum || n.hi > target.MaxRepCount {
			return refuse(in.off, RuleCount, "rcx is not proved to be at most %d, but %v", target.MaxRepCount, n)
		}
		extent *= n.hi
	}
	regs := []uint8{regRDI, regRSI}
	if in.form.fx == fxStos {
		regs = regs[:1]
	}
	for _, r := range regs {
		v := s[r]
		if v.kind != isAbsolute || v.add(extent).kind == unknown {
			return refuse(in.off, RuleAddress, "%s is not proved to lie in the window with %d bytes above it, but %v", regNames[r], extent, v)
		}
	}
	return nil
}

// elem returns the element size of a string instruction.
func (in *inst) elem() uint8 {
	if in.form.p66 == absent {
		return 1
	}
	return in.osz
}
