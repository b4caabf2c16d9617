package x86

import (
	"fmt"
	"strings"
)

var regNames = func() (t [4][16]string) {
	for n, s := range []string{"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"} {
		t[3][n], t[2][n], t[1][n] = "r"+s, "e"+s, s
		t[0][n] = s + "l"
		if n < 4 {
			t[0][n] = s[:1] + "l"
		}
	}
	for n := 8; n < 16; n++ {
		s := fmt.Sprintf("r%d", n)
		t[3][n], t[2][n], t[1][n], t[0][n] = s, s+"d", s+"w", s+"b"
	}
	return t
}()

// String is the name of the register in full width.
func (r Reg) String() string { return r.Name(8) }

// Name is the name of a general register as seen by an access of size 1, 2, 4 or 8 bytes, of a vector register by one of 16,
// 32 or 64; of others, their name.
func (r Reg) Name(size int) string {
	switch {
	case r <= R15:
		w := 3
		switch size {
		case 1:
			w = 0
		case 2:
			w = 1
		case 4:
			w = 2
		}
		return regNames[w][r]
	case r <= BH:
		return string("acdb"[r-AH]) + "h"
	case r == RIP:
		return "rip"
	case r < ST0 && size == 32:
		return fmt.Sprintf("ymm%d", r-XMM0)
	case r < ST0 && size == 64:
		return fmt.Sprintf("zmm%d", r-XMM0)
	case r < ST0:
		return fmt.Sprintf("xmm%d", r-XMM0)
	case r < MM0:
		return fmt.Sprintf("st%d", r-ST0)
	case r < K0:
		return fmt.Sprintf("mm%d", r-MM0)
	case r < ES:
		return fmt.Sprintf("k%d", r-K0)
	case r < CR0:
		return [...]string{"es", "cs", "ss", "ds", "fs", "gs"}[r-ES]
	case r < DR0:
		return fmt.Sprintf("cr%d", r-CR0)
	case r < DR0+16:
		return fmt.Sprintf("dr%d", r-DR0)
	}
	return "none"
}

