package sfi

import "ub/target"

const (
	regRCX = 1
	regRSI = 6
	regRDI = 7
)

// checkAccess checks the memory that an instruction touches, given what is known in front of it.
func (s *state) checkAccess(m *machine, in *inst) *Error {
	switch {
	case in.form.fx == fxMovs || in.form.fx == fxStos:
		return s.checkString(m, in)
	case in.msize == 0:
		return nil
	case in.program:
		return s.checkProgram(m, in)
	case in.base == regRSP:
		return s.checkBlock(m, in)
	case in.base == regRBP && m.kernel == target.Linux:
		return s.checkAnchor(m, in)
	}
	return refuse(in.off, RuleMemory, "program memory without GS")
}

// checkProgram checks gs:[base+disp], in Linux [base+disp]. Each byte touched must be within reach of a sanitized address, or
// of one that was accessed; what is around the program's memory does the rest.
func (s *state) checkProgram(m *machine, in *inst) *Error {
	if in.index != regNone {
		return refuse(in.off, RuleMemory, "program memory with an index register")
	}
	if in.base == regNone {
		if in.disp < 0 {
			return refuse(in.off, RuleMemory, "program memory at [disp32] below zero")
		}
		return nil
	}
	if in.base == regRIP || in.base == regRSP {
		return refuse(in.off, RuleMemory, "program memory with RIP or RSP")
	}
	v := s[in.base].asWindow()
	if v.kind != isWindow && v.kind != isTouched {
		return refuse(in.off, RuleAddress, "%s is not a sanitized address but %v", regNames[in.base], v)
	}
	if !m.reaches(v, int64(in.disp), int64(in.msize)) {
		return refuse(in.off, RuleAddress, "%s%+#x, %d bytes: %s is %v, so that is too far from a sanitized address or the last one accessed",
			regNames[in.base], in.disp, in.msize, regNames[in.base], v)
	}
	return nil
}

// reaches tells whether size bytes at v+d are near enough to what is known of v.
func (m *machine) reaches(v value, d, size int64) bool {
	if v.kind == isWindow && m.near(isWindow, v.lo+d, v.hi+d+size).kind == isWindow {
		return true
	}
	if v.kind == isWindow && !v.also {
		return false
	}
	lo, hi := v.walk()
	return lo+d >= -m.walkBelow && m.near(isTouched, lo+d, hi+d+size).kind == isTouched
}

// checkBlock checks [rsp+disp], the context block, and under the Sentry the poll word below it.
func (s *state) checkBlock(m *machine, in *inst) *Error {
	if in.form.vec != target.VecNone {
		return refuse(in.off, RuleSlot, "a vector instruction with the context block: nothing needs it")
	}
	if in.index != regNone {
		return s.checkTouch(m, in)
	}
	// 64 bits, so that the sums cannot wrap.
	d, size, end := int64(in.disp), int64(in.msize), m.slots
	if in.mwrite {
		end = target.WritableEnd
	}
	switch {
	case m.isPoll(in):
		return nil
	case d < 0 && m.kernel == target.Linux:
		return refuse(in.off, RuleSlot, "[rsp%+#x], %d bytes: below the context block", d, size)
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

// checkAnchor checks [rbp+...] in Linux: a poll or the touch, and nothing else.
func (s *state) checkAnchor(m *machine, in *inst) *Error {
	switch {
	case m.isPoll(in):
		return nil
	case in.index == regNone:
		return refuse(in.off, RuleRBP, "[rbp%+#x], and not a poll, mov r32, [rbp%+#x]", in.disp, target.LinuxPollDisp)
	}
	return s.checkTouch(m, in)
}

// checkTouch checks the touch pattern. Under the Sentry it is mov r, [rsp+index*8+SlotTouch]: with a tag it reads
// the block's last quadword or the page behind it, which is never mapped. In Linux it is mov r, [rbp+index*8+LinuxTouch], and
// the anchor is the last quadword of its page.
func (s *state) checkTouch(m *machine, in *inst) *Error {
	if in.form.fx != fxCopy || in.mwrite || in.osz < 4 || in.scale != 8 || in.base != m.touch.base || in.disp != m.touch.disp {
		return refuse(in.off, RuleMemory, "the context block or the anchor with an index register, and not the touch pattern")
	}
	if v := s[in.index]; v.kind != isNum || v.hi > target.MaxTag {
		return refuse(in.off, RuleTouch, "%s is not proved to be a tag, but %v", regNames[in.index], v)
	}
	return nil
}

// checkString checks MOVS and STOS: RDI and, for MOVS, RSI point into program memory, and the elements above them too. Under
// the Sentry they are host addresses, in Linux sanitized ones as they are. The direction is up, since nothing on the
// allow-list sets DF.
func (s *state) checkString(m *machine, in *inst) *Error {
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
		v, want := s[r], isAbsolute
		if m.kernel == target.Linux {
			v, want = v.asWindow(), isWindow
		}
		if v.kind != want || m.near(want, v.lo, v.hi+extent).kind == unknown {
			return refuse(in.off, RuleAddress, "%s is not proved to lie in program memory with %d bytes above it, but %v", regNames[r], extent, v)
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
