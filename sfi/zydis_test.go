package sfi

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"ub/target"
)

// zMem is a memory operand as Zydis sees it.
type zMem struct {
	kind        uint32 // zMemNormal or zMemAgen
	gs          bool   // explicit GS override
	segment     uint32
	base, index int // hardware numbers, -1 none, regRIP
	scale       uint8
	disp        int64
	size        int // bytes
	read, write bool
	hidden      bool
}

// zFacts is what the policy asks about one instruction, from Zydis alone.
type zFacts struct {
	length    int
	mnemonic  string
	writes    uint16     // general registers, in part or perhaps
	highByte  bool       // AH, BH, CH or DH is an operand
	rsp, rbp  bool       // RSP, RBP is a register operand, hidden ones included
	other     []uint32   // registers that are neither general nor flags nor RIP nor vector registers
	vec       target.Vec // level of the vector registers
	vexOrEVEX bool
	mems      []zMem
	sure      bool // there is a memory operand, and all of it is accessed whatever the values of masks and counts are
	branch    bool
	target    int64 // relative to the start of the instruction
	lock      bool
	rep       bool
	width     int // operand width in bits
	destReg   int // explicit destination register, or -1
	destBits  int
	srcReg    int // second explicit operand if a register
	srcBits   int
	count     int // of SHRX with 64 bits: the register, which is not RSP or RBP as an operand; or -1
	imm       int64
	hasImm    bool
}

// zReg turns a Zydis register into a hardware number and a width in bits (8 with high for AH and so on).
func zReg(r uint32) (n, width int, high bool) {
	switch {
	case r >= zAL && r < zAH:
		return int(r - zAL), 8, false
	case r >= zAH && r < zSPL:
		return int(r - zAH), 8, true
	case r >= zSPL && r <= zR15B:
		return int(r-zSPL) + 4, 8, false
	case r >= zAX && r <= zR15W:
		return int(r - zAX), 16, false
	case r >= zEAX && r <= zR15D:
		return int(r - zEAX), 32, false
	case r >= zRAX && r <= zR15:
		return int(r - zRAX), 64, false
	}
	return -1, 0, false
}

// facts decodes the instruction at the start of code.
func (z *zydis) facts(code []byte) (f zFacts, ok bool) {
	if !z.decode(code) {
		return f, false
	}
	in := &z.inst
	f = zFacts{
		length: int(in.length), mnemonic: z.mnemonic(), lock: in.attr&zAttrLock != 0,
		rep: in.attr&(zAttrRep|zAttrRepe) != 0, width: int(in.operandW), destReg: -1, srcReg: -1, count: -1,
	}
	switch in.encoding {
	case zEncodingVEX:
		f.vexOrEVEX = true
	case zEncodingEVEX:
		f.vexOrEVEX, f.vec = true, target.VecAVX512
	}
	if f.mnemonic == "vzeroupper" || f.mnemonic == "vzeroall" || strings.Contains(f.mnemonic, "cvt") {
		f.vec = max(f.vec, target.VecAVX) // Zydis lists neither the registers nor, for conversions from memory, MXCSR
	}
	for i := range z.ops[:in.nOps] {
		o := &z.ops[i]
		switch o.kind {
		case zOpReg:
			n, width, high := zReg(o.reg)
			if n < 0 {
				switch {
				case o.reg >= zXMM0 && o.reg < zZMM0 && (o.reg-zXMM0)%32 < 16, o.reg == zMXCSR:
					f.vec = max(f.vec, target.VecAVX)
					continue
				case o.reg >= zXMM0 && o.reg <= zZMM31, o.reg >= zK0 && o.reg <= zK7:
					f.vec = target.VecAVX512
					continue
				}
				if o.reg != zRIP && (o.reg < zFlags || o.reg > zRFlags) && o.reg != 0 {
					f.other = append(f.other, o.reg)
				}
				continue
			}
			f.highByte = f.highByte || high
			if f.mnemonic == "shrx" && i == 2 && width == 64 {
				f.count = n
				continue
			}
			f.rsp, f.rbp = f.rsp || n == 4, f.rbp || n == 5
			if o.actions&zWrite != 0 {
				f.writes |= 1 << n
			}
			if o.visibility != zHidden {
				if i == 0 && o.actions&zWrite != 0 {
					f.destReg, f.destBits = n, width
				} else if i == 1 {
					f.srcReg, f.srcBits = n, width
				}
			}
		case zOpMem:
			m := zMem{
				kind: o.reg, segment: o.segment, gs: o.segment == zGS, base: -1, index: -1, scale: o.scale, disp: o.disp,
				size: int(o.size) / 8, read: o.actions&zRead != 0, write: o.actions&zWrite != 0, hidden: o.visibility == zHidden,
			}
			if o.base == zRIP {
				m.base = regRIP
			} else if o.base != 0 {
				m.base, _, _ = zReg(o.base)
			}
			if o.index != 0 {
				m.index, _, _ = zReg(o.index)
			}
			f.mems = append(f.mems, m)
		case zOpImm:
			f.imm, f.hasImm = o.imm(), true
			if in.branch != 0 {
				f.branch, f.target = true, o.imm()+int64(in.length)
			}
		}
	}
	f.sure = len(f.mems) == 1 && f.mems[0].kind == zMemNormal && !f.mems[0].hidden && z.sure(&f)
	return f, true
}

