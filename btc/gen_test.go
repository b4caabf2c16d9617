package btc_test

import (
	"encoding/binary"
	"math/rand/v2"

	"ub/path"
	"ub/x86"
)

// Random programs. Instructions are random bytes that the decoder knows as translatable, so every form of its table comes
// up; what is biased is what makes them interesting: addresses near the data, registers that are virtual.

type gen struct {
	rng  *rand.Rand
	base uint64
	seen map[form]int // how often each form was generated
}

// form identifies what of the decoder's table an instruction exercises.
type form struct {
	op    x86.Op
	width int
	mem   bool
	rep   bool
	lock  bool
}

func formOf(in *x86.Inst) form {
	return form{in.Op, in.Width, in.HasMem, in.Rep || in.RepNE, in.Lock}
}

// chance is true once in n times.
func (g *gen) chance(n int) bool { return g.rng.IntN(n) == 0 }

// data is a random address in or near the data.
func (g *gen) data() uint64 {
	switch g.rng.IntN(10) {
	case 0: // near a page boundary
		return g.base + dataOffset + uint64(g.rng.IntN(dataPages))*pageSize - 8 + uint64(g.rng.IntN(16))
	case 1: // anywhere, unmapped pages included
		return g.base + dataOffset - 64 + g.rng.Uint64N(dataPages*pageSize+128)
	case 2:
		return g.base + dataOffset + 4*pageSize + g.rng.Uint64N(pageSize)&^15
	}
	return g.base + dataOffset + 256 + g.rng.Uint64N(2*pageSize-512)
}

// value is what a register may start with.
func (g *gen) value() uint64 {
	switch g.rng.IntN(20) {
	case 0:
		return g.wild()
	case 1:
		return g.rng.Uint64()
	case 2:
		return -g.rng.Uint64N(300)
	case 3:
		return 1 << g.rng.IntN(64)
	case 4, 5, 6, 7, 8:
		return g.rng.Uint64N(65)
	}
	return g.data()
}

// wild is an address that must fault as the processor says, whatever the machine does to addresses.
func (g *gen) wild() uint64 {
	d := g.data()
	switch g.rng.IntN(6) {
	case 0:
		return d | 1<<(59+g.rng.IntN(5)) // bits that pdep drops
	case 1:
		return d | 1<<(42+g.rng.IntN(17)) // bits that it moves
	case 2:
		return d | 0xffff_8000_0000_0000 // kernel half
	case 3:
		return d | 0x8000_0000_0000 // non-canonical
	case 4:
		return topPage + g.rng.Uint64N(2*pageSize) // across the window's end
	}
	return 0xffff_ffff_ffff_f000 + g.rng.Uint64N(pageSize)
}

func (g *gen) state() state {
	s := state{rip: g.base, flags: g.rng.Uint64() & arithFlags, fsBase: g.data(), vec: g.vectors()}
	for i := range s.gpr {
		s.gpr[i] = g.value()
	}
	if !g.chance(8) {
		s.gpr[4] = g.base + dataOffset + 4*pageSize + 64 + g.rng.Uint64N(pageSize-128)&^7
	}
	return s
}

// excluded are instructions whose results differ from one execution to the next.
var excluded = map[x86.Op]bool{
	x86.OpRDTSC: true, x86.OpRDTSCP: true, x86.OpRDRAND: true, x86.OpRDSEED: true, x86.OpRDPID: true,
}

// inst returns a random instruction for address addr that falls through.
func (g *gen) inst(addr uint64) []byte {
	for {
		b := g.bytes()
		in, err := x86.Decode(b, addr)
		if err != nil || !in.Known || in.Flow != x86.FlowNext || excluded[in.Op] {
			continue
		}
		if path.StopReason(&in) != "" && !g.chance(20) {
			continue
		}
		g.aim(&in, b)
		if g.seen != nil {
			g.seen[formOf(&in)]++
		}
		return b[:in.Len]
	}
}

// aim makes a RIP-relative operand of in, which b is decoded as, one in the data.
func (g *gen) aim(in *x86.Inst, b []byte) {
	if in.HasMem && in.Mem.Base == x86.RIP {
		disp := g.data() - in.Addr - uint64(in.Len)
		binary.LittleEndian.PutUint32(b[in.Len-int(in.Enc.ImmLen)-4:], uint32(disp))
	}
}

