package x86

import (
	"encoding/binary"
	"math"
)

// enc is one instruction to be encoded.
type enc struct {
	opcode  uint32 // big-endian: 0x89, 0x0fb6
	size    int    // of the operation: 2 gives 66h, 8 gives REX.W
	reg     byte   // register number for ModRM.reg, or the opcode's digit
	rm      RM
	byteReg Reg // a byte register in reg, else NoReg
	byteRM  bool
}

// emit encodes e; imm bytes follow.
func (a *Asm) emit(e enc, imm ...byte) {
	var rex byte
	needREX, noREX := false, false
	byteReg := func(r Reg) byte {
		switch {
		case r >= AH && r <= BH:
			noREX = true
			return byte(r-AH) + 4
		case r >= RSP && r <= RDI:
			needREX = true
		}
		return byte(r)
	}
	if e.byteReg != NoReg {
		if e.byteReg > BH {
			a.fail("register %v in an instruction for general registers", e.byteReg)
			return
		}
		e.reg = byteReg(e.byteReg)
	}
	rm := byte(0)
	if e.rm.isMem {
		if err := e.rm.mem.check(); err != nil {
			a.fail("%w", err)
			return
		}
		rex |= e.rm.mem.rex()
	} else {
		if e.rm.reg > R15 && !(e.byteRM && e.rm.reg <= BH) {
			a.fail("register %v in an instruction for general registers", e.rm.reg)
			return
		}
		if rm = byte(e.rm.reg); e.byteRM {
			rm = byteReg(e.rm.reg)
		}
		rex |= rm >> 3
	}
	rex |= e.reg >> 3 << 2
	switch e.size {
	case 1, 4:
	case 2:
	case 8:
		rex |= 8
	default:
		a.fail("operation of %d bytes", e.size)
		return
	}
	b := a.buf
	if e.rm.isMem {
		b = e.rm.mem.appendPrefixes(b)
	}
	if e.size == 2 {
		b = append(b, 0x66)
	}
	if rex != 0 || needREX {
		if noREX {
			a.fail("a high byte register cannot be encoded with REX")
			return
		}
		b = append(b, 0x40|rex)
	}
	for shift := 24; shift >= 0; shift -= 8 {
		if c := e.opcode >> shift; c != 0 {
			b = append(b, byte(c))
		}
	}
	if e.rm.isMem {
		b = e.rm.mem.appendModRM(b, e.reg&7, 1)
	} else {
		b = append(b, 0xc0|e.reg&7<<3|rm&7)
	}
	a.buf = append(b, imm...)
}

// wide is the bit that tells the byte form of an opcode (0) from the others (1).
func wide(size int) uint32 {
	if size == 1 {
		return 0
	}
	return 1
}

// regRM emits an instruction with a register in ModRM.reg and both operands of size bytes.
func (a *Asm) regRM(opcode uint32, size int, reg Reg, rm RM, imm ...byte) {
	e := enc{opcode: opcode, size: size, rm: rm, byteReg: NoReg}
	if size == 1 {
		e.byteReg, e.byteRM = reg, true
	} else if reg > R15 {
		a.fail("register %v in an instruction for general registers", reg)
		return
	} else {
		e.reg = byte(reg)
	}
	a.emit(e, imm...)
}

// digitRM emits an instruction with an opcode extension in ModRM.reg.
func (a *Asm) digitRM(opcode uint32, size int, digit byte, rm RM, imm ...byte) {
	a.emit(enc{opcode: opcode, size: size, reg: digit, rm: rm, byteReg: NoReg, byteRM: size == 1}, imm...)
}

// Mov moves size bytes: between registers, or from or to memory. A 32-bit move to a register zeroes its upper half.
func (a *Asm) Mov(size int, dst, src RM) {
	switch {
	case !src.isMem:
		a.regRM(0x88|wide(size), size, src.reg, dst)
	case !dst.isMem:
		a.regRM(0x8a|wide(size), size, dst.reg, src)
	default:
		a.fail("mov from memory to memory")
	}
}

// MovImm sets all 64 bits of dst to v, in the shortest way that leaves the flags alone: 5 to 10 bytes.
func (a *Asm) MovImm(dst Reg, v uint64) {
	switch {
	case dst > R15:
		a.fail("mov: register %v", dst)
	case v <= math.MaxUint32:
		if dst >= R8 {
			a.Raw(0x41)
		}
		a.Raw(0xb8 | byte(dst&7))
		a.buf = binary.LittleEndian.AppendUint32(a.buf, uint32(v))
	case int64(v) >= math.MinInt32 && int64(v) < 0:
		a.digitRM(0xc7, 8, 0, R(dst), binary.LittleEndian.AppendUint32(nil, uint32(v))...)
	default:
		a.MovAbs(dst, v)
	}
}

// MovAbs is MOV with a 64-bit immediate, which are the last 8 of its 10 bytes.
func (a *Asm) MovAbs(dst Reg, v uint64) {
	if dst > R15 {
		a.fail("mov: register %v", dst)
		return
	}
	a.Raw(0x48|byte(dst)>>3, 0xb8|byte(dst&7))
	a.buf = binary.LittleEndian.AppendUint64(a.buf, v)
}

