package sfi

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"ub/target"
)

// asm writes blobs for the tests: only what the contract's sequences need, encoded one way.
type asm struct {
	kernel target.Kernel
	code   []byte
	fixes  []fix
}

type fix struct{ at, label int }

const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

func (a *asm) raw(b ...byte) { a.code = append(a.code, b...) }

func bit(b bool, v byte) byte {
	if b {
		return v
	}
	return 0
}

// modrm writes ModRM, SIB and a displacement of 32 bits for [base+disp].
func (a *asm) modrm(reg, base int, disp int32) {
	a.raw(0x80 | byte(reg&7)<<3 | byte(base&7))
	if base&7 == 4 {
		a.raw(0x24)
	}
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(disp))
}

// mem writes an instruction with a memory operand. width is 2, 4 or 8.
func (a *asm) mem(gs, lock bool, width int, opcode []byte, reg, base int, disp int32) {
	if lock {
		a.raw(0xf0)
	}
	if gs && a.kernel == target.Sentry {
		a.raw(0x65)
	}
	if width == 2 {
		a.raw(0x66)
	}
	a.raw(0x40 | bit(width == 8, 8) | byte(reg>>3)<<2 | byte(base>>3))
	a.raw(opcode...)
	a.modrm(reg, base, disp)
}

// reg writes opcode r/m, reg with registers.
func (a *asm) reg(width int, opcode []byte, reg, rm int) {
	a.raw(0x40 | bit(width == 8, 8) | byte(reg>>3)<<2 | byte(rm>>3))
	a.raw(opcode...)
	a.raw(0xc0 | byte(reg&7)<<3 | byte(rm&7))
}

// sanitize writes pdep dst, src, [rsp+SlotAddrMask].
func (a *asm) sanitize(dst, src int) {
	a.raw(0xc4, 0x62|bit(dst < 8, 0x80), 0x83|byte(^src&15)<<3, 0xf5)
	a.modrm(dst, rsp, target.SlotAddrMask)
}

// tag writes shrx dst, src, rsp, or rbp in Linux.
func (a *asm) tag(dst, src int) {
	count := rsp
	if a.kernel == target.Linux {
		count = rbp
	}
	a.raw(0xc4, 0x42|bit(dst < 8, 0x80)|bit(src < 8, 0x20), 0x83|byte(^count&15)<<3, 0xf7, 0xc0|byte(dst&7)<<3|byte(src&7))
}

// shifts writes shlx dst, src, count; shrx dst, dst, count.
func (a *asm) shifts(dst, src, count int) {
	for i, r := range []int{src, dst} {
		a.raw(0xc4, 0x42|bit(dst < 8, 0x80)|bit(r < 8, 0x20), []byte{0x81, 0x83}[i]|byte(^count&15)<<3, 0xf7, 0xc0|byte(dst&7)<<3|byte(r&7))
	}
}

func (a *asm) load(dst int, slot int32)  { a.mem(false, false, 8, []byte{0x8b}, dst, rsp, slot) }
func (a *asm) store(src int, slot int32) { a.mem(false, false, 8, []byte{0x89}, src, rsp, slot) }
func (a *asm) mov(dst, src int)          { a.reg(8, []byte{0x89}, src, dst) }
func (a *asm) lea(dst, base int, disp int32) {
	a.mem(false, false, 8, []byte{0x8d}, dst, base, disp)
}

func (a *asm) imm(dst int, v uint64) {
	a.raw(0x48|byte(dst>>3), 0xb8|byte(dst&7))
	a.code = binary.LittleEndian.AppendUint64(a.code, v)
}

// sum writes lea dst, [x+y].
func (a *asm) sum(dst, x, y int) {
	a.raw(0x48|byte(dst>>3)<<2|byte(y>>3)<<1|byte(x>>3), 0x8d, 0x84|byte(dst&7)<<3, byte(y&7)<<3|byte(x&7), 0, 0, 0, 0)
}

// step moves a register by lea, add, sub, inc or dec.
func (a *asm) step(how, reg int, d int32) {
	switch how {
	case 0:
		a.lea(reg, reg, d)
	case 1, 2:
		a.raw(0x48|byte(reg>>3), 0x81, 0xc0|byte(how-1)*0x28|byte(reg&7))
		a.code = binary.LittleEndian.AppendUint32(a.code, uint32(d))
	default:
		a.raw(0x48|byte(reg>>3), 0xff, 0xc0|byte(how-3)<<3|byte(reg&7))
	}
}

// touch checks the tag of src.
func (a *asm) touch(t, src int) {
	a.tag(t, src)
	if a.kernel == target.Linux {
		a.raw(0x48|byte(t>>3)<<2|byte(t>>3)<<1, 0x8b, 0x44|byte(t&7)<<3, 0xc5|byte(t&7)<<3, target.LinuxTouch)
		return
	}
	a.raw(0x48|byte(t>>3)<<2|byte(t>>3)<<1, 0x8b, 0x84|byte(t&7)<<3, 0xc4|byte(t&7)<<3)
	a.code = binary.LittleEndian.AppendUint32(a.code, target.SlotTouch)
}

