package sfi

import "ub/target"

// markPolls finds the polls: mov t, [rsp+SlotPoll] with mov t(32), [t] right behind it.
func (v *verifier) markPolls() {
	for i := 0; i+1 < len(v.insts); i++ {
		a, b := &v.insts[i], &v.insts[i+1]
		if a.loads(target.SlotPoll) && b.form.fx == fxCopy && b.dst == a.dst && b.osz == 4 &&
			b.hasMem && !b.gs && b.base == a.dst && b.index == regNone && b.disp == 0 {
			a.mark |= markPoll
			b.mark |= markPollRead
		}
	}
}

// loads tells whether in is mov r64, [rsp+slot].
func (in *inst) loads(slot int32) bool {
	return in.form.fx == fxCopy && in.osz == 8 && in.dst != regNone && in.reads(slot)
}

// checkControl checks entries and jumps, and marks where basic blocks start. complete is whether insts covers the code.
func (v *verifier) checkControl(complete bool, entries []uint32) (stop bool) {
	for _, e := range entries {
		if int64(e) >= int64(len(v.code)) || v.at[e] < 0 || v.insts[v.at[e]].mark&markPollRead != 0 {
			if v.fail(refuse(e, RuleEntry, "an entry that is not the start of an instruction, or inside a poll")) {
				return true
			}
			continue
		}
		v.insts[v.at[e]].mark |= markLeader
	}
	v.markLeader(0)
	for i := range v.insts {
		in := &v.insts[i]
		if in.form.flow == flowNext {
			continue
		}
		v.markLeader(i + 1)
		if t, err := v.checkJump(in); t >= 0 {
			v.markLeader(t)
		} else if v.fail(err) {
			return true
		}
	}
	if n := len(v.insts); complete && v.insts[n-1].form.flow != flowJmp {
		return v.fail(refuse(v.insts[n-1].off, RuleEnd, "the last instruction is not a jmp"))
	}
	return false
}

func (v *verifier) markLeader(i int) {
	if i < len(v.insts) {
		v.insts[i].mark |= markLeader
	}
}

// checkJump returns the index of the instruction that a jump leads to, or -1 for one that leaves the blob.
func (v *verifier) checkJump(in *inst) (int, *Error) {
	t := in.target
	if t < 0 || t >= int64(len(v.code)) {
		if in.form.flow == flowJmp && in.len == 5 && v.isSym(v.base+uint64(t)) {
			return -1, nil
		}
		return -1, refuse(in.off, RuleTarget, "a jump to %#x, which is neither in the blob nor a symbol", v.base+uint64(t))
	}
	i := v.at[t]
	if i < 0 || v.insts[i].mark&markPollRead != 0 {
		return -1, refuse(in.off, RuleTarget, "a jump to +%#x, which is not the start of an instruction, or inside a poll", t)
	}
	if t <= int64(in.off) && v.insts[i].mark&markPoll == 0 {
		return -1, refuse(in.off, RuleBackward, "a backward jump to +%#x, where there is no poll", t)
	}
	return int(i), nil
}

// isSym tells whether addr is a trampoline.
func (v *verifier) isSym(addr uint64) bool {
	for _, s := range v.env.Syms {
		if s == addr && s != 0 {
			return true
		}
	}
	return false
}
