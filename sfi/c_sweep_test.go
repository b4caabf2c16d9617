package sfi

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"ub/target"
)

// linuxBlob is a question about code that begins at an entry.
func linuxBlob(code []byte, entries []uint32, where string) cBlob {
	return cBlob{code, entries, linuxBase, linuxEnv, where}
}

// TestCMutants compares the two verifiers on random blobs, on changed versions of them and of the corpus, and on random bytes.
func TestCMutants(t *testing.T) {
	t.Parallel()
	c := startC(t)
	r := rand.New(rand.NewPCG(13, 14))
	var seeds []cBlob
	for _, k := range corpus(t) {
		if k.kernel == target.Linux && len(k.code) < 400 {
			seeds = append(seeds, cBlob{k.code, k.entries, k.base, k.env(), k.where})
		}
	}
	for range 4000 {
		code, entries := randomBlob(r, target.Linux)
		seeds = append(seeds, linuxBlob(code, entries, "a random blob"))
	}
	c.compare(t, seeds)
	seeds = slices.DeleteFunc(seeds, func(b cBlob) bool { return Verify(b.code, b.base, b.entries, b.env) != nil })
	total, accepted := 0, 0
	for range 8 {
		var blobs []cBlob
		for _, s := range seeds {
			for range 12 {
				m := s
				m.code = mutate(r, s.code)
				m.where = "a mutant of " + s.where
				switch r.IntN(16) {
				case 0:
					m.entries = append(slices.Clone(s.entries), uint32(r.IntN(len(s.code)+1)))
				case 1:
					m.env.Vec = target.Vec(r.IntN(int(target.NumVecs)))
				case 2:
					m.env.Syms[r.IntN(int(target.NumSyms))] = 0
				case 3:
					m.base = []uint64{0, 0xffff_8000_0000_0000, 0xffff_7fff_ffff_ffff, -uint64(len(m.code)), -uint64(len(m.code)) - 1, r.Uint64()}[r.IntN(6)]
				}
				blobs = append(blobs, m)
			}
		}
		total += len(blobs)
		accepted += c.compare(t, blobs)
	}
	t.Logf("%d seeds, %d mutants, %d accepted", len(seeds), total, accepted)
	if accepted < total/20 {
		t.Error("too few are accepted for the test to mean anything")
	}
	var noise []cBlob
	for range 50_000 {
		code := make([]byte, 1+r.IntN(40))
		for i := range code {
			code[i] = byte(r.Uint32())
			if r.IntN(4) == 0 {
				code[i] = []byte{0x0f, 0x48, 0xc4, 0xc5, 0x62, 0x66, 0xf3, 0x8b, 0x24, 0x45, 0x90, 0xe9}[r.IntN(12)]
			}
		}
		noise = append(noise, linuxBlob(code, nil, "random bytes"))
	}
	c.compare(t, noise)
}

// TestCSweep compares the two decoders: each opcode of each map with each ModRM byte and the usual prefixes. Behind the
// instruction is something that is always refused, so that its length shows in the offset.
func TestCSweep(t *testing.T) {
	t.Parallel()
	c := startC(t)
	var blobs []cBlob
	end := bytes.Repeat([]byte{0x06}, 15)
	flush := func() {
		c.compare(t, blobs)
		blobs = blobs[:0]
	}
	try := func(parts ...[]byte) {
		code := make([]byte, 0, 32)
		for _, p := range parts {
			code = append(code, p...)
		}
		if blobs = append(blobs, linuxBlob(append(code, end...), nil, "the sweep")); len(blobs) == 20_000 {
			flush()
		}
	}
	r := rand.New(rand.NewPCG(15, 16))
	n := 0
	for _, m := range opcodeMaps {
		for op := range 256 {
			for modrm := range 256 {
				for i, p := range []string{"", "\x66", "\xf3", "\xf2", "\x48"} {
					// All of them without a prefix and all that have something new; a part of the rest.
					if mod := modrm >> 6; i == 0 || mod == 3 || mod == 0 && r.IntN(4) == 0 || r.IntN(8) == 0 {
						n++
						try([]byte(p), []byte(m), []byte{byte(op), byte(modrm)})
					}
				}
			}
		}
	}
	for range 600_000 {
		n++
		mod := byte(r.Uint32())
		if r.IntN(2) == 0 {
			mod |= 0xc0
		}
		tail := []byte{byte(r.Uint32()), mod, byte(r.Uint32()), byte(r.Uint32())}
		p0, p1, p2 := byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())
		if r.IntN(2) == 0 { // no register in vvvv
			p1 |= 0x78
			p2 |= 8
		}
		switch r.IntN(8) {
		case 0:
			try([]byte{0xc5, p1}, tail)
		case 1, 2:
			try([]byte{0xc4, p0&0xe0 | 1 + p0&0x1f%3, p1}, tail)
		case 3:
			try([]byte{0x40 | p0&15}, []byte(opcodeMaps[p1&3]), tail)
		case 4:
			try([]byte{[]byte{0x66, 0xf2, 0xf3, 0xf0, 0x65, 0x67}[p0%6], []byte{0x66, 0xf2, 0xf3, 0xf0, 0x4c, 0x41}[p2%6]}, []byte(opcodeMaps[p1&3]), tail)
		case 5:
			try([]byte{0x62, p0, p1, p2}, tail)
		default:
			try([]byte{0x62, p0&0xf0 | 1 + p0&7%3, p1 | 4, p2}, tail)
		}
	}
	flush()
	t.Logf("%d instructions", n)
}