func (a *asm) poll(t int) {
	if a.kernel == target.Linux {
		a.mem(false, false, 4, []byte{0x8b}, t, rbp, target.LinuxPollDisp)
		return
	}
	a.mem(false, false, 4, []byte{0x8b}, t, rsp, target.PollDisp)
}

// vector writes some vector instruction with [base+disp8], or with registers, and perhaps a general register.
func (a *asm) vector(r *rand.Rand, base int, disp int8) {
	b := byte(base >> 3)
	mem := func(prefix ...byte) { // behind the opcode: reg 0-7, base, 8 bits
		if a.kernel == target.Linux {
			prefix = prefix[1:] // GS
		}
		a.raw(prefix...)
		a.raw(0x40 | byte(r.IntN(8))<<3 | byte(base&7))
		if base&7 == 4 {
			a.raw(0x24)
		}
		a.raw(byte(disp))
	}
	l := byte(r.IntN(3))
	switch r.IntN(8) {
	case 0: // movups, addps and their kind
		mem(0x65, 0x40|b, 0x0f, []byte{0x10, 0x11, 0x28, 0x58, 0x5c, 0xc3}[r.IntN(5)])
	case 1: // pcmpeqb, pand, movdqa, paddd
		mem(0x65, 0x66, 0x40|b, 0x0f, []byte{0x74, 0xdb, 0x6f, 0x7f, 0xfe}[r.IntN(5)])
	case 2: // vaddps, vminps, vxorps
		mem(0x65, 0xc4, 0xc1|(1-b)<<5, byte(r.IntN(16))<<3|l&1<<2, []byte{0x58, 0x5d, 0x57}[r.IntN(3)])
	case 3: // vmovups and vmovdqu64 with a mask
		mem(0x65, 0x62, 0xd1|(1-b)<<5, 0x7c, 8|l<<5|byte(r.IntN(8)), []byte{0x10, 0x11}[r.IntN(2)])
		mem(0x65, 0x62, 0xd1|(1-b)<<5, 0xfe, 8|l<<5|byte(r.IntN(8)), []byte{0x6f, 0x7f}[r.IntN(2)])
	case 4: // vaddps with broadcast
		mem(0x65, 0x62, 0xd1|(1-b)<<5, 0x7c, 0x18|l<<5, 0x58)
	case 5: // vpmovdb
		mem(0x65, 0x62, 0xd2|(1-b)<<5, 0x7e, 8|l<<5, 0x31)
	case 6: // pmovmskb, movd, cvttsd2si, kmov to a general register
		reg := []byte{0, 1, 2, 3, 5, 6, 7}[r.IntN(7)] << 3
		a.raw([][]byte{{0x66, 0x44, 0x0f, 0xd7, 0xc0 | reg}, {0xf2, 0x48, 0x0f, 0x2c, 0xc0 | reg}, {0xc5, 0x78, 0x93, 0xc0 | reg},
			{0x62, 0x71, 0xfe, 0x18, 0x2d, 0xc0 | reg}}[r.IntN(4)]...)
	default: // vzeroupper, kandw, pcmpistri, pextrd
		a.raw([][]byte{{0xc5, 0xf8, 0x77}, {0xc5, 0xf4, 0x41, 0xc2}, {0x66, 0x0f, 0x3a, 0x63, 0xc1, 12}, {0x66, 0x41, 0x0f, 0x3a, 0x16, 0xc4, 1}}[r.IntN(4)]...)
	}
}

// jump writes opcode with a 32-bit offset to a label, to be resolved by link.
func (a *asm) jump(label int, opcode ...byte) {
	a.raw(opcode...)
	a.fixes = append(a.fixes, fix{len(a.code), label})
	a.raw(0, 0, 0, 0)
}

func (a *asm) exit(s target.Sym) {
	a.raw(0xe9)
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(envs[a.kernel].Syms[s]-(bases[a.kernel]+uint64(len(a.code))+4)))
}

func (a *asm) link(labels []int) {
	for _, f := range a.fixes {
		binary.LittleEndian.PutUint32(a.code[f.at:], uint32(labels[f.label]-f.at-4))
	}
}

