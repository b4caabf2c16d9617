package x86

import (
	"fmt"
	"go/format"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

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

func TestVectorTables(t *testing.T) {
	z := needZydis(t)
	for _, f := range []struct {
		file, name string
		spaces     []int
	}{
		{"table_sse.go", "groupsSSE", []int{1, 2, 3}},
		{"table_avx.go", "groupsAVX", []int{spaceVEX, spaceVEX + 1, spaceVEX + 2}},
		{"table_evex.go", "groupsEVEX", []int{spaceEVEX, spaceEVEX + 1, spaceEVEX + 2}},
	} {
		got, err := format.Source([]byte(z.vecTable(f.name, f.spaces...)))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(f.file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(f.file)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got) {
			t.Errorf("%s differs from what Zydis knows: run go test -run TestVectorTables -update and look at the difference", f.file)
		}
	}
}
