package sfi

import "ub/target"

// checkControl checks entries and jumps, and marks where basic blocks start. complete is whether insts covers the code.
func (v *verifier) checkControl(complete bool, entries []uint32) (stop bool) {
	// Behind where decoding has failed, which is refused already, nothing is known, and nothing to be said.
	unread := func(t int64) bool {
		n := len(v.insts)
		return !complete && t < int64(len(v.code)) && (n == 0 || t >= int64(v.insts[n-1].off)+int64(v.insts[n-1].len))
	}
	for _, e := range entries {
		if unread(int64(e)) {
			continue
		}
		if int64(e) >= int64(len(v.code)) || v.at[e] < 0 {
			if v.fail(refuse(e, RuleEntry, "an entry that is not the start of an instruction")) {
				return true
			}
			continue
		}
		in := &v.insts[v.at[e]]
		in.mark |= markLeader
		// The module jumps to entries, and a kernel may have indirect branch tracking on.
		if v.env.Kernel == target.Linux && !in.form.landing && v.fail(refuse(e, RuleEntry, "an entry that is not an endbr64")) {
			return true
		}
	}
	v.markLeader(0)
	for i := range v.insts {
		in := &v.insts[i]
		if in.form.flow == flowNext {
			continue
		}
		v.markLeader(i + 1)
		if unread(in.target) {
			continue
		}
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
	if i < 0 {
		return -1, refuse(in.off, RuleTarget, "a jump to +%#x, which is not the start of an instruction", t)
	}
	if t <= int64(in.off) && !v.machine.isPoll(&v.insts[i]) {
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