// TestCEffects compares what the two verifiers know behind each form: all registers are sanitized, the form executes, and then
// each of them is accessed, near and far. The first access that is refused shows in the offset.
func TestCEffects(t *testing.T) {
	t.Parallel()
	c := startC(t)
	prologue := &asm{code: unhex("f30f1efa"), kernel: target.Linux}
	for reg := range 16 {
		if reg != rsp && reg != rbp && reg != rcx && reg != r14 {
			prologue.sanitize(reg, reg)
		}
	}
	prologue.raw(0x0f, 0xb7, 0xc9)
	prologue.tag(r14, rax)
	var blobs []cBlob
	for _, l := range formLines(t) {
		for reg := range 16 {
			for _, disp := range []int32{0, -0x300, 0x7ffffff0, -0x100000} {
				if reg == rsp || reg == rbp || reg%2 != int(disp&16)/16 {
					continue
				}
				a := &asm{code: slices.Clone(prologue.code), kernel: target.Linux}
				a.raw([]byte(withoutGS(l.code))...)
				a.mem(true, false, 8, []byte{0x8b}, rax, reg, disp)
				a.exit(0)
				blobs = append(blobs, linuxBlob(a.code, []uint32{0}, l.line))
			}
		}
	}
	t.Logf("%d blobs, %d accepted", len(blobs), c.compare(t, blobs))
}

// TestCLarge compares the two verifiers on large blobs, of the kinds that make the dataflow work.
func TestCLarge(t *testing.T) {
	t.Parallel()
	c := startC(t)
	var blobs []cBlob
	for name, code := range largeBlobs(1<<15, target.Linux) {
		blobs = append(blobs, linuxBlob(code, nil, name))
	}
	if n := c.compare(t, blobs); n != len(blobs) {
		t.Errorf("%d of %d accepted", n, len(blobs))
	}
	// The limits of size.
	c.compare(t, []cBlob{
		linuxBlob(nil, nil, "empty"),
		linuxBlob(append(bytes.Repeat([]byte{0x90}, MaxCode-5), 0xe9, 0, 0, 0, 0), nil, "MaxCode bytes, and a jump to the end"),
		linuxBlob(bytes.Repeat([]byte{0x90}, MaxCode+1), nil, "more than MaxCode bytes"),
		linuxBlob(bytes.Repeat([]byte{0x74, 0x00}, 1<<12), nil, "blocks of one jump"),
		linuxBlob(append(bytes.Repeat([]byte{0x74, 0x00, 0x90}, 1<<12), 0xe9, 0xfb, 0xff, 0xff, 0xff), nil, "the most blocks there can be"),
		linuxBlob(append(bytes.Repeat([]byte{0x8b, 0x45, 0x00, 0x74, 0xfb}, 1<<12), 0xeb, 0xf9), nil, "the most heads there can be"),
	})
}

