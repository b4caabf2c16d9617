package sfi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ub/target"
)

// TestTableMutants breaks forms.txt in small ways, one line at a time, and checks that the comparison with Zydis or the
// corpus would notice: a table that is wrong must not pass the tests.
func TestTableMutants(t *testing.T) {
	z := needZydis(t)
	cases := map[int][]formLine{} // by line of the table
	for _, l := range formLines(t) {
		var in inst
		if l.want == "ok" && theTable().decode(append(l.code[:len(l.code):len(l.code)], make([]byte, 15)...), 0, &in) == nil {
			cases[in.form.line] = append(cases[in.form.line], l)
		}
	}
	lines := strings.Split(formsText, "\n")
	mutants := 0
	last := 0
	for _, f := range theTable().forms {
		if f.refused != 0 || f.line == last { // a line of several encodings is several forms
			continue
		}
		last = f.line
		orig := lines[f.line-1]
		for _, m := range lineMutants(orig) {
			// The cases of a line do not depend on the others.
			table, err := parseTable(m, target.Sentry)
			if err != nil {
				t.Fatalf("%s: %v", m, err)
			}
			mutants++
			if !noticed(z, table, cases[f.line]) {
				t.Errorf("forms.txt:%d could as well be: %s", f.line, m)
			}
		}
	}
	t.Logf("%d mutants", mutants)
}

// lineMutants returns wrong versions of a line of forms.txt.
func lineMutants(line string) (mutants []string) {
	words := strings.Fields(line)
	if enc, _, ok := strings.Cut(words[0], "."); ok && strings.Trim(enc, "SVE") == "" {
		return vectorMutants(words)
	}
	for i, w := range words {
		swap := func(new string) {
			m := append([]string(nil), words...)
			m[i] = new
			mutants = append(mutants, strings.Join(m, " "))
		}
		name, access, _ := strings.Cut(w, ":")
		if i > 0 && access != "" {
			if len(name) == 2 && strings.Contains("EMRGZB", name[:1]) {
				swap(name) // written, but the table does not say so
			} else {
				swap("-")
			}
		}
		if i == 0 || len(name) != 2 || !strings.Contains("EMIJ", name[:1]) || access == "" && i == 1 {
			continue
		}
		// Another size. z and y differ from v for some operands only.
		for _, s := range "bwdqv" {
			if byte(s) != name[1] && !(s == 'v' && name[1] == 'y') && !(name[0] == 'I' && s != 'b' && s != 'w') {
				swap(strings.Replace(w, name, name[:1]+string(s), 1))
			}
		}
	}
	if strings.HasSuffix(line, "perhaps") {
		mutants = append(mutants, strings.TrimSuffix(line, "perhaps"))
	}
	if !strings.Contains(line, "lock") {
		if i := strings.Index(line, " E"); i >= 0 && strings.Contains(strings.Fields(line[i:])[0], ":") {
			mutants = append(mutants, line+" lock")
		}
	} else {
		mutants = append(mutants, strings.Replace(line, "lock", "", 1))
	}
	return mutants
}