// bytes returns enough random bytes for an instruction.
func (g *gen) bytes() []byte {
	var b []byte
	if g.chance(500) {
		return []byte("\xf3\x0f\x1e\xfa") // ENDBR64, one value of four bytes
	}
	if g.chance(3) {
		return g.vectorBytes()
	}
	switch g.rng.IntN(12) {
	case 0:
		b = append(b, 0x66)
	case 1:
		b = append(b, 0xf3)
	case 2:
		b = append(b, 0xf2)
	case 3:
		b = append(b, 0xf0)
	case 4:
		b = append(b, 0x64)
	}
	r := byte(g.rng.Uint32())
	switch g.rng.IntN(16) {
	case 0, 1, 2, 3:
		b = append(b, 0x0f)
	case 4:
		b = append(b, 0x0f, 0x38, []byte{0xf0, 0xf1, 0xf6, r}[g.rng.IntN(4)])
		return g.operands(b)
	case 5: // BMI: VEX maps 2 and 3
		b = append(b, 0xc4, r&^0x1f|2|byte(g.rng.IntN(8)/7), byte(g.rng.Uint32())&^4, []byte{0xf2, 0xf3, 0xf5, 0xf6, 0xf7, 0xf0}[g.rng.IntN(6)])
		return g.operands(b)
	}
	if g.chance(2) {
		rex := 0x40 | byte(g.rng.IntN(16))
		if len(b) > 0 && b[len(b)-1] == 0x0f {
			b = append(b[:len(b)-1], rex, 0x0f)
		} else {
			b = append(b, rex)
		}
	}
	if g.chance(8) { // the common ones more often
		b = append(b, []byte{0x89, 0x8b, 0x8d, 0x83, 0x01, 0x03, 0x39, 0x3b, 0x85, 0xc7, 0x50, 0x58, 0xff}[g.rng.IntN(13)])
	} else {
		b = append(b, r)
	}
	return g.operands(b)
}

// vectorBytes returns random bytes in the encodings of vector instructions.
func (g *gen) vectorBytes() []byte {
	r := g.rng.Uint32()
	b0, b1, b2, op := byte(r), byte(r>>8), byte(r>>16), byte(r>>24)
	var b []byte
	if g.chance(6) {
		b = append(b, 0x64)
	}
	switch g.rng.IntN(4) {
	case 0: // SSE
		switch b0 & 3 {
		case 1:
			b = append(b, 0x66)
		case 2:
			b = append(b, 0xf3)
		case 3:
			b = append(b, 0xf2)
		}
		if g.chance(2) {
			b = append(b, 0x40|b1&15)
		}
		b = append(b, 0x0f)
		switch g.rng.IntN(5) {
		case 0:
			b = append(b, 0x38)
		case 1:
			b = append(b, 0x3a)
		}
	case 1: // VEX
		if g.chance(2) {
			b = append(b, 0xc5, b0)
		} else {
			b = append(b, 0xc4, b0&0xe0|byte(1+g.rng.IntN(3)), b1)
		}
		if g.chance(2) { // two operands only
			b[len(b)-1] |= 0x78
		}
	default: // EVEX
		p2 := b2
		if g.chance(2) {
			p2 &^= 0x87 // no opmask
		}
		if g.chance(2) {
			p2 &^= 0x10
		}
		b = append(b, 0x62, b0&0xf0|byte(1+g.rng.IntN(3)), b1|4, p2)
		if g.chance(2) {
			b[len(b)-2] |= 0x78
			b[len(b)-1] |= 8
		}
	}
	return g.operands(append(b, op))
}

// operands appends ModRM and what may follow.
func (g *gen) operands(b []byte) []byte {
	modrm := byte(g.rng.Uint32())
	if g.chance(3) { // fields 4..7: with REX, RSP and R12..R15
		modrm |= 0x24
	}
	if g.chance(4) {
		modrm |= 0xc0
	}
	b = append(b, modrm)
	if modrm>>6 != 3 && modrm&7 == 4 {
		sib := byte(g.rng.Uint32())
		if g.chance(2) {
			sib = sib&^0x38 | 0x20 // no index, or R12
		}
		b = append(b, sib)
		if modrm>>6 == 0 && sib&7 == 5 { // absolute, with or without index
			return append(binary.LittleEndian.AppendUint32(b, uint32(lowBase+dataOffset+g.rng.IntN(2*pageSize))), g.imm()...)
		}
	}
	switch modrm >> 6 {
	case 1:
		b = append(b, byte(g.rng.IntN(80)-40))
	case 2:
		d := int32(g.rng.IntN(4096) - 2048)
		if g.chance(10) {
			d = int32(g.rng.Uint32())
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(d))
	case 0:
		if modrm&7 == 5 { // RIP-relative: set by the caller
			b = append(b, 0, 0, 0, 0)
		}
	}
	return append(b, g.imm()...)
}

