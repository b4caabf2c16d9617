package sfi

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"ub/target"
)

// Line is what the verifier has to say about one instruction.
type Line struct {
	Off  uint32 // in the code
	Len  uint32 // in bytes; 0 on a line about the blob or an entry, and on one that cannot be decoded
	Text string // the form, the access, and what is known about the registers it writes
	Err  *Error // nil: nothing is wrong here
}

// Explain runs the same verification as Verify and returns a line for each instruction, in order, with every error it
// finds and not just the first. The blob is accepted exactly if no line has an error. After bytes that cannot be decoded
// there are no more lines.
func Explain(code []byte, base uint64, entries []uint32, env Env) []Line {
	var v verifier
	v.run(code, base, entries, env)
	lines := make([]Line, 0, len(v.insts)+len(v.errs))
	for n := range v.blocks {
		b := &v.blocks[n]
		s := b.in
		for i := b.first; i <= b.last; i++ {
			in := &v.insts[i]
			before := s
			s.step(v.machine, in)
			lines = append(lines, Line{Off: in.off, Len: uint32(in.len), Text: in.describe(v.machine, &before, &s)})
		}
	}
	for _, err := range v.errs {
		at, found := slices.BinarySearchFunc(lines, err.Off, func(l Line, off uint32) int { return int(l.Off) - int(off) })
		if found && lines[at].Err == nil {
			lines[at].Err = err
			continue
		}
		for at < len(lines) && lines[at].Off == err.Off {
			at++
		}
		lines = slices.Insert(lines, at, Line{Off: err.Off, Text: "-", Err: err})
	}
	return lines
}

// describe says what an instruction is to the verifier. before and after are the states around it.
func (in *inst) describe(m *machine, before, after *state) string {
	parts := []string{in.form.mnemonic}
	if in.lock {
		parts[0] = "lock " + parts[0]
	}
	if in.rep {
		parts[0] = "rep " + parts[0]
	}
	switch {
	case m.isPoll(in):
		parts = append(parts, "poll")
	case in.form.fx == fxMovs || in.form.fx == fxStos:
		parts = append(parts, fmt.Sprintf("rdi %v, rsi %v, rcx %v", before[regRDI], before[regRSI], before[regRCX]))
	case in.msize != 0:
		parts = append(parts, in.describeAccess(m, before))
	case in.form.flow != flowNext:
		parts = append(parts, fmt.Sprintf("to %+#x", in.target))
	}
	for c := in.clobber; c != 0; c &= c - 1 {
		if r := bits.TrailingZeros16(c); after[r].kind != unknown {
			parts = append(parts, fmt.Sprintf("%s: %v", regNames[r], after[r]))
		}
	}
	if in.program && in.base < 16 && in.clobber>>in.base&1 == 0 && before[in.base] != after[in.base] {
		parts = append(parts, fmt.Sprintf("so %s: %v", regNames[in.base], after[in.base]))
	}
	return strings.Join(parts, "; ")
}

func (in *inst) describeAccess(m *machine, before *state) string {
	verb := "reads"
	switch {
	case in.mread && in.mwrite:
		verb = "updates"
	case in.mwrite:
		verb = "writes"
	}
	where, window := "memory", "window"
	if m.kernel == target.Linux {
		window = "program memory"
	}
	switch {
	case in.program && in.base == regNone:
		where = fmt.Sprintf("%s at %#x", window, in.disp)
	case in.program && in.base < 16:
		where = fmt.Sprintf("%s at %s%+#x (%s: %v)", window, regNames[in.base], in.disp, regNames[in.base], before[in.base].asWindow())
	case in.base == m.touch.base && in.index != regNone:
		where = fmt.Sprintf("touch slot (%s: %v)", regNames[in.index], before[in.index])
	case in.base == regRSP:
		where = "slot " + slotName(m.kernel, in.disp)
	}
	return fmt.Sprintf("%s %d bytes of %s", verb, in.msize, where)
}

func slotName(k target.Kernel, disp int32) string {
	names := map[int32]string{
		target.SlotRSP: "rsp", target.SlotR12: "r12", target.SlotR13: "r13", target.SlotR14: "r14", target.SlotR15: "r15",
		target.SlotScratch0: "scratch0", target.SlotScratch1: "scratch1", target.SlotScratch2: "scratch2",
		target.SlotFSBase: "fsbase", target.SlotAddrMask: "addrmask", target.SlotSpare: "spare",
		target.SlotPoll: "poll", target.SlotBase: "base",
	}
	if k == target.Linux {
		names[target.LinuxSlotRBP] = "rbp"
		delete(names, target.SlotPoll)
		delete(names, target.SlotBase)
	}
	if n, ok := names[disp&^7]; ok && disp >= 0 {
		if disp&7 != 0 {
			return fmt.Sprintf("%s+%d", n, disp&7)
		}
		return n
	}
	return fmt.Sprintf("%+#x", disp)
}