// sure tells whether the instruction decoded last, which has a memory operand, accesses it always.
func (z *zydis) sure(f *zFacts) bool {
	switch f.mnemonic {
	case "nop", "shld", "shrd", "vmaskmovps", "vmaskmovpd", "vpmaskmovd", "vpmaskmovq":
		return false
	case "rol", "ror", "rcl", "rcr", "shl", "shr", "sar":
		return z.inst.opcode&0xfe == 0xd0 // by 1
	}
	for i := range z.ops[:z.inst.nOps] {
		o := &z.ops[i]
		if o.kind == zOpReg && o.encoding == zEncodingMask && o.reg != zK0 {
			return false
		}
	}
	// Immediates choose elements, and may choose none from memory; so may the mask of a blend.
	return f.vec == target.VecNone || !f.hasImm && !strings.Contains(f.mnemonic, "blendv")
}

func TestZydisLayout(t *testing.T) {
	z := needZydis(t)
	if z.inst.attr = 0; !z.decode(unhex("f0654c0fc17cd3f8")) {
		t.Fatal("does not decode")
	}
	if got := z.format(0); got != "lock xadd gs:[rbx+rdx*8-0x08], r15" {
		t.Error(got)
	}
	f, _ := z.facts(unhex("f0654c0fc17cd3f8"))
	if f.length != 8 || f.mnemonic != "xadd" || f.writes != 1<<15 || !f.lock || len(f.mems) != 1 {
		t.Errorf("%+v", f)
	}
	if m := f.mems[0]; !m.gs || m.base != 3 || m.index != 2 || m.scale != 8 || m.disp != -8 || m.size != 8 || !m.read || !m.write || m.hidden || m.kind != zMemNormal {
		t.Errorf("%+v", m)
	}
	f, _ = z.facts(unhex("f348a4"))
	if f.mnemonic != "movsb" || f.writes != 1<<1|1<<6|1<<7 || !f.rep || len(f.mems) != 2 || f.mems[0].size != 1 {
		t.Errorf("%+v", f)
	}
	f, _ = z.facts(unhex("75fe"))
	if !f.branch || f.target != 0 {
		t.Errorf("%+v", f)
	}
	f, _ = z.facts(unhex("8d40ff"))
	if len(f.mems) != 1 || f.mems[0].kind != zMemAgen || f.destReg != 0 || f.destBits != 32 {
		t.Errorf("%+v", f)
	}
	f, _ = z.facts(unhex("50"))
	if !f.rsp || len(f.mems) != 1 || !f.mems[0].hidden {
		t.Errorf("%+v", f)
	}
	f, _ = z.facts(unhex("86e0"))
	if !f.highByte || f.writes != 1 || f.srcReg != 0 {
		t.Errorf("%+v", f)
	}
	for n, want := range map[uint32]string{
		zXMM0: "xmm0", zYMM0: "ymm0", zZMM0: "zmm0", zZMM31: "zmm31", zK0: "k0", zK7: "k7", zMXCSR: "mxcsr", zGS: "gs",
	} {
		if got := z.registerName(n); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if z.decode(unhex("62f17c48580c00")); z.isaSet() != "AVX512F_512" || z.inst.encoding != zEncodingEVEX {
		t.Error(z.isaSet())
	}
	f, _ = z.facts(unhex("0f6fc0"))
	if len(f.other) == 0 {
		t.Errorf("%+v", f)
	}
	if z.decode(unhex("06")) {
		t.Error("06 decodes")
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// disagreement compares the verifier's reading of an accepted instruction with Zydis's, and returns what differs.
func disagreement(in *inst, f *zFacts) string {
	switch {
	case int(in.len) != f.length:
		return "length"
	case f.writes&^in.clobber != 0:
		return "a register is written that the verifier does not know of"
	case in.lock != f.lock:
		return "lock"
	case in.rep != f.rep:
		return "rep"
	case f.vec != in.form.vec:
		return "vector level"
	case f.rsp && (in.form.fx != fxMovs && in.form.fx != fxStos):
		return "rsp is an operand"
	case len(f.other) != 0 && !slices.Contains([]string{"rdtsc", "rdtscp", "rdpid", "movsb", "stosb"}, f.mnemonic) && in.form.fx != fxMovs && in.form.fx != fxStos:
		return "registers of another kind"
	case (in.form.flow != flowNext) != f.branch:
		return "branch"
	case f.branch && in.target-int64(in.off) != f.target:
		return "branch target"
	}
	if in.form.fx == fxMovs || in.form.fx == fxStos {
		want := map[effect]int{fxMovs: 2, fxStos: 1}[in.form.fx]
		if len(f.mems) != want || f.mems[0].size != int(in.elem()) {
			return "string element"
		}
		for _, m := range f.mems {
			if m.base != regRDI && m.base != regRSI || m.index >= 0 || m.disp != 0 || m.gs {
				return "string address"
			}
		}
		return ""
	}
	// An over-approximation of the writes would be safe, but here it would be a mistake: none is needed.
	if in.clobber != f.writes && !in.rep {
		return "registers written"
	}
	if !in.hasMem {
		if len(f.mems) != 0 {
			return "a memory operand that the verifier does not know of"
		}
		return ""
	}
	if in.form.mnemonic == "nop" {
		return "" // Zydis calls it an operand; nothing is accessed
	}
	if len(f.mems) != 1 {
		return "number of memory operands"
	}
	m := f.mems[0]
	if (m.kind == zMemAgen) != (in.msize == 0) || m.kind != zMemAgen && m.kind != zMemNormal {
		return "kind of memory operand"
	}
	num := func(r uint8) int {
		if r == regNone {
			return -1
		}
		return int(r)
	}
	if m.base != num(in.base) || m.index != num(in.index) || m.disp != int64(in.disp) || m.gs != in.gs {
		return "address"
	}
	if in.index != regNone && m.scale != in.scale {
		return "scale"
	}
	if in.msize != 0 && in.sure != f.sure {
		return "whether the memory operand is always accessed"
	}
	if in.msize != 0 && (m.size != int(in.msize) || m.read != in.mread || m.write != in.mwrite) {
		return "access"
	}
	return ""
}