func (g *gen) imm() []byte {
	v := g.rng.Uint64()
	switch g.rng.IntN(4) {
	case 0:
		v %= 128
	case 1:
		v = -(v % 128)
	case 2:
		v = g.data()
	}
	return binary.LittleEndian.AppendUint64(nil, v)
}

// movImm is mov reg, v.
func movImm(reg int, v uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0x48 | byte(reg>>3), 0xb8 | byte(reg&7)}, v)
}

// program returns n random instructions, ended by an INT3: mostly straight-line code, with jumps forward, calls, returns,
// indirect jumps and counted loops in it.
func (g *gen) program(n int) []byte {
	var code []byte
	type fix struct {
		off  int // of the rel32
		inst int // where it goes to: before this instruction
	}
	var fixes []fix
	starts := make([]int, 0, n+1)
	at := func() uint64 { return g.base + uint64(len(code)) }
	for i := 0; i < n; i++ {
		starts = append(starts, len(code))
		switch k := g.rng.IntN(48); {
		case k < 6: // a register gets a new address
			code = append(code, movImm(g.rng.IntN(16), g.value())...)
		case k == 6: // jcc forward
			code = append(code, 0x0f, 0x80|byte(g.rng.IntN(16)), 0, 0, 0, 0)
			fixes = append(fixes, fix{len(code) - 4, i + 1 + g.rng.IntN(n-i)})
		case k == 7:
			op := byte(0xe9)
			if g.chance(2) {
				op = 0xe8
			}
			code = append(code, op, 0, 0, 0, 0)
			fixes = append(fixes, fix{len(code) - 4, i + 1 + g.rng.IntN(n-i)})
		case k == 8: // ret, most likely to nowhere
			if g.chance(4) {
				code = append(code, 0xc3)
			}
		case k == 9: // jrcxz or loop, over one instruction
			next := g.inst(at() + 2)
			code = append(code, 0xe0|byte(g.rng.IntN(4)), byte(len(next)))
			code = append(code, next...)
		case k == 10: // call a function that returns with RET, and an indirect jump through a register
			reg := g.rng.IntN(16)
			body := g.inst(at() + 10)
			code = append(code, 0xe8, 5, 0, 0, 0, 0xe9) // call +5; jmp over
			code = binary.LittleEndian.AppendUint32(code, uint32(len(body)+1))
			code = append(code, body...)
			code = append(code, 0xc3)
			if g.chance(2) {
				code = append(code, movImm(reg, at()+10+2+1)...)
				code = append(code, 0x40|byte(reg>>3), 0xff, 0xe0|byte(reg&7))
			}
		case k == 11: // counted loop: mov ecx, k; body; lea rcx,[rcx-1]/dec; jnz or jrcxz
			code = append(code, 0xb9, byte(1+g.rng.IntN(5)), 0, 0, 0)
			start := len(code)
			for range 1 + g.rng.IntN(4) {
				b := g.inst(at())
				if in, err := x86.Decode(b, at()); err == nil && in.Writes&(1<<x86.RCX) == 0 && len(b) < 12 {
					code = append(code, b...)
				}
			}
			if g.chance(2) {
				code = append(code, 0xff, 0xc9, 0x75) // dec ecx; jnz
			} else {
				code = append(code, 0xe2) // loop
			}
			code = append(code, byte(start-len(code)-1))
		default:
			code = append(code, g.inst(at())...)
		}
	}
	starts = append(starts, len(code))
	for _, f := range fixes {
		binary.LittleEndian.PutUint32(code[f.off:], uint32(starts[min(f.inst, n)]-f.off-4))
	}
	return append(code, 0xcc)
}
