package target

// Kernel names one of the two kernels that translated code is made for. Their contracts differ in the places that the
// constants below name, and in nothing else: docs/kernel-module.md has the one for Linux in prose.
type Kernel uint8

const (
	// Sentry: the code runs in user mode inside gVisor's kernel process; program memory is a window behind GS.
	Sentry Kernel = iota
	// Linux: the code runs in kernel mode inside the module ub.ko; program memory is the lower half of the address space.
	Linux
	NumKernels
)

func (k Kernel) String() string {
	switch k {
	case Sentry:
		return "sentry"
	case Linux:
		return "linux"
	}
	return "?"
}

// The contract for the kernel Linux. The context block's slots are those above up to and with SlotAddrMask, with the
// constant below in the mask, but for these differences:
//   - The program's RBP is a virtual register too; its slot is the one that is SlotScratch0 for the Sentry.
//   - Native RBP is the *anchor*: the address of a readable quadword that is 0, the last one of its page; nothing is
//     mapped in the page behind. Translated code reads it in two ways only, the poll and the touch, and never changes it. Its low
//     six bits are TagShift, so it is SHRX's count for a tag.
//   - There is no SlotSpare, no SlotPoll and no SlotBase.
const (
	LinuxSlotRBP  = SlotScratch0 // program's RBP; writable
	LinuxSlotsEnd = 0x50         // first offset that translated code may not touch

	// LinuxAddrMask is PDEP's mask for a sanitized address: bits 0 to 46 stay, bits 47 to 62 move up by one, bit 63 is dropped: it
	// is part of the tag. What was a kernel address
	// is not canonical then, and faults.
	LinuxAddrMask = ^(uint64(1) << 47)

	// LinuxAddrBits: a number below 1<<LinuxAddrBits is a sanitized address as it is, and so is SlotFSBase.
	LinuxAddrBits = 47

	// An access may lie this far from a sanitized address w: every byte touched lies in [w-LinuxBelow, w+LinuxAbove).
	// Below address 0 is the last 2 MiB of the address space, in which Linux maps nothing (Documentation/arch/x86/x86_64/mm.rst,
	// "unused hole"); above 2^63 is what is not canonical.
	LinuxBelow = 1 << 20
	LinuxAbove = 1 << 32

	// LinuxPollDisp is where a blob polls: mov r32, [rbp+LinuxPollDisp]. To make a thread leave, the module's timer moves the
	// anchor in the registers that it has interrupted, by a multiple of 64, to the page that is not mapped.
	LinuxPollDisp = 0

	// LinuxTouch: reading [rbp + tag*8 + LinuxTouch] faults unless tag is 0.
	LinuxTouch = 0
)