// TestCLoops compares the two verifiers on random loops in loops, in which registers are handed on, moved and accessed: how
// soon each of them gives up on a register decides whether the accesses are allowed.
func TestCLoops(t *testing.T) {
	t.Parallel()
	c := startC(t)
	r := rand.New(rand.NewPCG(17, 18))
	regs := []int{rax, rcx, rdx, rbx, rsi, rdi, r8, r9}
	pick := func() int { return regs[r.IntN(len(regs))] }
	var blobs []cBlob
	for range 12_000 {
		a := &asm{code: unhex("f30f1efa"), kernel: target.Linux}
		for _, reg := range regs {
			if r.IntN(2) == 0 {
				a.sanitize(reg, reg)
			} else {
				a.imm(reg, uint64(r.IntN(1000)))
			}
		}
		var labels []int
		for i := range 1 + r.IntN(6) {
			labels = append(labels, len(a.code))
			a.poll(r15)
			for range r.IntN(6) {
				switch reg := pick(); r.IntN(8) {
				case 0:
					a.sanitize(reg, pick())
				case 1:
					a.imm(reg, uint64(r.IntN(1000)))
				case 2, 3:
					a.mem(true, false, 8, []byte{0x8b}, r14, reg, int32(r.IntN(128)-64))
				case 4:
					a.mov(reg, pick())
				case 5:
					a.step(r.IntN(5), reg, int32(r.IntN(128)-64))
				default:
					a.lea(reg, pick(), 8)
				}
			}
			a.jump(r.IntN(i+1), 0x0f, 0x85)
		}
		a.mem(true, false, 8, []byte{0x8b}, r14, pick(), int32(r.IntN(1024)-512))
		a.exit(0)
		a.link(labels)
		blobs = append(blobs, linuxBlob(a.code, []uint32{0}, "random loops"))
	}
	n := c.compare(t, blobs)
	if t.Logf("%d of %d random loops accepted", n, len(blobs)); n < len(blobs)/20 {
		t.Error("too few are accepted for the test to mean anything")
	}
}

// TestCSizes compares what the two verifiers know of the size of each form's memory operand: it reaches just to the limit, and
// one byte beyond.
func TestCSizes(t *testing.T) {
	t.Parallel()
	c := startC(t)
	var blobs []cBlob
	for _, l := range formLines(t) {
		code := []byte(withoutGS(l.code))
		var in inst
		if linuxTable().decode(append(slices.Clone(code), make([]byte, 15)...), 0, &in) != nil || !in.program || in.base != r12 || int(in.len) != len(code) {
			continue
		}
		for beyond := range int32(2) {
			a := &asm{code: unhex("f30f1efa"), kernel: target.Linux}
			a.sanitize(r12, rax)
			a.lea(r12, r12, 0x7fffffff)
			a.lea(r12, r12, 0x7fffffff)
			a.lea(r12, r12, 2-in.disp-int32(in.msize)+beyond)
			a.raw(code...)
			a.exit(0)
			blobs = append(blobs, linuxBlob(a.code, []uint32{0}, l.line))
		}
	}
	if n := c.compare(t, blobs); n < len(blobs)/3 || n > len(blobs)/2 {
		t.Errorf("%d of %d accepted", n, len(blobs))
	}
}

// TestCSymbols compares the two verifiers on jumps to symbols, near ones and those that are not there.
func TestCSymbols(t *testing.T) {
	c := startC(t)
	var blobs []cBlob
	add := func(base, sym uint64, code ...byte) {
		b := cBlob{code: code, base: base, env: Env{Kernel: target.Linux}, where: "a jump to a symbol"}
		for s := range b.env.Syms {
			b.env.Syms[s] = sym
			blobs = append(blobs, b)
			b.env.Syms[s] = 0
		}
	}
	add(linuxBase, linuxBase+0x20, 0xe9, 0x1b, 0, 0, 0)
	add(linuxBase, linuxBase+0x20, 0xeb, 0x1e)
	add(linuxBase, linuxBase+0x20, 0x0f, 0x84, 0x1a, 0, 0, 0, 0xe9, 0x15, 0, 0, 0)
	add(linuxBase, linuxBase-0x20, 0xe9, 0xdb, 0xff, 0xff, 0xff)
	add(1<<64-0x1000, 0, 0xe9, 0xfb, 0x0f, 0, 0)
	add(1<<64-0x1000, 0x10, 0xe9, 0x0b, 0x10, 0, 0)
	add(0xffff_8000_0000_0000, 0x7fff_ffff_0000, 0xe9, 0xfb, 0xff, 0xfe, 0xff)
	for _, base := range []uint64{0, 0xffff_7fff_ffff_ffff, 0xffff_8000_0000_0000, 1<<64 - 6, 1<<64 - 5, 1<<64 - 4, 1<<64 - 1, 1 << 63} {
		add(base, base+0x20, 0xe9, 0x1b, 0, 0, 0)
	}
	t.Logf("%d of %d accepted", c.compare(t, blobs), len(blobs))
}

// FuzzC looks for blobs on which the two verifiers do not agree.
func FuzzC(f *testing.F) {
	addSeeds(f)
	c := startC(f)
	f.Fuzz(func(t *testing.T, code []byte, entry uint16, kernel bool) {
		if len(code) > 4096 || !kernel {
			return
		}
		c.compare(t, []cBlob{linuxBlob(code, []uint32{0, uint32(entry)}, "fuzz"), linuxBlob(code, nil, "fuzz, no entry")})
	})
}