// randomBlob makes a blob of the kind that a translator makes: blocks with sanitized accesses, slots, polls at the heads
// of loops, inline caches, string instructions, exits. Most are accepted, but not all: some use a register too late.
func randomBlob(r *rand.Rand, k target.Kernel) (code []byte, entries []uint32) {
	a := &asm{kernel: k}
	blocks := 1 + r.IntN(5)
	labels := make([]int, blocks)
	free := []int{rax, rcx, rdx, rbx, rsi, rdi, rbp, r8, r9, r10, r11}
	const slots = 8 // that may be written
	if k == target.Linux {
		free = slices.DeleteFunc(free, func(r int) bool { return r == rbp })
	}
	reserved := []int{r12, r13, r14, r15}
	pick := func(from []int) int { return from[r.IntN(len(from))] }
	for b := range blocks {
		if b == 0 || r.IntN(3) == 0 {
			entries = append(entries, uint32(len(a.code)))
			if k == target.Linux {
				a.raw(0xf3, 0x0f, 0x1e, 0xfa)
			}
		}
		labels[b] = len(a.code)
		a.poll(pick(reserved))
		for range r.IntN(8) {
			w := pick(reserved)
			p := pick(free)
			switch r.IntN(18) {
			case 0, 1, 2:
				a.lea(w, p, int32(r.IntN(1000)))
				if r.IntN(2) == 0 {
					a.touch(pick(reserved), w)
				}
				a.sanitize(w, p)
				for range 1 + r.IntN(3) {
					op := [][]byte{{0x8b}, {0x89}, {0x01}, {0x3b}, {0x0f, 0xb6}, {0x0f, 0xc1}}[r.IntN(6)]
					a.mem(true, false, []int{2, 4, 8}[r.IntN(3)], op, pick(free), w, int32(r.IntN(256)-128))
				}
			case 3:
				a.store(p, int32(r.IntN(slots)*8))
				a.load(pick(free), int32(r.IntN(slots)*8))
			case 4:
				a.load(w, target.SlotFSBase)
				a.mem(true, false, 8, []byte{0x8b}, p, w, 0x28)
			case 5:
				a.imm(w, uint64(r.Uint32()))
				a.mem(true, true, 8, []byte{0x0f, 0xb1}, p, w, 0)
			case 6:
				for range 1 + r.IntN(3) {
					a.reg([]int{4, 8}[r.IntN(2)], [][]byte{{0x01}, {0x29}, {0x31}, {0x85}, {0x0f, 0xaf}, {0x0f, 0xbd}}[r.IntN(6)], p, pick(free))
				}
			case 7:
				a.mov(r15, rcx)
				a.imm(w, -uint64(r.Uint32()))
				a.sum(rcx, r13, w)
				a.raw(0xe3, 0x00)
				a.mov(rcx, r15)
			case 8:
				if k == target.Linux {
					a.sanitize(rdi, rdi)
					a.sanitize(rsi, rsi)
				} else {
					a.sanitize(r12, rdi)
					a.load(r13, target.SlotBase)
					a.sum(rdi, r12, r13)
					a.sanitize(r14, rsi)
					a.sum(rsi, r13, r14)
				}
				a.raw(0x0f, 0xb7, 0xc9) // movzx ecx, cx
				a.raw([][]byte{{0xf3, 0xa4}, {0xf3, 0x48, 0xa5}, {0xaa}, {0xf3, 0xab}}[r.IntN(4)]...)
			case 9:
				a.raw([][]byte{{0x48, 0xf7, 0xe3}, {0x48, 0x99}, {0x0f, 0x31}, {0x9f}, {0x0f, 0x94, 0xc0}, {0x90}, {0x0f, 0x1f, 0x44, 0, 0}}[r.IntN(7)]...)
			case 10:
				// A register that may have been sanitized somewhere above.
				a.mem(true, false, 8, []byte{0x8b}, p, w, int32(r.IntN(64)))
			case 12, 13:
				a.sanitize(w, p)
				for range 1 + r.IntN(3) {
					a.vector(r, w, int8(r.IntN(256)-128))
				}
			case 14, 15, 16:
				// On from where an access has been, in this block or round a loop.
				if r.IntN(2) == 0 {
					a.sanitize(w, p)
				}
				for range r.IntN(4) {
					if r.IntN(3) == 0 {
						a.vector(r, w, int8(r.IntN(256)-128))
					} else {
						op := [][]byte{{0x8b}, {0x89}, {0x0f, 0xb6}, {0x0f, 0x44}, {0xd3}, {0x0f, 0xa5}}[r.IntN(6)]
						a.mem(true, false, 8, op, p, w, int32(r.IntN(256)-128))
					}
					step := int32(r.IntN(128))
					if r.IntN(4) == 0 {
						step = int32(r.Uint32()) >> r.IntN(16)
					}
					a.step(r.IntN(5), w, step)
				}
			case 17:
				count := pick(reserved)
				bits := map[target.Kernel]int{target.Sentry: 64 - target.WindowBits, target.Linux: 64 - target.LinuxAddrBits}[k]
				a.imm(count, uint64(r.IntN(2)*64+bits+r.IntN(3)))
				a.shifts(w, p, count)
				a.mem(true, false, 8, [][]byte{{0x8b}, {0x89}}[r.IntN(2)], p, w, int32(r.IntN(256)-128))
			case 11:
				a.mov(pick(reserved), w)
				a.lea(w, w, int32(r.IntN(1<<20)-1<<19))
			}
		}
		if r.IntN(2) == 0 {
			a.jump(r.IntN(blocks), 0x0f, 0x80|byte(r.IntN(16)))
		}
		if r.IntN(2) == 0 {
			a.exit(target.Sym(r.IntN(int(target.NumSyms))))
		} else {
			a.jump(r.IntN(blocks), 0xe9)
		}
	}
	a.link(labels)
	return a.code, entries
}
