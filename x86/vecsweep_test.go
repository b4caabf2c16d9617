package x86

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sweepVectors calls f with n encodings each of every opcode, mandatory prefix, W and vector length of the spaces with
// vector instructions. Everything else is random, likely things being likelier.
func sweepVectors(rnd *rand.Rand, n int, f func(code []byte)) {
	var buf [MaxLen + 1]byte
	for space := 1; space < spaceXOP; space++ {
		lengths := 1
		if space >= spaceVEX {
			lengths = 2
		}
		if space >= spaceEVEX {
			lengths = 4
		}
		for variant := range 4 * 2 * lengths * 256 {
			pp, w, l, opcode := byte(variant&3), byte(variant>>2&1), byte(variant>>3&(lengths-1)), byte(variant/(8*lengths))
			if space == 1 && (opcode == 0x0f || opcode == 0x38 || opcode == 0x3a) {
				continue
			}
			for range n {
				x := rnd.Uint64()
				bits := func(n int) byte {
					v := byte(x & (1<<n - 1))
					x >>= n
					return v
				}
				// Segment, 67h.
				i := 0
				if k := bits(4); k < 4 {
					i += copy(buf[i:], []byte{[...]byte{0x64, 0x65, 0x67, 0x2e}[k]})
				}
				rxb, high := bits(3), bits(1)
				vvvv := bits(4)
				if bits(1) == 0 {
					vvvv = 15
				}
				switch {
				case space < spaceVEX:
					if pp != 0 {
						i += copy(buf[i:], []byte{[...]byte{0, 0x66, 0xf3, 0xf2}[pp]})
					}
					if w|rxb != 0 {
						i += copy(buf[i:], []byte{0x40 | w<<3 | rxb})
					}
					i += copy(buf[i:], [][]byte{1: {0x0f}, 2: {0x0f, 0x38}, 3: {0x0f, 0x3a}}[space])
				case space < spaceEVEX && space == spaceVEX && w == 0 && rxb&3 == 0 && high == 0:
					i += copy(buf[i:], []byte{0xc5, ^rxb<<5&0x80 | vvvv<<3 | l<<2 | pp})
				case space < spaceEVEX:
					i += copy(buf[i:], []byte{0xc4, ^rxb<<5&0xe0 | byte(space-spaceVEX+1), w<<7 | vvvv<<3 | l<<2 | pp})
				default:
					var aaa, b, z byte
					if bits(1) == 0 {
						aaa = bits(3)
					}
					if bits(2) == 0 {
						b = 0x10
					}
					if bits(2) == 0 {
						z = 0x80
					}
					vHigh := byte(8)
					if bits(2) == 0 {
						vHigh = 0
					}
					i += copy(buf[i:], []byte{0x62, ^rxb<<5&0xe0 | high<<4 | byte(space-spaceEVEX+1), w<<7 | vvvv<<3 | 4 | pp, z | l<<5 | b | vHigh | aaa})
				}
				buf[i] = opcode
				for i++; i < len(buf); i++ {
					buf[i] = byte(rnd.Uint32())
				}
				f(buf[:])
			}
		}
	}
}

// TestVectorSweep compares both decoders on all vector opcodes.
func TestVectorSweep(t *testing.T) {
	z := needZydis(t)
	rnd := rand.New(rand.NewPCG(3, uint64(*seed)))
	n := 20 * *rounds
	if testing.Short() {
		n = 2
	}
	var diffs tally
	tried, exist, known := 0, 0, 0
	unknown := make(map[string]int)
	sweepVectors(rnd, n, func(code []byte) {
		in, err := Decode(code, 0x400000)
		diff, ok := z.difference(code, &in, err)
		if diff != "" {
			diffs.add(t, code, diff)
		}
		tried++
		if ok {
			exist++
			if in.Vec != VecNone {
				known++
			} else if !in.Known {
				unknown[z.mnemonic()]++
			}
		}
	})
	t.Logf("%d tried, %d instructions, %d known vector instructions, %d differences", tried, exist, known, diffs.total)
	if testing.Verbose() {
		t.Logf("not known: %v", unknown)
	}
}

