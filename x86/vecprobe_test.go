package x86

import (
	"fmt"
	"maps"
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

// vecRow is a row of the tables to be written.
type vecRow struct {
	space, pp, opcode, digit int // digit -1: any
	cond                     []string
	p                        *probed
	mod                      string // modMem, modReg or ""
}

func (p *probed) key() string {
	var b strings.Builder
	for _, a := range p.args {
		fmt.Fprintf(&b, "_%s%s", a.where, a.sym)
		if a.access != "" {
			fmt.Fprintf(&b, "|%s", a.access)
		}
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "; %s; %s", strings.Join(p.attrList(), " "), p.effect)
	return b.String()
}

func (p *probed) attrList() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(p.attrs)) {
		if p.attrs[k] && k != "expand" {
			out = append(out, k)
		}
	}
	return out
}

var vecSizes = []struct {
	sym string
	of  func(l int) int
}{
	{"b", func(int) int { return 1 }}, {"w", func(int) int { return 2 }}, {"d", func(int) int { return 4 }},
	{"q", func(int) int { return 8 }}, {"dq", func(int) int { return 16 }}, {"qq", func(int) int { return 32 }},
	{"zz", func(int) int { return 64 }}, {"x", func(l int) int { return 16 << l }}, {"h", func(l int) int { return 8 << l }},
	{"f", func(l int) int { return 4 << l }}, {"e", func(l int) int { return 2 << l }},
}

// symbolic finds sizes that hold for all vector lengths in byLen (nil: there is none), or reports that there are none.
func symbolic(byLen []*probed) (*probed, bool) {
	var first *probed
	for _, p := range byLen {
		if p == nil {
			continue
		}
		if first == nil {
			first = p
			continue
		}
		if p.mnemonic != first.mnemonic || len(p.args) != len(first.args) || p.effect != first.effect || !slices.Equal(p.attrList(), first.attrList()) {
			return nil, false
		}
	}
	out := *first
	out.args = slices.Clone(first.args)
	for i := range out.args {
		a := &out.args[i]
		if a.where == "Ub" {
			continue
		}
		vec := strings.Contains("V U H L", a.where)
		found := false
		for _, s := range vecSizes {
			ok := true
			for l, p := range byLen {
				if p == nil {
					continue
				}
				n := s.of(l)
				if vec {
					n = max(n, 16)
				}
				if vec && s.of(l) < 16 && s.of(1) == s.of(0) { // the sizes of memory
					n = -1
				}
				ok = ok && p.args[i].where == a.where && p.args[i].access == a.access && p.args[i].size == n
			}
			if ok {
				a.sym, found = s.sym, true
				break
			}
		}
		if !found {
			return nil, false
		}
		if a.where[0] == 'K' || a.where == "X0" {
			a.sym = ""
		}
	}
	return &out, true
}

// lengthCond is the condition for a set of vector lengths out of max, and whether there is one.
func lengthCond(byLen []*probed) (string, bool) {
	set := 0
	for l, p := range byLen {
		if p != nil {
			set |= 1 << l
		}
	}
	if set == 1<<len(byLen)-1 {
		return "", true
	}
	s, ok := map[int]string{1: "l0", 2: "l1", 4: "l2", 3: "nl2", 6: "nl0"}[set]
	return s, ok
}

// byLength makes rows of the encodings that differ in the vector length only.
func byLength(byLen []*probed, cond []string, row vecRow) (out []vecRow) {
	any := false
	for _, p := range byLen {
		any = any || p != nil
	}
	if !any {
		return nil
	}
	c, ok := lengthCond(byLen)
	if ok {
		if p, ok := symbolic(byLen); ok {
			row.p, row.cond = p, slices.Clone(cond)
			if c != "" {
				row.cond = append(row.cond, c)
			}
			return []vecRow{row}
		}
	}
	for l, p := range byLen {
		if p == nil {
			continue
		}
		one := make([]*probed, len(byLen))
		one[l] = p
		out = append(out, byLength(one, cond, row)...)
	}
	return out
}

