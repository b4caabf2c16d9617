package btc_test

import (
	"encoding/binary"
	"testing"

	"ub/x86"
)

// Dense programs: what compilers make of functions, and what the register cache has most to do with. All of the program's
// registers that live in slots are pointers and counters at once, values are copied and displaced, stack pointers move, and
// functions call each other. The programs of program() seldom get far before they fault; these run to their end.

// dense returns a program of a few functions, ended by an INT3.
func (g *gen) dense() []byte {
	functions := 1 + g.rng.IntN(3)
	bodies := make([][]byte, functions)
	for i := functions - 1; i >= 0; i-- {
		bodies[i] = g.denseBody(i, functions)
	}
	// The program is: call f0; int3; f0; f1; ...
	code := []byte{0xe8, 1, 0, 0, 0, 0xcc}
	starts := make([]int, functions)
	for i, b := range bodies {
		starts[i] = len(code)
		code = append(code, b...)
	}
	for i := 0; i+4 < len(code); i++ {
		if code[i] == 0xe8 && binary.LittleEndian.Uint32(code[i+1:])>>8 == callMark {
			to := starts[code[i+1]]
			binary.LittleEndian.PutUint32(code[i+1:], uint32(to-i-5))
		}
	}
	return code
}

// callMark is in the upper three bytes of the displacement of a call that is to be resolved, with the function's number
// in the first. No other code has these bytes.
const callMark = 0xf1f2f3

// slotRegs live in slots (but for RSP); pointers is what may address memory.
var slotRegs = []byte{12, 13, 14, 15}

func (g *gen) pick(set ...byte) byte { return set[g.rng.IntN(len(set))] }

// anyReg is a register that holds an address in the data, more often than not one of a slot.
func (g *gen) anyReg() byte {
	if g.chance(2) {
		return g.pick(slotRegs...)
	}
	return g.pick(0, 3, 5, 6, 7, 8, 9, 10)
}

// rm appends ModRM, SIB and displacement for [base+disp], with reg.
func (g *gen) rm(b []byte, reg, base byte, disp int) []byte {
	m := 0x80 | reg&7<<3 | base&7
	short := disp >= -128 && disp < 128 && g.chance(2)
	if short {
		m = 0x40 | m&0x3f
	}
	b = append(b, m)
	if base&7 == 4 {
		b = append(b, 0x24)
	}
	if short {
		return append(b, byte(disp))
	}
	return binary.LittleEndian.AppendUint32(b, uint32(disp))
}

// disp keeps addresses within the two pages that data() mostly points to, however registers have been displaced.
func (g *gen) disp() int { return g.rng.IntN(64)*8 - 256 }

func rexFor(reg, base byte) byte { return 0x48 | reg>>3<<2 | base>>3 }

// denseInst is one instruction of a body. frame is how many bytes of the stack above RSP the function may use.
func (g *gen) denseInst(frame int) []byte {
	r, s := g.anyReg(), g.anyReg()
	imm := byte(g.rng.IntN(32))
	switch g.rng.IntN(14) {
	case 0: // mov r, s
		return []byte{rexFor(s, r), 0x89, 0xc0 | s&7<<3 | r&7}
	case 1: // lea r, [s+disp]
		return g.rm([]byte{rexFor(r, s), 0x8d}, r, s, int(imm)-16)
	case 2: // lea r, [rsp+disp]
		return g.rm([]byte{rexFor(r, 4), 0x8d}, r, 4, g.rng.IntN(frame/8)*8)
	case 3: // add or sub r, imm
		return []byte{rexFor(0, r), 0x83, g.pick(0xc0, 0xe8) | r&7, imm}
	case 4, 5: // load of a number: into RDX, which is no pointer
		return g.rm([]byte{rexFor(2, s), g.pick(0x8b, 0x03, 0x33, 0x3b)}, 2, s, g.disp())
	case 6, 7: // store, of pointers too
		return g.rm([]byte{rexFor(r, s), g.pick(0x89, 0x39)}, r, s, g.disp())
	case 8: // to and from the frame
		return g.rm([]byte{rexFor(r, 4), 0x89}, r, 4, g.rng.IntN(frame/8)*8)
	case 9: // fs:[disp]
		return binary.LittleEndian.AppendUint32([]byte{0x64, 0x48, 0x8b, 0x14, 0x25}, uint32(g.rng.IntN(16)*8))
	case 10: // xchg, xor-swap free: cmp sets flags that later branches see
		return []byte{rexFor(s, r), 0x39, 0xc0 | s&7<<3 | r&7}
	case 11: // indexed load
		b := []byte{rexFor(2, s) | 2, 0x8b, 0x14, 0x80 | 4<<3 | s&7} // scale 4, index r12 ... replaced below
		b[0] &^= 2
		b[2], b[3] = 0x54, 0x40|1<<3|s&7 // [s + rcx*2 + 8]
		return append(b, 8)
	case 12: // vector
		return g.rm([]byte{0xc5, 0xfa, 0x6f}, byte(g.rng.IntN(8)), g.pick(0, 3, 5, 6, 7), g.disp())
	default: // cmov r, s: both are addresses
		return []byte{rexFor(r, s), 0x0f, 0x40 | byte(g.rng.IntN(16)), 0xc0 | r&7<<3 | s&7}
	}
}