// vectorMutants returns wrong versions of a line about a vector instruction: other sizes, writes that are not mentioned, and
// whatever would accept more than the instruction has.
func vectorMutants(words []string) (mutants []string) {
	evex := strings.Contains(strings.Split(words[0], ".")[0], "E")
	vex := evex || strings.Contains(strings.Split(words[0], ".")[0], "V")
	has := func(list ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
	}
	registers := slices.ContainsFunc(words[2:], func(w string) bool { return strings.Contains("WUER", w[:1]) || w[0] == 'k' && len(w) > 2 })
	for i, w := range words {
		swap := func(new string) {
			m := append([]string(nil), words...)
			m[i] = new
			mutants = append(mutants, strings.Join(m, " "))
		}
		name, access, _ := strings.Cut(w, ":")
		if access != "" {
			access = ":" + access
			if strings.Contains("EMRGW", name[:1]) {
				swap(name)
			} else {
				swap("-")
			}
		}
		operand := i >= 2 && len(name) >= 2 && strings.Contains("EMW", name[:1])
		if operand || strings.HasPrefix(name, "kE") {
			n := 1
			if name[0] == 'k' {
				n = 2
			}
			for _, s := range []string{"b", "w", "d", "q", "o", "x", "x2", "x4", "x8"} {
				// Lines of one length have two names for the same size.
				plain := map[string]string{"x": "o", "x2": "q", "x4": "d", "x8": "w"}
				if has("L1") {
					plain = map[string]string{"x2": "o", "x4": "q", "x8": "d"}
				}
				same := (has("L0", "L1", "lig") || !vex) && (plain[s] == name[n:] || plain[name[n:]] == s) ||
					name[n:] == "y" && (s == "d" && has("w0", "ew0") || s == "q" && has("w1"))
				if s != name[n:] && !same && (name[0] == 'W' || name[0] == 'M' && s[0] != 'x' || len(s) == 1 && s[0] != 'x') {
					swap(name[:n] + s + access)
				}
			}
		}
		switch w {
		case "Ib":
			swap("-")
		case "L0", "L1", "L2", "L12":
			if vex {
				swap("-")
			}
		case "w0", "w1", "ew0", "ew1":
			swap("-")
		case "b4":
			swap("b8")
		case "b8":
			swap("b4")
		case "bw":
			if evex {
				swap("b4")
				swap("b8")
			}
		case "perhaps":
			swap("-")
		case "k":
			if registers {
				swap("kz")
			}
		}
	}
	line := strings.Join(words, " ")
	if vex && !has("H", "kB") {
		mutants = append(mutants, line+" H")
	}
	if evex {
		if !has("k", "kz") {
			mutants = append(mutants, line+" k")
		}
		if !has("b4", "b8", "bw") && strings.ContainsAny(line[len(words[0]):], "WM") {
			mutants = append(mutants, line+" b4", line+" b8")
		}
		// Zydis ignores EVEX.b where a conversion is always exact, and reads er as sae and the other way around.
		exact := has("cvtsi2sd", "cvtusi2sd", "cvtudq2pd", "cvtdq2pd")
		if registers && !exact && !has("L0", "er", "sae") {
			mutants = append(mutants, line+" er", line+" sae")
		}
	}
	return mutants
}

// noticed tells whether the cases of a form come out differently with this table, or variations of them contradict Zydis.
func noticed(z *zydis, table *table, cases []formLine) bool {
	for _, l := range cases {
		for i, code := range variations(l.code) {
			code = append(code, make([]byte, 15)...)
			var in inst
			err := table.decode(code, 0, &in)
			if i == 0 && (err != nil || int(in.len) != len(l.code)) {
				return true // the corpus says ok
			}
			if err != nil {
				continue
			}
			f, ok := z.facts(code)
			if !ok || disagreement(&in, &f) != "" {
				return true
			}
		}
	}
	return false
}

