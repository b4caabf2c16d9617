package machine

import "encoding/binary"

// The general registers, numbered as the hardware encodes them.
const (
	rAX = iota
	rCX
	rDX
	rBX
	rSP
	rBP
	rSI
	rDI
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

// emitter writes the few instruction forms the trampolines consist of. It is separate from package x86 on purpose: the
// trampolines are trusted code that nothing verifies, so their bytes depend on this page only and are pinned by a golden.
type emitter struct {
	b      []byte
	labels map[string]int
	fixes  []fix
}

// fix is a displacement of size bytes at off that is to reach label.
type fix struct {
	off, size int
	label     string
}

func (e *emitter) raw(b ...byte) { e.b = append(e.b, b...) }

func (e *emitter) imm32(v int32) { e.b = binary.LittleEndian.AppendUint32(e.b, uint32(v)) }

func (e *emitter) label(name string) {
	if e.labels == nil {
		e.labels = map[string]int{}
	}
	if _, dup := e.labels[name]; dup {
		panic("BUG: label " + name + " defined twice")
	}
	e.labels[name] = len(e.b)
}

// align pads with INT3 to a multiple of n.
func (e *emitter) align(n int) {
	for len(e.b)%n != 0 {
		e.raw(0xcc)
	}
}

// mem appends ModRM, displacement, and SIB when base needs one (RSP and R12), for [base+disp] with reg in ModRM.reg.
func (e *emitter) mem(reg, base int, disp int32) {
	mod := byte(0x80)
	if disp >= -128 && disp < 128 {
		mod = 0x40
	}
	e.raw(mod | byte(reg&7)<<3 | byte(base&7))
	if base&7 == rSP {
		e.raw(0x24)
	}
	if mod == 0x40 {
		e.raw(byte(disp))
	} else {
		e.imm32(disp)
	}
}

// rexW returns REX.W with R from reg, X from index and B from base.
func rexW(reg, index, base int) byte {
	return 0x48 | byte(reg>>3)<<2 | byte(index>>3)<<1 | byte(base>>3)
}

// load is mov reg, [base+disp] (8B /r).
func (e *emitter) load(reg, base int, disp int32) {
	e.raw(rexW(reg, 0, base), 0x8b)
	e.mem(reg, base, disp)
}

// store is mov [base+disp], reg (89 /r).
func (e *emitter) store(base int, disp int32, reg int) {
	e.raw(rexW(reg, 0, base), 0x89)
	e.mem(reg, base, disp)
}

// storeImm is mov qword [base+disp], imm (C7 /0).
func (e *emitter) storeImm(base int, disp int32, imm int32) {
	e.raw(rexW(0, 0, base), 0xc7)
	e.mem(0, base, disp)
	e.imm32(imm)
}

// mov is mov dst, src (89 /r).
func (e *emitter) mov(dst, src int) {
	e.raw(rexW(src, 0, dst), 0x89, 0xc0|byte(src&7)<<3|byte(dst&7))
}

// lea is lea dst, [base+index] (8D /r), an addition that leaves the flags alone. Neither RBP nor R13 can be base
// without a displacement, nor can RSP be index.
func (e *emitter) lea(dst, base, index int) {
	if base&7 == rBP || index == rSP {
		panic("BUG: lea operands cannot be encoded")
	}
	e.raw(rexW(dst, index, base), 0x8d, 0x04|byte(dst&7)<<3, byte(index&7)<<3|byte(base&7))
}

// rorx is rorx dst, src, imm (VEX.LZ.F2.0F3A.W1 F0 /r ib), a rotation that leaves the flags alone.
func (e *emitter) rorx(dst, src int, imm byte) {
	e.raw(0xc4, vexRXB(dst, 0, src)|0x03, 0xfb, 0xf0, 0xc0|byte(dst&7)<<3|byte(src&7), imm)
}

// pdepMem is pdep dst, src, [base+disp] (VEX.LZ.F2.0F38.W1 F5 /r).
func (e *emitter) pdepMem(dst, src, base int, disp int32) {
	e.raw(0xc4, vexRXB(dst, 0, base)|0x02, 0x83|byte(^src&0xf)<<3, 0xf5)
	e.mem(dst, base, disp)
}

// vexRXB returns the inverted R, X and B bits of a three-byte VEX prefix.
func vexRXB(reg, index, base int) byte {
	return byte(^reg>>3&1)<<7 | byte(^index>>3&1)<<6 | byte(^base>>3&1)<<5
}

// jmpMem is jmp [base+disp] (FF /4).
func (e *emitter) jmpMem(base int, disp int32) {
	if base >= 8 {
		e.raw(0x41)
	}
	e.raw(0xff)
	e.mem(4, base, disp)
}

// incMem is inc qword [base+disp] (FF /0).
func (e *emitter) incMem(base int, disp int32) {
	e.raw(rexW(0, 0, base), 0xff)
	e.mem(0, base, disp)
}

// jmp is jmp rel32 to a label (E9).
func (e *emitter) jmp(label string) {
	e.raw(0xe9, 0, 0, 0, 0)
	e.fixes = append(e.fixes, fix{len(e.b) - 4, 4, label})
}

// jrcxz is jrcxz rel8 to a label (E3): the conditional jump that neither reads nor needs flags.
func (e *emitter) jrcxz(label string) {
	e.raw(0xe3, 0)
	e.fixes = append(e.fixes, fix{len(e.b) - 1, 1, label})
}

// finish resolves the labels.
func (e *emitter) finish() []byte {
	for _, f := range e.fixes {
		to, ok := e.labels[f.label]
		if !ok {
			panic("BUG: label " + f.label + " not defined")
		}
		d := to - (f.off + f.size)
		switch f.size {
		case 1:
			if d != int(int8(d)) {
				panic("BUG: label " + f.label + " out of reach")
			}
			e.b[f.off] = byte(d)
		case 4:
			binary.LittleEndian.PutUint32(e.b[f.off:], uint32(d))
		}
	}
	return e.b
}