// denseBody is function number i of n.
func (g *gen) denseBody(i, n int) []byte {
	var b []byte
	push := func(r byte) {
		if r >= 8 {
			b = append(b, 0x41)
		}
		b = append(b, 0x50|r&7)
	}
	pop := func(r byte) {
		if r >= 8 {
			b = append(b, 0x41)
		}
		b = append(b, 0x58|r&7)
	}
	var saved []byte
	for _, r := range []byte{15, 14, 13, 12, 5, 3} {
		if g.chance(2) {
			saved = append(saved, r)
			push(r)
		}
	}
	frame := 8 * (1 + g.rng.IntN(12))
	b = append(b, 0x48, 0x83, 0xec, byte(frame))
	insts := func() {
		for range g.rng.IntN(8) {
			b = append(b, g.denseInst(frame)...)
		}
	}
	call := func() {
		if i+1 < n && g.chance(2) {
			b = append(b, 0xe8, byte(i+1+g.rng.IntN(n-i-1)), callMark&0xff, callMark>>8&0xff, callMark>>16)
		}
	}
	for range 1 + g.rng.IntN(4) {
		switch g.rng.IntN(4) {
		case 0: // if
			insts()
			at := len(b)
			b = append(b, 0x0f, 0x80|byte(g.rng.IntN(16)), 0, 0, 0, 0)
			insts()
			call()
			binary.LittleEndian.PutUint32(b[at+2:], uint32(len(b)-at-6))
		case 1: // a loop, counted in ECX on the stack so that calls may use ECX
			b = append(b, 0xb9, byte(1+g.rng.IntN(4)), 0, 0, 0)
			start := len(b)
			insts()
			if g.chance(3) { // the counter's home is the frame
				b = append(b, 0x89, 0x0c, 0x24) // mov [rsp], ecx
				call()
				b = append(b, 0x31, 0xc9, 0xff, 0xc1) // xor ecx,ecx; inc ecx: ends the loop
			}
			b = append(b, 0xff, 0xc9, 0x0f, 0x85) // dec ecx; jnz
			b = binary.LittleEndian.AppendUint32(b, uint32(start-len(b)-4))
		default:
			insts()
			call()
		}
	}
	b = append(b, 0x48, 0x83, 0xc4, byte(frame))
	for k := len(saved) - 1; k >= 0; k-- {
		pop(saved[k])
	}
	return append(b, 0xc3)
}

// denseState has a pointer into the data in every register.
func (g *gen) denseState() state {
	s := g.state()
	for i := range s.gpr {
		s.gpr[i] = g.base + dataOffset + 1024 + g.rng.Uint64N(4096)&^7
	}
	s.gpr[1] = g.rng.Uint64N(64)
	s.gpr[4] = g.base + dataOffset + 4*pageSize + 3072
	s.fsBase = g.base + dataOffset + 512
	return s
}

// TestDense executes dense programs natively and translated. Nearly all of them run to their end in translated code.
func TestDense(t *testing.T) { eachKernel(t, testDense) }

func testDense(t *testing.T, w *world) {
	n := *sequences
	if testing.Short() {
		n /= 10
	}
	insts := 0
	for i := range n {
		seed := *firstSeed + uint64(i)
		g := newGen(seed)
		w.fill(g.rng, g.base)
		code := g.dense()
		for off := 0; off < len(code); insts++ {
			in, err := x86.Decode(code[off:], g.base)
			if err != nil || !in.Known && in.Op != x86.OpINT3 {
				t.Fatalf("seed %d: the generator made % x at %#x: %v", seed, code[off:min(len(code), off+15)], off, err)
			}
			off += in.Len
		}
		w.setCode(code)
		w.check(t, g.denseState(), code)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d programs of %d instructions on average, %d not entered, %d left by a fault that is not the program's", w.runs, insts/n, w.stops, w.spurious)
	if w.stops > n/10 {
		t.Errorf("%d of %d programs were not entered", w.stops, n)
	}
}
