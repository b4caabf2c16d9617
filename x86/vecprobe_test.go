package x86

import (
	"fmt"
	"slices"
	"strings"
)

// The vector tables (table_sse.go, table_avx.go, table_evex.go) are data that go test -run TestVectorTables -update
// writes, from what Zydis says about every encoding, corrected where Zydis is wrong or laxer than this package wants to
// be. What comes out is meant to be read and reviewed; TestVectorTables notices when either side changes.

// probed is what Zydis says about one vector encoding, in the terms of vecGroup.
type probed struct {
	mnemonic string
	args     []probedArg
	attrs    map[string]bool
	effect   string // flags and implicit general registers
}

// probedArg is an operand: its place by name (V, H, W ...), access, and the size in bytes, all registers of vectors
// being at least 16 wide.
type probedArg struct {
	where, access string
	size          int
	sym           string
}

// vecISA are the extensions that the vector tables cover, by Zydis 4.0's ZydisISASet. Not among them: gathers, ER, PF,
// 4FMAPS, 4VNNIW, BF16, FP16, VP2INTERSECT, FMA4, SSE4A, what has MMX or x87 operands.
func vecISA(n uint32) bool {
	in := func(first, last uint32) bool { return n >= first && n <= last }
	switch n {
	case 2, 9, 10, 76, 77, 78, 90, 93, 97, 130, 151, 155, 156, 158, 160, 161, 163, 165, 172, 174:
		return true // AES AVX AVX2 VAES GFNI VNNI F16C FMA GFNI PCLMULQDQ SHA SSE SSE2 SSE3 SSE4.1 SSE4.2 MXCSR SSSE3 VAES VPCLMULQDQ
	}
	return in(12, 25) || in(28, 33) || in(41, 43) || in(49, 66) || in(70, 75) // AVX512 BW CD DQ, F, BITALG, GFNI IFMA VAES VBMI2 VBMI VNNI, VPCLMULQDQ VPOPCNTDQ
}

// encodeProbe makes the bytes of one encoding. ModRM.reg is digit, ModRM.rm [rcx] or register 1.
func encodeProbe(space, pp, opcode, w, l, digit int, reg bool, vvvv int, last byte) []byte {
	m := byte(digit<<3 | 1)
	if reg {
		m |= 0xc0
	}
	v := byte(^vvvv & 15)
	var b []byte
	switch {
	case space < spaceVEX:
		b = append(b, [][]byte{{}, {0x66}, {0xf3}, {0xf2}}[pp]...)
		b = append(b, 0x40|byte(w)<<3)
		b = append(b, [][]byte{{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}}[space]...)
	case space < spaceEVEX:
		b = append(b, 0xc4, 0xe0|byte(space-spaceVEX+1), byte(w)<<7|v<<3|byte(l)<<2|byte(pp))
	default:
		b = append(b, 0x62, 0xf0|byte(space-spaceEVEX+1), byte(w)<<7|v<<3|4|byte(pp), 8|byte(l)<<5|last)
	}
	b = append(b, byte(opcode), m)
	return append(b, make([]byte, 8)...)
}

// probeVec asks about one encoding; nil if it isn't for the vector tables.
func (z *zydis) probeVec(space, pp, opcode, w, l, digit int, reg bool) *probed {
	for _, vvvv := range []int{5, 0} {
		code := encodeProbe(space, pp, opcode, w, l, digit, reg, vvvv, 0)
		if _, ok := z.decode(code); !ok || !vecISA(z.inst.isaSet) {
			continue
		}
		if in, _ := Decode(code, 0); in.row != 0 && int(in.row) <= vecFirst {
			return nil // in the integer tables
		}
		p := z.probedForm(space >= spaceEVEX)
		if p == nil || space < spaceEVEX {
			return p
		}
		try := func(last byte) bool {
			_, ok := z.decode(encodeProbe(space, pp, opcode, w, l, digit, reg, vvvv, last))
			return ok
		}
		p.attrs["k"] = try(1)
		// Zeroing of a memory destination is refused whatever the row says, and rows are for both kinds of operand.
		p.attrs["z"] = try(0x81) || p.attrs["k"] && !reg && p.args[0].access != "r" && p.args[0].where == "M"
		if !reg {
			if try(0x10) {
				p.attrs[fmt.Sprintf("b%d", z.ops[slices.IndexFunc(z.operands(), func(o zydisOperand) bool { return o.kind == zydisOpMem })].size/8)] = true
			}
			return p
		}
		for _, v := range []byte{0x10, 0x30, 0x50, 0x70} { // the length is not one then
			if _, ok := z.decode(encodeProbe(space, pp, opcode, w, 0, digit, reg, vvvv, v)); ok {
				if z.inst.avx[20] != 0 {
					p.attrs["er"] = true
				} else if z.inst.avx[32] != 0 {
					p.attrs["sae"] = true
				}
			}
		}
		return p
	}
	return nil
}