// TestVectorReencode re-encodes vector instructions with other memory operands and registers. What comes out must be, in
// Zydis' reading too, the same instruction with those operands.
func TestVectorReencode(t *testing.T) {
	z := needZydis(t)
	rnd := rand.New(rand.NewPCG(4, uint64(*seed)))
	n := 6 * *rounds
	if testing.Short() {
		n = 1
	}
	done, refused := 0, 0
	var diffs tally
	sweepVectors(rnd, n, func(code []byte) {
		in, err := Decode(code, 0x400000)
		if err != nil || in.Vec == VecNone {
			return
		}
		z.decode(code)
		mnemonic := z.mnemonic()
		var s Subst
		want := in
		if in.HasMem {
			m := Base(R14, 0)
			m.Seg = SegGS
			switch rnd.IntN(4) {
			case 0:
				m.Disp = int32(rnd.Uint32())
			case 1:
				m.Disp = int32(rnd.IntN(256)) - 128
			case 2:
				m.Disp = (int32(rnd.IntN(300)) - 150) * 16
			case 3:
				m.Disp = (int32(rnd.IntN(300)) - 150) * 64
			}
			if rnd.IntN(4) == 0 {
				m.Base, m.Index, m.Scale = Reg(rnd.IntN(16)), Reg(8+rnd.IntN(8)), 4
			}
			s = s.Mem(m)
			want.Mem = m
		}
		vectors := Reg(16)
		if in.Enc.Kind == EncEVEX {
			vectors = 32
		}
		for i := range want.Ops[:want.NumOps] {
			o := &want.Ops[i]
			if o.Kind != KindReg || o.Field == FieldImplicit || o.Field == FieldIS4 {
				continue
			}
			switch {
			case o.Reg <= R15:
				from := o.Reg
				if o.Reg = R12 + Reg(rnd.IntN(4)); rnd.IntN(2) == 0 {
					s = s.Rename(from, o.Reg)
					continue
				}
			case o.Reg >= K0:
				o.Reg = K0 + Reg(rnd.IntN(8))
			case rnd.IntN(2) == 0:
				o.Reg = XMM0 + Reg(rnd.IntN(int(vectors)))
			}
			s = s.Field(o.Field, o.Reg)
		}
		again, err := in.Reencode(s)
		if err != nil {
			refused++
			diffs.add(t, code, fmt.Sprintf("%s / %s: %v", mnemonic, in.String(), err))
			return
		}
		got, err := Decode(again, 0x400000)
		if err != nil || got.Len != len(again) {
			diffs.add(t, code, fmt.Sprintf("%s / %s: becomes % x: %d bytes, %v", mnemonic, in.String(), again, got.Len, err))
			return
		}
		if d, ok := z.difference(again, &got, err); d != "" || !ok || z.mnemonic() != mnemonic {
			diffs.add(t, code, fmt.Sprintf("%s / %s: becomes % x: %s %s", mnemonic, in.String(), again, z.mnemonic(), d))
			return
		}
		// The bits of EVEX that are neither registers nor the displacement's.
		if in.Enc.Kind == EncEVEX && (in.Enc.VEX[3]^got.Enc.VEX[3])&^8 != 0 || in.Enc.ImmRaw != got.Enc.ImmRaw || in.Enc.ImmLen != got.Enc.ImmLen {
			diffs.add(t, code, fmt.Sprintf("%s / %s: other bits in % x", mnemonic, in.String(), again))
			return
		}
		what := func(in *Inst) string {
			return fmt.Sprint(in.Op, in.Ops, in.Mem, in.HasMem, in.Imm, in.Mask, in.Zeroing, in.Broadcast, in.Vec, in.FlagsRead, in.FlagsWritten)
		}
		if g, w := what(&got), what(&want); g != w {
			diffs.add(t, code, fmt.Sprintf("%s / %s: becomes %s, want %s", mnemonic, in.String(), g, w))
		}
		done++
	})
	t.Logf("%d re-encoded, %d differences", done, diffs.total)
	if refused > 0 || done == 0 {
		t.Errorf("%d refused", refused)
	}
}