// joinMod makes one row of one for memory and one for registers, if they differ in nothing else.
func joinMod(mem, reg vecRow) (vecRow, bool) {
	if mem.p.mnemonic != reg.p.mnemonic || !slices.Equal(mem.cond, reg.cond) || len(mem.p.args) != len(reg.p.args) || mem.p.effect != reg.p.effect {
		return mem, false
	}
	j := *mem.p
	j.args = slices.Clone(mem.p.args)
	for i := range j.args {
		a, b := &j.args[i], reg.p.args[i]
		if a.where != "M" {
			if a.where != b.where || a.sym != b.sym || a.access != b.access {
				return mem, false
			}
			continue
		}
		if a.access != b.access {
			return mem, false
		}
		switch b.where {
		case "U":
			// Registers are as wide as memory, and 16 at least.
			same := a.sym == b.sym || b.sym == "dq" && strings.Contains("bwdq", a.sym)
			if !same {
				return mem, false
			}
			a.where = "W"
		case "R":
			if a.sym != b.sym {
				return mem, false
			}
			a.where = "E"
		case "KR":
			a.where = "KE"
		default:
			return mem, false
		}
	}
	if mem.p.attrs["k"] != reg.p.attrs["k"] || mem.p.attrs["z"] != reg.p.attrs["z"] {
		return mem, false
	}
	j.attrs = maps.Clone(mem.p.attrs)
	maps.Copy(j.attrs, reg.p.attrs)
	for k, v := range mem.p.attrs {
		j.attrs[k] = j.attrs[k] || v
	}
	mem.p, mem.mod = &j, ""
	return mem, true
}

// vecRows are the rows of an opcode and digit with W as it is.
func (z *zydis) vecRows(space, pp, opcode, w, digit int) []vecRow {
	lengths := 1
	if space >= spaceVEX {
		lengths = 2
	}
	if space >= spaceEVEX {
		lengths = 3
	}
	var mem, reg []*probed
	for l := range lengths {
		mem = append(mem, z.probeVec(space, pp, opcode, w, l, digit, false))
		reg = append(reg, z.probeVec(space, pp, opcode, w, l, digit, true))
	}
	rows := byLength(mem, nil, vecRow{space: space, pp: pp, opcode: opcode, digit: digit, mod: "modMem"})
	for _, r := range byLength(reg, nil, vecRow{space: space, pp: pp, opcode: opcode, digit: digit, mod: "modReg"}) {
		joined := false
		for i, m := range rows {
			if m.mod != "modMem" {
				continue
			}
			if j, ok := joinMod(m, r); ok {
				rows[i], joined = j, true
				break
			}
		}
		if !joined {
			rows = append(rows, r)
		}
	}
	for i := range rows { // a mod that follows from an operand
		for _, a := range rows[i].p.args {
			if rows[i].mod == "modMem" && a.where == "M" || rows[i].mod == "modReg" && strings.Contains("U R KR", a.where) {
				break
			}
		}
	}
	return rows
}

func sameRow(a, b vecRow) bool {
	return a.p.mnemonic == b.p.mnemonic && a.mod == b.mod && slices.Equal(a.cond, b.cond) && a.p.key() == b.p.key()
}

// joinW joins the rows with W clear and set. General registers of 4 and 8 bytes become those of szY.
func joinW(w0, w1 []vecRow) (out []vecRow) {
	used := make([]bool, len(w1))
next:
	for _, a := range w0 {
		for i, b := range w1 {
			if used[i] {
				continue
			}
			if sameRow(a, b) {
				used[i] = true
				out = append(out, a)
				continue next
			}
			if y := withY(a, "d"); sameRow(y, withY(b, "q")) {
				used[i] = true
				out = append(out, y)
				continue next
			}
		}
		a.cond = append([]string{"w0"}, a.cond...)
		out = append(out, a)
	}
	for i, b := range w1 {
		if !used[i] {
			b.cond = append([]string{"w1"}, b.cond...)
			out = append(out, b)
		}
	}
	return out
}