// MovRMImm is MOV of an immediate to dst, sign-extended from 32 bits when size is 8.
func (a *Asm) MovRMImm(size int, dst RM, imm int32) {
	if b, ok := a.immediate(size, imm); ok {
		a.digitRM(0xc6|wide(size), size, 0, dst, b...)
	}
}

// immediate is imm in the full width of an operation of size bytes (at most four). It must be representable signed or
// unsigned.
func (a *Asm) immediate(size int, imm int32) ([]byte, bool) {
	switch size {
	case 1:
		if imm >= math.MinInt8 && imm <= math.MaxUint8 {
			return []byte{byte(imm)}, true
		}
	case 2:
		if imm >= math.MinInt16 && imm <= math.MaxUint16 {
			return binary.LittleEndian.AppendUint16(nil, uint16(imm)), true
		}
	default:
		return binary.LittleEndian.AppendUint32(nil, uint32(imm)), true
	}
	a.fail("immediate %d does not fit into %d bytes", imm, size)
	return nil, false
}

// Movzx loads srcSize (1 or 2) bytes of src into dst, zero-extended to size bytes. For 8, the 4-byte form does.
func (a *Asm) Movzx(size int, dst Reg, srcSize int, src RM) {
	if size == 8 {
		size = 4
	}
	a.extend(0x0fb6, size, dst, srcSize, src)
}

// Movsx loads srcSize (1, 2 or 4) bytes of src into dst, sign-extended to size bytes.
func (a *Asm) Movsx(size int, dst Reg, srcSize int, src RM) {
	if srcSize == 4 && size == 8 {
		a.regRM(0x63, 8, dst, src)
		return
	}
	a.extend(0x0fbe, size, dst, srcSize, src)
}

func (a *Asm) extend(opcode uint32, size int, dst Reg, srcSize int, src RM) {
	if dst > R15 || size <= srcSize || srcSize != 1 && srcSize != 2 {
		a.fail("extension of %d bytes to %d in register %v", srcSize, size, dst)
		return
	}
	a.emit(enc{opcode: opcode | uint32(srcSize-1), size: size, reg: byte(dst), rm: src, byteReg: NoReg, byteRM: srcSize == 1})
}

// Lea loads the address m (of which the segment plays no part). size is 4 or 8.
func (a *Asm) Lea(size int, dst Reg, m Mem) {
	m.Seg = SegNone
	a.regRM(0x8d, size, dst, M(m))
}

// aluDigit is the number of an operation in the group of eight, and whether it is in it.
func aluDigit(op Op) (byte, bool) {
	for n, o := range [...]Op{OpADD, OpOR, OpADC, OpSBB, OpAND, OpSUB, OpXOR, OpCMP} {
		if o == op {
			return byte(n), true
		}
	}
	return 0, false
}

// Op2 is ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST or XCHG of two operands of which at most one is memory.
func (a *Asm) Op2(op Op, size int, dst, src RM) {
	n, alu := aluDigit(op)
	swap := op == OpTEST || op == OpXCHG
	if swap && src.isMem { // both are symmetric, and encoded one way only
		dst, src = src, dst
	}
	switch {
	case dst.isMem && src.isMem:
		a.fail("%v of two memory operands", op)
	case op == OpTEST:
		a.regRM(0x84|wide(size), size, src.reg, dst)
	case op == OpXCHG:
		a.regRM(0x86|wide(size), size, src.reg, dst)
	case !alu:
		a.fail("%v is no operation for Op2", op)
	case src.isMem:
		a.regRM(uint32(n)<<3|2|wide(size), size, dst.reg, src)
	default:
		a.regRM(uint32(n)<<3|wide(size), size, src.reg, dst)
	}
}

// OpImm is ADD, OR, ADC, SBB, AND, SUB, XOR, CMP or TEST with an immediate, sign-extended from 32 bits when size is 8.
func (a *Asm) OpImm(op Op, size int, dst RM, imm int32) {
	n, alu := aluDigit(op)
	switch {
	case op == OpTEST:
		if b, ok := a.immediate(size, imm); ok {
			a.digitRM(0xf6|wide(size), size, 0, dst, b...)
		}
	case !alu:
		a.fail("%v is no operation for OpImm", op)
	case size != 1 && imm >= math.MinInt8 && imm <= math.MaxInt8:
		a.digitRM(0x83, size, n, dst, byte(imm))
	default:
		if b, ok := a.immediate(size, imm); ok {
			a.digitRM(0x80|wide(size), size, n, dst, b...)
		}
	}
}

// Op1 is INC, DEC, NOT or NEG.
func (a *Asm) Op1(op Op, size int, dst RM) {
	switch op {
	case OpINC:
		a.digitRM(0xfe|wide(size), size, 0, dst)
	case OpDEC:
		a.digitRM(0xfe|wide(size), size, 1, dst)
	case OpNOT:
		a.digitRM(0xf6|wide(size), size, 2, dst)
	case OpNEG:
		a.digitRM(0xf6|wide(size), size, 3, dst)
	default:
		a.fail("%v is no operation for Op1", op)
	}
}