// probedForm describes the instruction just decoded, or returns nil if it has something that the tables cannot say.
func (z *zydis) probedForm(evex bool) *probed {
	p := &probed{mnemonic: z.mnemonic(), attrs: make(map[string]bool)}
	if strings.HasPrefix(p.mnemonic, "vpcompress") || strings.HasPrefix(p.mnemonic, "vpexpand") ||
		strings.HasPrefix(p.mnemonic, "vcompress") || strings.HasPrefix(p.mnemonic, "vexpand") {
		p.attrs["expand"] = true // what is accessed depends on the mask
	}
	if strings.HasPrefix(p.mnemonic, "cvtpi2") {
		return nil // with memory as well, CVTPI2PS changes x87 state
	}
	var imp []string
	for i, zo := range z.operands() {
		a := probedArg{size: int(zo.size / 8)}
		a.access = map[uint8]string{1: "r", 2: "w", 3: "rw", 9: "rw", 8: "cw"}[zo.actions]
		switch zo.kind {
		case zydisOpMem:
			if zo.visibility == zydisHidden || zo.mem().kind != 1 || p.attrs["expand"] {
				return nil
			}
			a.where = "M"
			if a.access == "w" && zydisMaskMov(p.mnemonic) {
				a.access = "cw"
			}
		case zydisOpImm:
			a.where, a.access = "Ub", ""
		case zydisOpReg:
			r := zydisRegs()[zo.reg()]
			if zo.visibility == zydisHidden {
				switch {
				case r.reg == XMM0 && strings.HasSuffix(z.registers[zo.reg()], "xmm0"):
					a.where = "X0"
				case r.reg <= R15:
					n := "ACDB"[r.reg : r.reg+1]
					if zo.actions&zydisRead != 0 {
						imp = append(imp, "r"+n)
					}
					if zo.actions&zydisWrite != 0 {
						imp = append(imp, "w"+n)
					}
					continue
				case z.registers[zo.reg()] == "rflags", z.registers[zo.reg()] == "mxcsr":
					continue
				default:
					return nil
				}
			}
			kind := 0
			switch {
			case r.reg <= R15:
				kind = 1
				a.size = int(r.size)
			case r.reg >= K0 && r.reg < ES:
				kind = 2
				a.size = 8
			case r.reg < XMM0 || r.reg >= ST0:
				return nil
			default:
				p.correct(i, &a, int(zo.size/8))
				a.size = int(r.size)
			}
			switch zo.encoding {
			case 1:
				a.where = []string{"V", "G", "KG"}[kind]
			case 2:
				a.where = []string{"U", "R", "KR"}[kind]
			case 4:
				a.where = []string{"H", "B", "KH"}[kind]
			case 5:
				a.where = []string{"L", "", ""}[kind]
			case 6:
				continue // the mask: attrs
			}
		}
		p.args = append(p.args, a)
	}
	if len(p.args) > 4 {
		return nil
	}
	if z.inst.cpuFlags != nil {
		f := z.inst.cpuFlags
		written := f.modified | f.set0 | f.set1 | f.undefined
		if zydisTests(p.mnemonic) {
			written = 0x8d5
		}
		if f.tested != 0 || f.undefined != 0 || written != 0 && written != 0x8d5 {
			panic(fmt.Sprintf("%s: flags %+v", p.mnemonic, *f))
		}
		if written != 0 {
			imp = append([]string{"fArith"}, imp...)
		}
	}
	p.effect = strings.Join(imp, " ")
	return p
}

// correct mends what Zydis says about access to vector register operand i, of which it accesses size bytes: a legacy
// encoding leaves what is above alone (SDM vol. 1, 14.1), except when it loads or is MOVD or MOVQ.
func (p *probed) correct(i int, a *probedArg, size int) {
	if i == 0 && a.access == "w" && mergesUpper(p.mnemonic, size) {
		a.access = "rw"
	}
}

// zydisTests are the instructions of which Zydis lacks that they clear AF, OF, PF, SF (SDM vol. 2, VTESTPD/VTESTPS, PTEST,
// KORTEST, KTEST).
func zydisTests(mnemonic string) bool {
	return strings.HasPrefix(mnemonic, "vtestp") || mnemonic == "vptest" || strings.HasPrefix(mnemonic, "kortest") || strings.HasPrefix(mnemonic, "ktest")
}

// zydisMaskMov are stores under a mask in a vector register, of which Zydis says that they write all.
func zydisMaskMov(mnemonic string) bool {
	return strings.HasPrefix(mnemonic, "vmaskmovp") || strings.HasPrefix(mnemonic, "vpmaskmov")
}

// mergesUpper reports whether a legacy instruction that writes size bytes of an XMM register leaves the others alone.
func mergesUpper(mnemonic string, size int) bool {
	if size >= 16 || strings.HasPrefix(mnemonic, "v") {
		return false
	}
	return true
}
