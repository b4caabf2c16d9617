package sfi

import "ub/target"

// mayFault tells whether in may raise an exception: by an access to program memory, as polls and touches do, by a division, by
// floating point that the program has unmasked, or since the processor does not have it.
func (in *inst) mayFault(k target.Kernel) bool {
	switch {
	case in.form.fx == fxMovs || in.form.fx == fxStos, in.form.raises, in.form.vec != target.VecNone:
		return true
	case in.msize == 0:
		return false
	case in.program:
		return true
	case k == target.Linux:
		return in.base == regRBP
	}
	return in.base == regRSP && (in.index != regNone || in.disp == target.PollDisp)
}

// checkFaults checks, if nothing else is wrong, that each instruction that may fault is among Env.Faults. What has no record
// would take down whoever runs the blob: the program's registers are lost, and in a kernel there is no landing place.
func (v *verifier) checkFaults() {
	if v.env.Faults == nil || len(v.errs) != 0 {
		return
	}
	next := 0
	for i := range v.insts {
		in := &v.insts[i]
		for next < len(v.env.Faults) && v.env.Faults[next] < in.off {
			next++
		}
		known := next < len(v.env.Faults) && v.env.Faults[next] == in.off
		if !known && in.mayFault(v.env.Kernel) &&
			v.fail(refuse(in.off, RuleFault, "%s may raise an exception, and there is no fault record for it", in.form.mnemonic)) {
			return
		}
	}
}
