package x86

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Asm assembles instructions one after another. The zero value is ready to use. Sizes are in bytes (1, 2, 4, 8) and are
// those of the operation. What cannot be encoded is noted as an error, and Bytes returns the first one; so callers need
// not look at every instruction.
//
// Encodings are the shortest there are and always the same: equal calls make equal bytes.
type Asm struct {
	buf    []byte
	labels []int // offset, or -1
	fixups []fixup
	relocs []Reloc
	err    error
}

// Label is a place in the code, made by NewLabel and put somewhere by Bind.
type Label int

// Reloc is a four-byte displacement at Off, relative to Off+4, that is to be pointed at the external symbol Sym.
type Reloc struct {
	Off uint32
	Sym uint8
}

type fixup struct {
	off   int
	size  int // 1 or 4
	label Label
}

// RM is an operand that may be a register or memory, made by R or M.
type RM struct {
	reg   Reg
	mem   Mem
	isMem bool
}

// R is the register operand r.
func R(r Reg) RM { return RM{reg: r} }

// M is the memory operand m.
func M(m Mem) RM { return RM{mem: m, isMem: true} }

// Base is the address [base+disp].
func Base(base Reg, disp int32) Mem {
	return Mem{Base: base, Index: NoReg, Scale: 1, Disp: disp}
}

// Len is the number of bytes assembled so far.
func (a *Asm) Len() int { return len(a.buf) }

// Bytes returns the code with all labels resolved, or the first thing that went wrong. The code is the assembler's:
// nothing may be assembled after it. Fields at Relocs are 0.
func (a *Asm) Bytes() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	for _, f := range a.fixups {
		to := a.labels[f.label]
		if to < 0 {
			return nil, fmt.Errorf("x86: label %d is used but nowhere bound", f.label)
		}
		d := to - (f.off + f.size)
		if f.size == 4 {
			if d != int(int32(d)) {
				return nil, fmt.Errorf("x86: code of more than 2 GiB")
			}
			binary.LittleEndian.PutUint32(a.buf[f.off:], uint32(d))
			continue
		}
		if d < math.MinInt8 || d > math.MaxInt8 {
			return nil, fmt.Errorf("x86: label %d is %d bytes away, out of reach of the short branch before offset %#x", f.label, d, f.off+1)
		}
		a.buf[f.off] = byte(d)
	}
	a.fixups = nil
	return a.buf, nil
}

// Relocs returns the references to external symbols, in order.
func (a *Asm) Relocs() []Reloc { return a.relocs }

// NewLabel makes a label that is not bound yet.
func (a *Asm) NewLabel() Label {
	a.labels = append(a.labels, -1)
	return Label(len(a.labels) - 1)
}

// Bind puts l here.
func (a *Asm) Bind(l Label) {
	if a.labels[l] >= 0 {
		a.fail("label %d is bound twice", l)
		return
	}
	a.labels[l] = len(a.buf)
}

// Offset is where l is bound, or -1.
func (a *Asm) Offset(l Label) int { return a.labels[l] }

func (a *Asm) fail(format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf("x86: at offset %#x: "+format, append([]any{len(a.buf)}, args...)...)
	}
}

// Raw appends bytes as they are.
func (a *Asm) Raw(b ...byte) { a.buf = append(a.buf, b...) }

// Inst appends in with the operands that s replaces; see Inst.Reencode.
func (a *Asm) Inst(in *Inst, s Subst) {
	b, err := in.Reencode(s)
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.Raw(b...)
}

// Jmp jumps to l.
func (a *Asm) Jmp(l Label) { a.branch(l, []byte{0xeb}, []byte{0xe9}) }

// Jcc jumps to l on condition cc (0..15).
func (a *Asm) Jcc(cc uint8, l Label) { a.branch(l, []byte{0x70 | cc&15}, []byte{0x0f, 0x80 | cc&15}) }

// branch uses the short form if l is bound and in reach.
func (a *Asm) branch(l Label, short, long []byte) {
	if to := a.labels[l]; to >= 0 && to-(len(a.buf)+2) >= math.MinInt8 {
		a.buf = append(a.buf, short...)
		a.fix(l, 1)
		return
	}
	a.buf = append(a.buf, long...)
	a.fix(l, 4)
}

// Jrcxz jumps to l if RCX is 0. l must be within 127 bytes.
func (a *Asm) Jrcxz(l Label) {
	a.buf = append(a.buf, 0xe3)
	a.fix(l, 1)
}

func (a *Asm) fix(l Label, size int) {
	a.fixups = append(a.fixups, fixup{len(a.buf), size, l})
	a.buf = append(a.buf, make([]byte, size)...)
}

// JmpSym jumps to external symbol sym, with a four-byte displacement.
func (a *Asm) JmpSym(sym uint8) {
	a.buf = append(a.buf, 0xe9)
	a.relocs = append(a.relocs, Reloc{uint32(len(a.buf)), sym})
	a.buf = append(a.buf, 0, 0, 0, 0)
}

// LeaLabel loads the address of l.
func (a *Asm) LeaLabel(dst Reg, l Label) {
	if dst > R15 {
		a.fail("lea: register %v", dst)
		return
	}
	a.Raw(0x48|byte(dst)>>3<<2, 0x8d, byte(dst&7)<<3|5)
	a.fix(l, 4)
}
