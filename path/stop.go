package path

import (
	"fmt"

	"ub/x86"
)

// StopReason returns why an instruction ends every path, whatever translates it, or "" when it does not: what the
// decoder's allow-list does not describe, what traps or is privileged, vector and x87 instructions, and a few integer
// forms whose addresses or effects are out of the ordinary and that hot code does not use.
func StopReason(in *x86.Inst) string {
	switch {
	case in.Flow == x86.FlowStop, in.Class == x86.ClassStop:
		return fmt.Sprintf("%s is left to the processor", in.Op)
	case in.Class == x86.ClassVector:
		return "vector and x87 instructions are not translated"
	case !in.Known:
		return fmt.Sprintf("%s is not described", in.Op)
	case in.Class == x86.ClassEnter:
		return "enter is not translated"
	case in.BitOffset:
		return fmt.Sprintf("%s with a bit offset in a register reaches beyond its operand", in.Op)
	case in.HasMem && (in.Mem.Addr32 || in.Mem.Seg == x86.SegGS):
		return "memory operand with a 32-bit address or segment GS"
	case in.FlagsWritten&x86.DF != 0 && in.Op != x86.OpCLD:
		return fmt.Sprintf("%s may set the direction flag", in.Op)
	}
	switch in.Op {
	case x86.OpXLAT, x86.OpPUSHF, x86.OpPOPF, x86.OpSTD:
		return fmt.Sprintf("%s is not translated", in.Op)
	case x86.OpJRCXZ, x86.OpLOOP, x86.OpLOOPE, x86.OpLOOPNE:
		if in.Width != 8 {
			return fmt.Sprintf("%s with a 32-bit count", in.Op)
		}
	case x86.OpSCAS, x86.OpCMPS, x86.OpLODS:
		if in.Rep || in.RepNE {
			return fmt.Sprintf("rep %s is not translated", in.Op)
		}
	}
	return ""
}