// Bswap reverses the bytes of r. size is 4 or 8.
func (a *Asm) Bswap(size int, r Reg) {
	if r > R15 || size != 4 && size != 8 {
		a.fail("bswap of %d bytes of register %v", size, r)
		return
	}
	rex := byte(r) >> 3
	if size == 8 {
		rex |= 8
	}
	if rex != 0 {
		a.Raw(0x40 | rex)
	}
	a.Raw(0x0f, 0xc8|byte(r&7))
}

// Setcc sets the byte dst to condition cc (0..15).
func (a *Asm) Setcc(cc uint8, dst RM) { a.digitRM(0x0f90|uint32(cc&15), 1, 0, dst) }

// Cmovcc moves src to dst on condition cc. size is 2, 4 or 8; src is read in any case.
func (a *Asm) Cmovcc(cc uint8, size int, dst Reg, src RM) {
	if size == 1 {
		a.fail("cmov of 1 byte")
		return
	}
	a.regRM(0x0f40|uint32(cc&15), size, dst, src)
}

// vexOp emits a BMI2 instruction. pp is VEX.pp; size is 4 or 8.
func (a *Asm) vexOp(opmap byte, pp, opcode byte, size int, reg Reg, vvvv Reg, rm RM, imm ...byte) {
	last := ^byte(vvvv) & 15 << 3
	if vvvv == NoReg {
		last = 15 << 3
	}
	switch {
	case size == 8:
		last |= 0x80
	case size != 4:
		a.fail("operation of %d bytes", size)
		return
	}
	if reg > R15 || vvvv > R15 && vvvv != NoReg || !rm.isMem && rm.reg > R15 {
		a.fail("a register that VEX instructions for general registers do not have")
		return
	}
	x := byte(rm.reg) >> 3
	if rm.isMem {
		if err := rm.mem.check(); err != nil {
			a.fail("%w", err)
			return
		}
		x = rm.mem.rex()
		a.buf = rm.mem.appendPrefixes(a.buf)
	}
	a.buf = appendVEX(a.buf, opmap, byte(reg)>>3, x, last|pp, opcode)
	if rm.isMem {
		a.buf = rm.mem.appendModRM(a.buf, byte(reg&7), 1)
	} else {
		a.Raw(0xc0 | byte(reg&7)<<3 | byte(rm.reg&7))
	}
	a.Raw(imm...)
}

// VEX.pp.
const (
	vexNP = 0
	vex66 = 1
	vexF3 = 2
	vexF2 = 3
)

// Pdep deposits the low bits of src at the bits of mask. size is 4 or 8, here and in what follows.
func (a *Asm) Pdep(size int, dst, src Reg, mask RM) { a.vexOp(2, vexF2, 0xf5, size, dst, src, mask) }

// Shlx shifts src left by count.
func (a *Asm) Shlx(size int, dst Reg, src RM, count Reg) {
	a.vexOp(2, vex66, 0xf7, size, dst, count, src)
}

// Shrx shifts src right by count.
func (a *Asm) Shrx(size int, dst Reg, src RM, count Reg) {
	a.vexOp(2, vexF2, 0xf7, size, dst, count, src)
}

// Sarx shifts src right by count, keeping its sign.
func (a *Asm) Sarx(size int, dst Reg, src RM, count Reg) {
	a.vexOp(2, vexF3, 0xf7, size, dst, count, src)
}

// Rorx rotates src right by count bits.
func (a *Asm) Rorx(size int, dst Reg, src RM, count uint8) {
	a.vexOp(3, vexF2, 0xf0, size, dst, NoReg, src, count)
}

// Bzhi zeroes the bits of src from position index on. It writes flags.
func (a *Asm) Bzhi(size int, dst Reg, src RM, index Reg) {
	a.vexOp(2, vexNP, 0xf5, size, dst, index, src)
}

// nops are the recommended NOPs of 1 to 9 bytes (SDM vol. 2, NOP).
var nops = [...]string{
	"\x90",
	"\x66\x90",
	"\x0f\x1f\x00",
	"\x0f\x1f\x40\x00",
	"\x0f\x1f\x44\x00\x00",
	"\x66\x0f\x1f\x44\x00\x00",
	"\x0f\x1f\x80\x00\x00\x00\x00",
	"\x0f\x1f\x84\x00\x00\x00\x00\x00",
	"\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
}

// Nop appends n bytes of NOPs, as few instructions as there can be.
func (a *Asm) Nop(n int) {
	for n > 0 {
		k := min(n, len(nops))
		a.buf = append(a.buf, nops[k-1]...)
		n -= k
	}
}

// Align appends NOPs until Len is a multiple of n.
func (a *Asm) Align(n int) { a.Nop((n - a.Len()%n) % n) }

// Ud2 raises an invalid-opcode exception.
func (a *Asm) Ud2() { a.Raw(0x0f, 0x0b) }