// variations returns an instruction first as it is, then with other prefixes.
func variations(code []byte) [][]byte {
	n := 0
	for bytes.Contains([]byte{0x65, 0x66, 0xf0, 0xf2, 0xf3}, code[n:n+1]) {
		n++
	}
	legacy, rex, rest := code[:n], []byte(nil), code[n:]
	if rest[0]&0xf0 == 0x40 {
		rex, rest = rest[:1], rest[1:]
	}
	all := [][]byte{bytes.Clone(code)}
	for _, p := range []string{"", "\x66", "\xf0", "\xf3", "\x65"} {
		for _, r := range []string{"", "\x40", "\x41", "\x48", string(rex)} {
			all = append(all, slices.Concat([]byte(p), legacy, []byte(r), rest),
				slices.Concat([]byte(p), bytes.ReplaceAll(legacy, []byte{0x66}, nil), []byte(r), rest))
		}
	}
	// Of VEX and EVEX: each bit and each pair of bits of the fields. (The map and the fixed bits select other instructions.)
	var fields []int
	switch rest[0] {
	case 0xc4:
		fields = []int{16, 17, 18, 19, 20, 21, 22, 23, 15}
	case 0x62:
		fields = []int{12, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
	}
	for i, f := range fields {
		for _, g := range fields[i:] {
			w := bytes.Clone(code)
			w[n+f/8] ^= 1 << (f % 8)
			if f != g {
				w[n+g/8] ^= 1 << (g % 8)
			}
			all = append(all, w)
		}
	}
	return all
}

// TestBounded verifies large blobs of the kinds that could make the dataflow slow, and counts its steps.
func TestBounded(t *testing.T) {
	for name, code := range largeBlobs(1<<16, target.Sentry) {
		var v verifier
		best := time.Hour
		for range 5 {
			start := time.Now()
			v.run(code, testBase, []uint32{0}, testEnv)
			best = min(best, time.Since(start))
		}
		t.Logf("%s: %d instructions, %d steps, %v", name, len(v.insts), v.steps, best)
		if len(v.errs) != 0 {
			t.Errorf("%s: %v", name, v.errs[0])
		}
		if v.steps > maxSteps*len(v.insts) {
			t.Errorf("%s: %d steps for %d instructions", name, v.steps, len(v.insts))
		}
		// A few milliseconds on an idle machine.
		if best > 300*time.Millisecond {
			t.Errorf("%s: %v", name, best)
		}
	}
	exit := len(largeExit(0))
	code := append(bytes.Repeat([]byte{0x90}, MaxCode-exit), largeExit(MaxCode-exit)...)
	if err := Verify(code, testBase, []uint32{0}, testEnv); err != nil {
		t.Errorf("a blob of MaxCode bytes: %v", err)
	}
}

func largeExit(at int) []byte {
	code, _ := assemble([]string{"stop"}, testBase+uint64(at), target.Sentry)
	return code
}

// largeBlobs makes blobs of about size bytes.
func largeBlobs(size int, k target.Kernel) map[string][]byte {
	blobs := map[string][]byte{}
	add := func(name string, code []byte) { blobs[name] = append(code, largeExit(len(code))...) }

	plain := &asm{kernel: k}
	for len(plain.code) < size {
		plain.sanitize(r12, rax)
		plain.mem(true, false, 8, []byte{0x8b}, rbx, r12, 8)
		plain.reg(8, []byte{0x01}, rbx, rcx)
	}
	add("straight code", plain.code)

	branchy := &asm{kernel: k}
	for len(branchy.code) < size {
		branchy.raw(0x74, 0x00)
	}
	add("a branch in each instruction", branchy.code)

	// Each loop head is reached again, with something else in one register, from some loop behind it.
	loops, r := &asm{kernel: k}, rand.New(rand.NewPCG(10, 11))
	var labels []int
	for reg := range 15 {
		if reg != rsp && reg != rbp {
			loops.sanitize(reg, reg)
		}
	}
	for i := 0; len(loops.code) < size; i++ {
		labels = append(labels, len(loops.code))
		loops.poll(r15)
		if reg := r.IntN(15); reg != rsp && reg != rbp {
			loops.lea(reg, reg, int32(r.IntN(1000)))
		}
		loops.jump(r.IntN(i+1), 0x0f, 0x85)
	}
	loops.link(labels)
	add("loops in loops", loops.code)

	far := &asm{kernel: k}
	labels = nil
	far.poll(r15)
	for r := range 16 {
		if r != rsp && r != rbp {
			far.sanitize(r, r)
		}
	}
	labels = append(labels, len(far.code))
	far.poll(r15)
	for i := 0; len(far.code) < size; i++ {
		far.lea(i%4, i%4, int32(i%7-3))
		far.jump(0, 0x0f, 0x85)
	}
	far.link(labels)
	add("all jumps to one head", far.code)
	return blobs
}

// TestReuse verifies the corpus in another order, several at a time: nothing may be left over from one blob to the next.
func TestReuse(t *testing.T) {
	cases := corpus(t)
	var wg sync.WaitGroup
	for g := range 2 * runtime.GOMAXPROCS(0) {
		r := rand.New(rand.NewPCG(uint64(g), 9))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, i := range r.Perm(len(cases)) {
				if c := cases[i]; len(c.code) < 1<<16 && c.verify() != c.want {
					t.Errorf("%s: %s: another verdict this time", c.where, c.name)
				}
			}
		}()
	}
	wg.Wait()
}

// TestNoSymbol checks that an absent symbol is not one at address 0, and that each symbol is known by its own address.
func TestNoSymbol(t *testing.T) {
	code := []byte{0xe9, 0xfb, 0xef, 0xff, 0xff} // jmp to 0 from 0x1000
	if err := Verify(code, 0x1000, []uint32{0}, Env{}); verdict(err) != "target +0x0" {
		t.Error(err)
	}
	for s := range target.NumSyms {
		env := Env{}
		code, _ := assemble([]string{s.String()}, testBase, target.Sentry)
		if err := Verify(code, testBase, []uint32{0}, env); verdict(err) != "target +0x0" {
			t.Error(s, err)
		}
		env.Syms[s] = testEnv.Syms[s]
		if err := Verify(code, testBase, []uint32{0}, env); err != nil {
			t.Error(s, err)
		}
	}
}

