package btc

import "ub/x86"

// refusal returns why an instruction that the decoder describes is not translated, or "". The verifier has its own list
// of what may run; this one need not be the same, but a form that is missing here and there costs the whole blob.
func refusal(in *x86.Inst) string {
	switch in.Op {
	case x86.OpMOVNTI:
		return "non-temporal store"
	case x86.OpADCX, x86.OpADOX, x86.OpRDRAND, x86.OpRDSEED, x86.OpRDPID:
		// Where the processor lacks it, this raises an exception that only the program's own process can take.
		return in.Op.String() + " does not exist on every processor"
	}
	return ""
}
