package sfi

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"ub/target"
)

// testdata/forms.txt has, for each form of the allow-list and each refused opcode, instructions with their verdicts:
//
//	ok       4881c100000000      ; add rcx, 0x00
//	address  654881030000000000  ; add gs:[rbx], 0x00
//
// Groups are separated by empty lines. Each accepted form begins a group with an instruction that is accepted; the
// refused lines behind it are about the same form. What is behind ; is written by SFI_UPDATE=1.
//
// Each instruction is put behind formPrologue, which leaves r12 a sanitized address, r13 the window's base, rdi and rsi
// host addresses in the window, rcx a small count, r14 a tag, and the others unknown.
const formPrologue = "c462fbf5642448" + // pdep r12, rax, [rsp+SlotAddrMask]
	"4c8b6c2460" + // mov r13, [rsp+SlotBase]
	"4b8d3c2c" + // lea rdi, [r12+r13]
	"4b8d742c08" + // lea rsi, [r12+r13+8]
	"0fb7c9" + // movzx ecx, cx
	"c462dbf7f0" // shrx r14, rax, rsp: its tag

type formLine struct {
	want  string
	code  []byte
	group int
	line  string // file:line
}

func formLines(t testing.TB) (lines []formLine) {
	group := 0
	for _, file := range formFiles {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		group++
		lines, group = appendFormLines(t, lines, file, string(text), group)
	}
	return lines
}

// testdata/vector.txt is in the same format.
var formFiles = []string{"testdata/forms.txt", "testdata/vector.txt"}

func appendFormLines(t testing.TB, lines []formLine, file, text string, group int) ([]formLine, int) {
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		code, _, _ := strings.Cut(line, ";")
		words := strings.Fields(code)
		if len(words) == 0 {
			group++
			continue
		}
		if len(words) != 2 {
			t.Fatalf("%s:%d: not a verdict and an instruction", file, n+1)
		}
		b, err := hex.DecodeString(words[1])
		if err != nil {
			t.Fatalf("%s:%d: %v", file, n+1, err)
		}
		lines = append(lines, formLine{words[0], b, group, fmt.Sprintf("%s:%d", file, n+1)})
	}
	return lines, group
}

func formCases(t testing.TB) (cases []*testCase) {
	prologue := unhex(formPrologue)
	z, err := newZydis()
	for _, l := range formLines(t) {
		c := &testCase{name: fmt.Sprintf("%x", l.code), where: l.line, want: l.want, base: testBase, entries: []uint32{0}, vec: testEnv.Vec}
		if l.want != "ok" {
			c.want = fmt.Sprintf("%s %+#x", l.want, len(prologue))
		}
		if l.want == "system" && err == nil && z.decode(l.code) && z.allowed() {
			c.name += " (strict)" // an odd encoding, refused by the line for the rest of the opcode
		}
		if l.want == "truncated" {
			c.code = append(append(c.code, prologue...), l.code...)
		} else {
			tail, _ := assemble([]string{"stop"}, testBase+uint64(len(prologue)+len(l.code)), target.Sentry)
			c.code = append(append(append(c.code, prologue...), l.code...), tail...)
		}
		cases = append(cases, c)
	}
	return cases
}

// TestFormCoverage walks the table: each accepted form must have an accepted and a refused case, each refused line a case
// that is refused by it.
func TestFormCoverage(t *testing.T) {
	table := theTable()
	accepted, refused := map[*form]bool{}, map[*form]bool{}
	group := -1
	var current *form
	for _, l := range formLines(t) {
		var in inst
		err := table.decode(append(l.code[:len(l.code):len(l.code)], make([]byte, 15)...), 0, &in)
		if l.group != group {
			group, current = l.group, nil
		}
		switch {
		case l.want == "ok" && err != nil:
			t.Fatalf("%s: %v", l.line, err)
		case l.want == "ok":
			if current != nil && current != in.form {
				t.Errorf("%s: another form in the same group", l.line)
			}
			current = in.form
			accepted[current] = true
		case current != nil:
			refused[current] = true
		default:
			for _, i := range table.lines(l.code) {
				if f := &table.forms[i]; err != nil && f.refused == err.Rule && f.reason == err.Detail {
					refused[f] = true
				}
			}
		}
	}
	for i := range table.forms {
		f := &table.forms[i]
		if f.refused == 0 && !accepted[f] {
			t.Errorf("forms.txt:%d: %s: no accepted case", f.line, f.mnemonic)
		}
		if !refused[f] {
			t.Errorf("forms.txt:%d: %s %s: no refused case", f.line, f.mnemonic, f.reason)
		}
	}
}

// lines returns the lines of the table for the opcode that code begins with.
func (t *table) lines(code []byte) []uint16 {
	r := reader{code: code, end: uint32(len(code))}
	var p prefixes
	op, err := r.prefixes(&p)
	space := space1
	for _, esc := range []struct {
		from int
		op   byte
		to   int
	}{{space1, 0x0f, space0F}, {space0F, 0x38, space0F38}, {space0F, 0x3a, space0F3A}} {
		if err == nil && space == esc.from && op == esc.op {
			space = esc.to
			op, err = r.byte()
		}
	}
	if err == nil && space == space1 && (op == 0xc4 || op == 0xc5) {
		space, op, err = r.vex(&p, op)
	} else if err == nil && space == space1 && op == 0x62 {
		space, op, err = r.evex(&p)
	}
	if err != nil {
		return nil
	}
	return t.index[space][op]
}

// TestFormComments checks, or with SFI_UPDATE=1 writes, the disassembly in testdata/forms.txt and vector.txt.
func TestFormComments(t *testing.T) {
	z := needZydis(t)
	for _, file := range formFiles {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, line := range strings.Split(string(text), "\n") {
			code, _, _ := strings.Cut(line, ";")
			words := strings.Fields(code)
			if strings.HasPrefix(line, "#") || len(words) != 2 {
				out = append(out, line)
				continue
			}
			b := unhex(words[1])
			what := "?"
			if z.decode(b) {
				what = z.format(0)
				if int(z.inst.length) != len(b) {
					what += fmt.Sprintf(" (%d bytes)", z.inst.length)
				}
			}
			out = append(out, fmt.Sprintf("%-10s %-26s ; %s", words[0], words[1], what))
		}
		golden(t, file, strings.Join(out, "\n"))
	}
}