// String lists the registers: "{rax, r12}".
func (s RegSet) String() string {
	var names []string
	for r := RAX; r <= R15; r++ {
		if s&(1<<r) != 0 {
			names = append(names, r.String())
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// String lists the flags, one letter each: CPAZSOD.
func (f Flags) String() string {
	var b []byte
	for i := range 7 {
		if f&(1<<i) != 0 {
			b = append(b, "CPAZSOD"[i])
		}
	}
	return string(b)
}

// condNames are the condition codes' suffixes.
var condNames = [16]string{"o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"}

// Mnemonic is the operation with condition and size suffix, without prefixes.
func (in *Inst) Mnemonic() string {
	switch in.Op {
	case OpJcc, OpSETcc, OpCMOVcc:
		return in.Op.String() + condNames[in.Cond&15]
	case OpMOVS, OpCMPS, OpSTOS, OpLODS, OpSCAS:
		switch in.Width {
		case 1, 2, 4, 8:
			return in.Op.String() + string("bw d   q"[in.Width-1])
		}
	case OpPUSHF, OpPOPF:
		if in.Width == 8 {
			return in.Op.String() + "q"
		}
	case OpJRCXZ:
		if in.Width == 4 {
			return "jecxz"
		}
	}
	return in.Op.String()
}

// String is the instruction in Intel syntax, in lower case. Of an instruction that is not Known it shows what there is:
// a name, or the opcode.
func (in *Inst) String() string {
	var b strings.Builder
	if in.Lock {
		b.WriteString("lock ")
	}
	if in.Class == ClassString {
		repeated := in.Op == OpCMPS || in.Op == OpSCAS
		switch {
		case in.RepNE:
			b.WriteString("repne ")
		case in.Rep && repeated:
			b.WriteString("repe ")
		case in.Rep:
			b.WriteString("rep ")
		}
		if p := segPrefix(in.Mem.Seg); p != "" {
			b.WriteString(p[:2] + " ")
		}
	}
	if in.Op == OpInvalid {
		b.WriteString(in.Enc.String())
		return b.String()
	}
	b.WriteString(in.Mnemonic())
	if !in.Known {
		b.WriteString(" ...")
		return b.String()
	}
	if in.Class == ClassEnter {
		fmt.Fprintf(&b, " %#x, %#x", in.Imm&0xffff, in.Imm>>16)
		return b.String()
	}
	for i := range in.Ops[:in.NumOps] {
		o := &in.Ops[i]
		if i == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteString(", ")
		}
		switch o.Kind {
		case KindReg:
			b.WriteString(o.Reg.Name(int(o.Size)))
		case KindMem:
			if o.Size != 0 {
				b.WriteString(sizeNames[o.Size])
			}
			b.WriteString(in.Mem.String())
		case KindImm:
			b.WriteString(in.immText())
		case KindRel:
			fmt.Fprintf(&b, "%#x", in.Target)
		}
		if i == 0 && in.Mask != NoReg {
			fmt.Fprintf(&b, "{%v}", in.Mask)
			if in.Zeroing {
				b.WriteString("{z}")
			}
		}
		if o.Kind == KindMem && in.Broadcast {
			b.WriteString("{bcast}")
		}
	}
	return b.String()
}

var sizeNames = [65]string{1: "byte ptr ", 2: "word ptr ", 4: "dword ptr ", 8: "qword ptr ", 16: "xmmword ptr ",
	32: "ymmword ptr ", 64: "zmmword ptr "}

// immText shows values that are sign-extended from a byte, or to 64 bits, signed; others as the bits that the operation
// sees.
func (in *Inst) immText() string {
	if in.Imm < 0 && in.Width > 1 && (in.Enc.ImmLen == 1 || in.Width == 8 && in.Enc.ImmLen < 8) {
		return fmt.Sprintf("-%#x", -in.Imm)
	}
	v := uint64(in.Imm)
	if in.Width > 0 && in.Width < 8 {
		v &= 1<<(8*in.Width) - 1
	}
	return fmt.Sprintf("%#x", v)
}

func segPrefix(s Seg) string {
	switch s {
	case SegFS:
		return "fs:"
	case SegGS:
		return "gs:"
	}
	return ""
}

// String is the address in Intel syntax: "gs:[rax+rcx*8-0x10]".
func (m Mem) String() string {
	size := 8
	if m.Addr32 {
		size = 4
	}
	var b strings.Builder
	b.WriteString(segPrefix(m.Seg))
	b.WriteByte('[')
	sep := ""
	switch {
	case m.Base == RIP && m.Addr32:
		b.WriteString("eip")
		sep = "+"
	case m.Base != NoReg:
		b.WriteString(m.Base.Name(size))
		sep = "+"
	}
	if m.Index != NoReg {
		fmt.Fprintf(&b, "%s%s*%d", sep, m.Index.Name(size), m.Scale)
		sep = "+"
	}
	switch {
	case sep == "":
		fmt.Fprintf(&b, "%#x", uint64(int64(m.Disp)))
	case m.Disp < 0:
		fmt.Fprintf(&b, "-%#x", -int64(m.Disp))
	case m.Disp > 0:
		fmt.Fprintf(&b, "%s%#x", sep, m.Disp)
	}
	b.WriteByte(']')
	return b.String()
}

// String names the opcode: "(VEX.0F38 opcode 18)".
func (e *Encoding) String() string {
	maps := [...]string{0: "one-byte", 1: "0F", 2: "0F38", 3: "0F3A", 5: "map 5", 6: "map 6", 8: "map 8", 9: "map 9", 10: "map 10"}
	name := "?"
	if int(e.Map) < len(maps) && maps[e.Map] != "" {
		name = maps[e.Map]
	}
	kind := [...]string{EncLegacy: "", EncVEX: "VEX.", EncEVEX: "EVEX.", EncXOP: "XOP.", Enc3DNow: "3DNow "}[e.Kind]
	pp := ""
	switch {
	case e.PrefF3:
		pp = "F3."
	case e.PrefF2:
		pp = "F2."
	case e.OpSize66:
		pp = "66."
	}
	return fmt.Sprintf("(%s%s%s opcode %02x)", kind, pp, name, e.Opcode)
}
