package x86

import (
	"encoding/binary"
	"fmt"
)

// check reports why m cannot be encoded, or nil.
func (m *Mem) check() error {
	switch {
	case m.Base == RIP && m.Index != NoReg:
		return fmt.Errorf("a RIP-relative address has no index")
	case m.Base != RIP && m.Base != NoReg && m.Base > R15:
		return fmt.Errorf("register %v cannot be a base", m.Base)
	case m.Index != NoReg && (m.Index > R15 || m.Index == RSP):
		return fmt.Errorf("register %v cannot be an index", m.Index)
	case m.Index != NoReg && m.Scale != 1 && m.Scale != 2 && m.Scale != 4 && m.Scale != 8:
		return fmt.Errorf("scale %d is not 1, 2, 4 or 8", m.Scale)
	}
	return nil
}

// rex is the X and B bits that m needs, as in REX.
func (m *Mem) rex() byte {
	var b byte
	if m.Index != NoReg {
		b |= byte(m.Index) >> 3 << 1
	}
	if m.Base <= R15 {
		b |= byte(m.Base) >> 3
	}
	return b
}

// appendPrefixes appends the segment override and address size of m. CS, DS, ES and SS overrides mean nothing and go.
func (m *Mem) appendPrefixes(b []byte) []byte {
	switch m.Seg {
	case SegFS:
		b = append(b, 0x64)
	case SegGS:
		b = append(b, 0x65)
	}
	if m.Addr32 {
		b = append(b, 0x67)
	}
	return b
}

// appendModRM appends ModRM, SIB and displacement for m with reg (0..7) in ModRM.reg. The displacement takes as few
// bytes as it can; unit is what a one-byte displacement is multiplied with (1, but for EVEX).
func (m *Mem) appendModRM(b []byte, reg byte, unit int32) []byte {
	reg <<= 3
	if m.Base == RIP {
		return binary.LittleEndian.AppendUint32(append(b, reg|5), uint32(m.Disp))
	}
	if m.Base == NoReg { // mod 0 with base 5 in SIB: disp32 alone (SDM vol. 2, table 2-3)
		return binary.LittleEndian.AppendUint32(append(b, reg|4, m.sib(5)), uint32(m.Disp))
	}
	var mod byte
	switch short := m.Disp / unit; {
	case m.Disp == 0 && m.Base&7 != RBP: // base 5 with mod 0 means disp32 instead
	case m.Disp%unit == 0 && short >= -128 && short <= 127:
		mod = 0x40
	default:
		mod = 0x80
	}
	if m.Index == NoReg && m.Base&7 != RSP { // base 4 means SIB
		b = append(b, mod|reg|byte(m.Base&7))
	} else {
		b = append(b, mod|reg|4, m.sib(byte(m.Base&7)))
	}
	switch mod {
	case 0x40:
		b = append(b, byte(m.Disp/unit))
	case 0x80:
		b = binary.LittleEndian.AppendUint32(b, uint32(m.Disp))
	}
	return b
}

// sib is the SIB byte for m's index and the given base bits.
func (m *Mem) sib(base byte) byte {
	if m.Index == NoReg {
		return 4<<3 | base
	}
	var scale byte
	for s := m.Scale; s > 1; s >>= 1 {
		scale++
	}
	return scale<<6 | byte(m.Index&7)<<3 | base
}
