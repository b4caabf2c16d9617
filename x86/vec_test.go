package x86

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func fromHex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectorDecode has examples that need no Zydis: text, level, memory size, general registers, flags.
func TestVectorDecode(t *testing.T) {
	for _, c := range []struct{ code, want string }{
		{"f3 0f 10 41 04", "movss xmm0, dword ptr [rcx+0x4]; level 1, reads {rcx}, writes {}, flags "},
		{"66 41 0f d7 c1", "pmovmskb eax, xmm9; level 1, reads {}, writes {rax}, flags "},
		{"f2 4c 0f 2c c0", "cvttsd2si r8, xmm0; level 1, reads {}, writes {r8}, flags "},
		{"66 0f 38 14 c1", "blendvps xmm0, xmm1, xmm0; level 1, reads {}, writes {}, flags "},
		{"66 0f 3a 61 01 08", "pcmpestri xmm0, xmmword ptr [rcx], 0x8; level 1, reads {rax, rcx, rdx}, writes {rcx}, flags CPAZSO"},
		{"0f ae 5c 24 fc", "stmxcsr dword ptr [rsp-0x4]; level 1, reads {rsp}, writes {}, flags "},
		{"c5 fd d7 c1", "vpmovmskb eax, ymm1; level 1, reads {}, writes {rax}, flags "},
		{"c5 f8 77", "vzeroupper; level 1, reads {}, writes {}, flags "},
		{"c4 e2 71 2e 01", "vmaskmovps xmmword ptr [rcx], xmm1, xmm0; level 1, reads {rcx}, writes {}, flags "},
		{"c5 fb 92 c8", "kmovd k1, eax; level 2, reads {rax}, writes {}, flags "},
		{"c5 f8 98 c9", "kortestw k1, k1; level 2, reads {}, writes {}, flags CPAZSO"},
		{"62 e1 7c 49 58 41 01", "vaddps zmm16{k1}, zmm0, zmmword ptr [rcx+0x40]; level 2, reads {rcx}, writes {}, flags "},
		{"62 f1 7c d9 58 41 01", "vaddps zmm0{k1}{z}, zmm0, dword ptr [rcx+0x4]{bcast}; level 2, reads {rcx}, writes {}, flags "},
		{"62 f1 7e 08 11 41 ff", "vmovss dword ptr [rcx-0x4], xmm0; level 2, reads {rcx}, writes {}, flags "},
		{"62 f3 7d 48 3b 41 01 01", "vextracti32x8 ymmword ptr [rcx+0x20], zmm0, 0x1; level 2, reads {rcx}, writes {}, flags "},
	} {
		in, err := Decode(fromHex(t, c.code), 0)
		got := fmt.Sprintf("%s; level %d, reads %s, writes %s, flags %s", in.String(), in.Vec, in.Reads, in.Writes, in.FlagsWritten)
		if err != nil || !in.Known || in.Class != ClassPlain || in.Flow != FlowNext || got != c.want {
			t.Errorf("%s: %s (known %v, class %d, error %v), want %s", c.code, got, in.Known, in.Class, err, c.want)
		}
	}
}

// TestVectorNever has what must not become translatable, by accident or otherwise.
func TestVectorNever(t *testing.T) {
	for _, c := range []string{
		"0f 6f c1", "0f 7f 01", "0f 6e c0", "0f 7e c0", "0f d6 c1", "0f e7 01", "0f 77", "0f ef c0", "0f 38 00 c1", // MMX
		"0f 2a c1", "0f 2a 01", "66 0f 2a 01", "0f 2d c1", "66 0f 2c c1", "f3 0f d6 c1", "f2 0f d6 c1", // MMX and XMM
		"0f f7 c1", "66 0f f7 c1", "c5 f9 f7 c1", // MASKMOVQ, MASKMOVDQU
		"c4 e2 79 90 04 09", "c4 e2 f9 92 04 09", "62 f2 7d 49 90 04 09", "62 f2 7d 49 a0 04 09", "62 f2 7d 49 c6 0c 09", // gathers, scatters
		"62 f2 7d 48 8a 01", "62 f2 7d 48 88 01", "62 f2 7d 48 63 01", "62 f2 7d 48 62 01", // VCOMPRESS, VEXPAND of memory
		"62 f2 7f 48 9a 01",                                        // V4FMADDPS
		"d9 c0", "9b", "0f 0e", "0f ae 01", "0f ae 21", "0f c7 21", // x87, FEMMS, FXSAVE, XSAVE, XSAVEC
		"66 0f 78 c0 01 02", "f3 0f 2b 01", // SSE4A
		"c4 e2 79 49 01", "c4 e2 7b 4b 04 01", // AMX
		"62 f5 7c 48 58 c1", // FP16
		"62 f1 7c 68 58 c1", // L'L is 3
	} {
		in, err := Decode(append(fromHex(t, c), make([]byte, 8)...), 0)
		if in.Known || err == nil && in.Class != ClassVector && in.Class != ClassStop {
			t.Errorf("%s: %s is known (class %d)", c, in.String(), in.Class)
		}
	}
}

// TestVectorSubst has replacements that need no Zydis, and those that must fail.
func TestVectorSubst(t *testing.T) {
	mem := Base(R14, 0x40)
	mem.Seg = SegGS
	for _, c := range []struct {
		code string
		s    Subst
		want string // hex, or part of the error
	}{
		{"f2 0f 2a c1", Subst{}.Mem(mem), "65 f2 41 0f 2a 46 40"},
		{"c5 f9 7e c0", Subst{}.RM(R12), "c4 c1 79 7e c4"},
		{"c4 e1 f9 7e c0", Subst{}.Mem(mem), "65 c4 c1 f9 7e 46 40"},
		{"c5 f9 7e c0", Subst{}.Mem(mem), "upper half"},
		{"62 e1 7c 48 28 01", Subst{}.Mem(mem), "65 62 c1 7c 48 28 46 01"},
		{"62 e1 7c 48 28 01", Subst{}.Mem(Base(R14, 0x41)), "62 c1 7c 48 28 86 41 00 00 00"},
		{"62 e1 7c 48 28 01", Subst{}.RM(RAX), "operand must be memory"},
		{"62 f1 7c 48 28 c1", Subst{}.RM(RAX), "cannot be encoded"},
		{"62 f1 7c 48 28 c1", Subst{}.RM(XMM0 + 31), "62 91 7c 48 28 c7"},
		{"c5 f8 28 c1", Subst{}.RM(XMM0 + 16), "cannot be encoded"},
		{"c5 f8 28 c1", Subst{}.Mem(mem), "operand must be a register"},
		{"62 f1 ff 58 2a c1", Subst{}.Mem(mem), "rounding"},
		{"c5 f8 28 05 00 00 00 00", Subst{}, "RIP-relative"},
		{"c4 e3 71 4a c2 30", Subst{}.Field(FieldIS4, XMM0), "no such operand"},
		{"66 0f 3a 61 c1 00", Subst{}.Rename(RCX, R12), "66 0f 3a 61 c1 00"},
	} {
		in, err := Decode(fromHex(t, c.code), 0)
		if err != nil || !in.Known {
			t.Errorf("%s: known %v, %v", c.code, in.Known, err)
			continue
		}
		b, err := in.Reencode(c.s)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", in.String(), err, c.want)
			}
			continue
		}
		if got := fmt.Sprintf("% x", b); got != c.want {
			t.Errorf("%s: %s, want %s", in.String(), got, c.want)
		}
	}
}
