package btc

import "sort"

// VirtualSlots is the number of virtual registers: the program registers whose home is a slot of the context block. The
// slots are the first ones of the block, in the order of virtualReg.
const VirtualSlots = 5

// LinuxVirtualSlots is the same for the kernel Linux.
const LinuxVirtualSlots = 6

// virtualReg lists the virtual registers in slot order: slot i is the quadword at offset 8*i of the context block.
var virtualReg = [LinuxVirtualSlots]uint8{4, 12, 13, 14, 15, 5}

// x86 numbers of the pointers that string instructions use.
const (
	regSI = 6
	regDI = 7
)

// Recover rebuilds the program's general registers (hardware numbering) at a fault. native holds the native registers
// when the fault was raised (native[4], the host's RSP, is ignored), slots the first VirtualSlots quadwords of the
// context block. RIP is f.RIP; the flags are the native ones.
//
// A virtual register is in its slot unless f.Dirty says which native register holds it; a string instruction's pointers
// are still rebased to host addresses when it faults, and are moved back by the distance they have come.
func (f *Fault) Recover(native *[16]uint64, slots *[VirtualSlots]uint64) [16]uint64 {
	return f.recover(native, slots[:])
}

// RecoverLinux is Recover for a blob of the kernel Linux; native[5], the anchor, is ignored too.
func (f *Fault) RecoverLinux(native *[16]uint64, slots *[LinuxVirtualSlots]uint64) [16]uint64 {
	return f.recover(native, slots[:])
}

func (f *Fault) recover(native *[16]uint64, slots []uint64) [16]uint64 {
	out := *native
	for i, v := range slots {
		out[virtualReg[i]] = v
	}
	for _, d := range f.Dirty {
		out[d.Virtual] = native[d.Native] + uint64(int64(d.Delta))
	}
	if s := f.Str; s != nil {
		out[regDI] = native[s.OrigDI] + (native[regDI] - native[s.StartDI])
		if s.HasSI {
			out[regSI] = native[s.OrigSI] + (native[regSI] - native[s.StartSI])
		}
	}
	return out
}

// FaultAt returns the record of the instruction that starts at code offset off, if that instruction may fault.
func (b *Blob) FaultAt(off uint32) (*Fault, bool) {
	i := sort.Search(len(b.Faults), func(i int) bool { return b.Faults[i].Off >= off })
	if i < len(b.Faults) && b.Faults[i].Off == off {
		return &b.Faults[i], true
	}
	return nil, false
}

// FaultOffsets returns the offsets of the instructions that have a record, ascending, for the verifier: never nil.
func (b *Blob) FaultOffsets() []uint32 {
	out := make([]uint32, len(b.Faults))
	for i := range b.Faults {
		out[i] = b.Faults[i].Off
	}
	return out
}

// EntryAt returns the code offset at which the blob may be entered for the program address rip.
func (b *Blob) EntryAt(rip uint64) (uint32, bool) {
	i := sort.Search(len(b.Entries), func(i int) bool { return b.Entries[i].RIP >= rip })
	if i < len(b.Entries) && b.Entries[i].RIP == rip {
		return b.Entries[i].Off, true
	}
	return 0, false
}

// RIPAt returns the program instruction that the code at offset off translates, and false for shared exit code and for
// offsets outside the code.
func (b *Blob) RIPAt(off uint32) (uint64, bool) {
	i := sort.Search(len(b.Lines), func(i int) bool { return b.Lines[i].Off > off }) - 1
	if i < 0 || int(off) >= len(b.Code) || b.Lines[i].RIP == 0 {
		return 0, false
	}
	return b.Lines[i].RIP, true
}
