package sfi

import (
	"fmt"

	"ub/target"
)

// Addresses of the machine that the oracle's walks run on in Linux.
const (
	linuxBlock  = 0xffff_c900_0123_3000
	linuxAnchor = 0xffff_8880_0432_1ff8
	linuxFSBase = 0x7fff_1234_5740
	userEnd     = 1 << 47
	hole        = 2 << 20 // at the end of the address space
	guardHole   = 8 << 40 // where the kernel's half begins
	walkDown    = 512
	kernelHalf  = 0xffff<<48 | 1<<47
)

func (o *oracle) linux() bool { return o.env.Kernel == target.Linux }

// checkShapeLinux looks at the operands of one instruction, as checkShape does for the Sentry.
func (o *oracle) checkShapeLinux(f *zFacts, str bool) error {
	switch {
	case o.z.inst.attr&zAttrSegment != 0:
		return fmt.Errorf("segment prefix")
	case f.rbp:
		return fmt.Errorf("rbp is an operand")
	case f.mnemonic == "rdpid":
		return fmt.Errorf("the processor's number may be a guest's")
	}
	for _, m := range f.mems {
		switch {
		case f.mnemonic == "nop" && m.base == 0 && m.disp == 0:
		case m.index == 5:
			return fmt.Errorf("rbp as an index")
		case m.kind == zMemAgen && f.mnemonic == "lea":
			if m.base == 4 || m.base == 5 {
				return fmt.Errorf("address of rsp or rbp")
			}
		case m.kind != zMemNormal:
			return fmt.Errorf("kind of memory operand %d", m.kind)
		case str:
			if !m.hidden {
				return fmt.Errorf("string operand %+v", m)
			}
		case m.hidden:
			return fmt.Errorf("hidden memory operand")
		case m.base == 5:
			touch := f.mnemonic == "mov" && m.index >= 0 && !m.write && m.scale == 8 && m.disp == 0 && m.size >= 4
			if f.vec != target.VecNone || !touch && !f.isPollLinux() {
				return fmt.Errorf("neither a poll nor a touch: %+v", m)
			}
		case m.base == 4:
			if f.vec != target.VecNone || m.index >= 0 || m.disp < 0 {
				return fmt.Errorf("shape of %+v", m)
			}
		default:
			if m.index >= 0 || m.base == regRIP || m.base < 0 && m.disp < 0 {
				return fmt.Errorf("shape of %+v", m)
			}
		}
	}
	return nil
}

// isPollLinux tells whether f is a poll in Linux.
func (f *zFacts) isPollLinux() bool {
	if f.mnemonic != "mov" || f.destReg < 0 || f.destBits != 32 || len(f.mems) != 1 {
		return false
	}
	m := &f.mems[0]
	return m.base == 5 && m.index < 0 && !m.gs && !m.write && m.disp == 0 && m.size == 4
}

// nastyLinux is nasty for Linux.
func (o *oracle) nastyLinux(small uint64) uint64 {
	r := o.rng
	switch r.IntN(18) {
	case 0:
		return small
	case 1:
		return userEnd + small
	case 2:
		return small - target.LinuxBelow
	case 3:
		return linuxBlock + small
	case 4:
		return linuxAnchor + small
	case 5:
		return linuxAnchor&(1<<63-1) + small
	case 6:
		return 1<<63 + small
	case 7:
		return small - hole
	case 8:
		return 0xffff<<48 | 1<<47 + small
	case 9, 10:
		return r.Uint64N(1 << 47)
	case 11:
		return target.MaxRepCount + small
	case 12:
		return uint64(r.Uint32())
	case 13:
		return linuxBase + small
	case 14:
		return r.Uint64() >> r.IntN(64)
	case 15:
		return 0xffff<<48 | r.Uint64N(1<<48)
	}
	return r.Uint64()
}

// accessLinux checks the accesses of f, as access does for the Sentry. In half of the walks an address is what it
// says; in the other half, for processors that run ahead like that, what remains of it in its low 48 bits must not be the kernel's
// either.
func (o *oracle) accessLinux(f *zFacts, regs *[16]uint64) (value uint64, fault bool, err error) {
	value = o.nasty()
	for i := range f.mems {
		m := &f.mems[i]
		if m.kind == zMemAgen || f.mnemonic == "nop" {
			continue
		}
		addr := address(m, regs)
		size, err := f.extent(m, regs)
		if err != nil {
			return 0, false, err
		}
		if m.hidden && size == 0 {
			continue
		}
		switch {
		case m.base == 4:
			off := addr - linuxBlock
			if err := checkSlot(off, size, m.write, target.LinuxSlotsEnd); err != nil {
				return 0, false, err
			}
			if size == 8 {
				switch off {
				case target.SlotFSBase:
					value = linuxFSBase
				case target.SlotAddrMask:
					value = target.LinuxAddrMask
				}
			}
		case m.base == 5:
			switch off := addr - linuxAnchor; {
			case off == 0:
				value = 0
			case off >= 8 && off+size <= 8+4096: // the page behind, which is not mapped
				fault = true
			default:
				return 0, false, fmt.Errorf("accesses the anchor at %#x", off)
			}
		default:
			var faults bool
			if faults, err = o.program(addr, size); err != nil {
				return 0, false, err
			}
			if o.ahead > 0 {
				o.ahead++
			}
			fault = fault || faults && (f.sure || m.hidden || !o.idle)
		}
	}
	return value, fault, nil
}

// program checks an access to program memory: it is there, or it is to where nothing can be, and faults.
func (o *oracle) program(addr, size uint64) (faults bool, err error) {
	ahead := uint64(o.ahead)
	down := target.LinuxBelow + ahead*walkDown
	up := target.LinuxAbove + ahead*walkLimit - 1 // from the last address
	last := addr + size - 1
	for _, a := range []uint64{addr, last} {
		low := a << 16 >> 16
		switch {
		case !o.cut && (a < kernelHalf || a-kernelHalf < min(up, guardHole)): // the program's, not canonical, or in that hole
		case !o.cut && -a <= min(down, hole):
		case o.cut && (low < userEnd || low-userEnd < min(up, guardHole) || 1<<48-low <= min(down, hole)):
		default:
			return false, fmt.Errorf("accesses %#x, %d bytes", addr, size)
		}
	}
	return addr >= userEnd || last >= userEnd, nil
}
