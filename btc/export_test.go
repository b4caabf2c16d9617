package btc

import (
	"ub/target"
	"ub/x86"
)

// Narrows is what is known of the registers behind in, if before is what is known of them in front of it.
func Narrows(k target.Kernel, in *x86.Inst, before [16]uint8) [16]uint8 {
	t := &translator{k: &kernels[k], in: in}
	t.c.narrow = before
	return t.narrows()
}

// NarrowOf is all there is to know of a number.
func NarrowOf(v uint64) uint8 { return ofConst(int64(v)) }