// TestShortJumpToSymbol checks that only jmp rel32 leaves a blob, even where a shorter one would reach.
func TestShortJumpToSymbol(t *testing.T) {
	env := Env{}
	env.Syms[target.SymStop] = testBase + 0x20
	if err := Verify([]byte{0xe9, 0x1b, 0, 0, 0}, testBase, []uint32{0}, env); err != nil {
		t.Error(err)
	}
	if err := Verify([]byte{0xeb, 0x1e}, testBase, []uint32{0}, env); verdict(err) != "target +0x0" {
		t.Error(err)
	}
}

// TestLength checks the bound that no form of today's table can reach: with the refusal of duplicated prefixes the
// longest instruction has 14 bytes.
func TestLength(t *testing.T) {
	r := reader{code: make([]byte, 20), pos: 14, end: 15}
	if _, err := r.take(1); err != nil {
		t.Error(err)
	}
	if _, err := r.take(1); err == nil || err.Rule != RuleForm {
		t.Error(err)
	}
}

// TestError pins what users see.
func TestError(t *testing.T) {
	err := Verify([]byte{0x90, 0x0f, 0x05}, testBase, nil, testEnv)
	if got, want := fmt.Sprint(err), "sfi: +0x1: system: syscall: only the runtime serves system calls"; got != want {
		t.Errorf("%s", got)
	}
	if got := Rule(200).String(); got != "rule(200)" {
		t.Error(got)
	}
	names := map[string]bool{}
	for r := Rule(1); r < numRules; r++ {
		if n := r.String(); n == "" || names[n] {
			t.Errorf("rule %d has no name of its own: %q", r, n)
		} else {
			names[n] = true
		}
	}
}

// TestTableErrors checks that mistakes in a table are found when it is read.
func TestTableErrors(t *testing.T) {
	for _, line := range []string{
		"", "00", "00 add", "00 !rule reason", "00 add Eb:x", "00 add Ek", "0 0 add Eb", "00-zz add Eb", "01-00 add Eb", "00 /8 add Eb",
		"00 =zz add Eb", "VEX.F9.0F38 F5 pdep Gy", "VEX.F2.0F39 F5 pdep Gy", "VEX.F2.0F38",
	} {
		if _, err := parseTable("# comment\n"+line, target.Sentry); (err == nil) != (line == "") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestEveryOpcode checks that the one-byte and two-byte maps have a line for each opcode: an allow-list is only readable if
// what is absent from it has been looked at.
func TestEveryOpcode(t *testing.T) {
	table := theTable()
	prefix := []byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f, 0xc4, 0xc5, 0x62}
	for op := range 256 {
		if len(table.index[space1][op]) == 0 && op&0xf0 != 0x40 && !bytes.Contains(prefix, []byte{byte(op)}) {
			t.Errorf("no line for %02X", op)
		}
		if len(table.index[space0F][op]) == 0 && op != 0x38 && op != 0x3a {
			t.Errorf("no line for 0F %02X", op)
		}
	}
}

// TestDocument verifies the examples of docs/sfi.md: its blocks of the language "sfi" are cases as in the corpus.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/sfi.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rules := map[string]bool{}
	for i, block := range strings.Split(string(text), "```sfi\n") {
		if i == 0 {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		cases, err := parseCases("docs/sfi.md", block)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			n++
			if got := c.verify(); got != c.want {
				t.Errorf("docs/sfi.md: %s: got %s, want %s", c.name, got, c.want)
			}
		}
	}
	for r := Rule(1); r < numRules; r++ {
		if strings.Contains(string(text), "`"+r.String()+"`") {
			rules[r.String()] = true
		} else {
			t.Errorf("docs/sfi.md says nothing about the rule %v", r)
		}
	}
	if n < 20 {
		t.Errorf("only %d examples", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	small := new(asm)
	for i := 0; i < 20; i++ {
		small.touch(r13, rax)
		small.sanitize(r12, rax)
		small.mem(true, false, 8, []byte{0x8b}, rbx, r12, 8)
		small.reg(8, []byte{0x01}, rbx, rcx)
	}
	blobs := largeBlobs(1<<16, target.Sentry)
	blobs["100 instructions"] = append(small.code, largeExit(len(small.code))...)
	for name, code := range blobs {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(code)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Verify(code, testBase, []uint32{0}, testEnv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