func withY(r vecRow, sym string) vecRow {
	p := *r.p
	p.args = slices.Clone(p.args)
	for i := range p.args {
		if a := &p.args[i]; strings.Contains("E G R B", a.where) && a.sym == sym {
			a.sym = "y"
		}
	}
	r.p = &p
	return r
}

// allVecRows are the rows of a space.
func (z *zydis) allVecRows(space int) (out []vecRow) {
	for pp := range 4 {
		for opcode := range 256 {
			if space == 1 && (opcode == 0x0f || opcode == 0x38 || opcode == 0x3a) {
				continue
			}
			var by [8][]vecRow
			same := true
			for digit := range 8 {
				by[digit] = joinW(z.vecRows(space, pp, opcode, 0, digit), z.vecRows(space, pp, opcode, 1, digit))
				same = same && slices.EqualFunc(by[digit], by[0], sameRow)
			}
			if same {
				for i := range by[0] {
					by[0][i].digit = -1
				}
				out = append(out, by[0]...)
				continue
			}
			for _, rows := range by {
				out = append(out, rows...)
			}
		}
	}
	return out
}

// vecTable is the text of a table of the rows of some spaces.
func (z *zydis) vecTable(name string, spaces ...int) string {
	type group struct {
		head string
		list []string
	}
	var groups []*group
	byHead := make(map[string]*group)
	for _, space := range spaces {
		for _, r := range z.allVecRows(space) {
			sel := []string{map[int]string{1: "m0f", 2: "m0f38", 3: "m0f3a", 4: "vex0f", 5: "v0f38", 6: "v0f3a", 7: "evex0f", 8: "e0f38", 9: "e0f3a"}[space],
				[]string{"np", "p66", "pF3", "pF2"}[r.pp]}
			if r.mod != "" {
				sel = append(sel, r.mod)
			}
			sel = append(sel, r.cond...)
			var args []string
			for _, a := range r.p.args {
				s := "_" + a.where + a.sym
				if a.access != "" {
					s += "|" + a.access
				}
				args = append(args, s)
			}
			fl, imp := "f0", "0"
			var imps []string
			for _, e := range strings.Fields(r.p.effect) {
				if e[0] == 'f' {
					fl = e
				} else {
					imps = append(imps, e)
				}
			}
			if len(imps) > 0 {
				imp = strings.Join(imps, "|")
			}
			attr := "0"
			if l := r.p.attrList(); len(l) > 0 {
				attr = ""
				for _, a := range l {
					attr += "|" + map[string]string{"k": "mask", "z": "zeroing", "er": "er", "sae": "sae", "b4": "bcast4", "b8": "bcast8", "b2": "bcast2"}[a]
				}
				attr = attr[1:]
			}
			head := fmt.Sprintf("\t{%s, ops{%s}, %s, %s, %s, ", strings.Join(sel, "|"), strings.Join(args, ", "), fl, imp, attr)
			g := byHead[head]
			if g == nil {
				g = &group{head: head}
				byHead[head] = g
				groups = append(groups, g)
			}
			digit := ""
			if r.digit >= 0 {
				digit = fmt.Sprintf("/%d", r.digit)
			}
			g.list = append(g.list, fmt.Sprintf("%02x%s %s", r.opcode, digit, r.p.mnemonic))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "package x86\n\n// Code generated by go test -run TestVectorTables -update. DO NOT EDIT.\n\nvar %s = [...]vecGroup{\n", name)
	for _, g := range groups {
		b.WriteString(g.head)
		line := ""
		for _, e := range g.list {
			if len(line)+len(e) > 105 {
				fmt.Fprintf(&b, "\"%s \" +\n\t\t", line)
				line = ""
			}
			line = strings.TrimSpace(line + " " + e)
		}
		fmt.Fprintf(&b, "\"%s\"},\n", line)
	}
	b.WriteString("}\n")
	return b.String()
}
