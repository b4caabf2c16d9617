package btc

import (
	"math/bits"

	"ub/target"
	"ub/x86"
)

// rules is what the translator must know about the kernel that runs the blob: docs/btc-machine.md, docs/kernel-module.md.
type rules struct {
	kernel   target.Kernel
	virtuals []x86.Reg  // the virtual registers, in the order of their slots
	virtual  x86.RegSet // the same as a set
	seg      x86.Seg    // of every access to program memory
	addrEnd  uint64     // constants below this are addresses as they are

	// An access may start this far below and above a sanitized address, and below one that was accessed. (Above that it is
	// walkLimit.) touches: these differ, so both distances must be remembered.
	below, above, walkBelow int64
	touches                 bool

	// PDEP drops tagBits bits, the upper ones, of an address. What has been accessed is of narrowness narrowAddr.
	tagBits, narrowAddr uint8
}

var kernels = [target.NumKernels]rules{
	target.Sentry: {
		kernel:   target.Sentry,
		virtuals: []x86.Reg{x86.RSP, x86.R12, x86.R13, x86.R14, x86.R15},
		seg:      x86.SegGS,
		addrEnd:  target.WindowSize,
		// The limits could be those of package target. These do as well, and one pair of bounds a register is enough.
		below: walkLimit, above: walkLimit, walkBelow: walkLimit,
		tagBits: 5, narrowAddr: topBits - target.WindowBits,
	},
	target.Linux: {
		kernel:   target.Linux,
		virtuals: []x86.Reg{x86.RSP, x86.R12, x86.R13, x86.R14, x86.R15, x86.RBP},
		seg:      x86.SegNone,
		addrEnd:  1 << target.LinuxAddrBits,
		// A page less than the verifier's. The last one is small: see docs/kernel-module.md.
		below: target.LinuxBelow - 1<<12, above: 1 << 31, walkBelow: 512, touches: true,
		tagBits: 1, narrowAddr: topBits - 56, // with five levels of page tables
	},
}

func init() {
	for k := range kernels {
		for _, v := range kernels[k].virtuals {
			kernels[k].virtual |= 1 << v
		}
	}
}

// addrBits is the number of bits of an address in the window.
func (k *rules) addrBits() int { return bits.Len64(k.addrEnd - 1) }

func (k *rules) isVirtual(g x86.Reg) bool { return g < 16 && k.virtual&(1<<g) != 0 }

// inAddressSpace reports whether size bytes at the constant c are program addresses.
func (k *rules) inAddressSpace(c uint64, size int) bool {
	return c < k.addrEnd && c+uint64(size) <= k.addrEnd
}

// slotOf is the offset of virtual register v's slot.
func slotOf(v x86.Reg) int32 {
	switch v {
	case x86.RSP:
		return target.SlotRSP
	case x86.RBP:
		return target.LinuxSlotRBP
	}
	return target.SlotR12 + 8*int32(v-x86.R12)
}
