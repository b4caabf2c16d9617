package sfi

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ruleMutants are wrong versions of the rules about walking: in this file, this text becomes that.
var ruleMutants = []struct{ file, old, new string }{
	// How far one may go.
	{"value.go", "WalkLimit = 1 << 20", "WalkLimit = 1<<20 + 1"},
	{"value.go", "WalkLimit = 1 << 20", "WalkLimit = 1<<20 - 1"},
	{"value.go", "if k == isTouched {", "if false {"},
	{"value.go", "lo < -k.reach() || hi > k.reach()", "hi > k.reach()"},
	{"value.go", "lo < -k.reach() || hi > k.reach()", "lo < -k.reach()"},
	{"memory.go", "near(v.kind, lo, hi)", "near(isWindow, lo, hi)"},
	{"memory.go", "v.hi+int64(in.disp)+int64(in.msize)", "v.hi+int64(in.disp)"},
	{"value.go", "return near(v.kind, v.lo+d, v.hi+d)", "return value{v.lo + d, v.hi + d, v.kind}"},
	// What an access proves.
	{"value.go", "near(isTouched, -d, -d)", "near(isTouched, d, d)"},
	{"value.go", "near(isTouched, -d, -d)", "near(isTouched, 0, 0)"},
	{"value.go", "near(isTouched, -d, -d)", "near(isWindow, -d, -d)"},
	{"value.go", "t.kind == isTouched", "true"},
	{"value.go", "v.kind == isTouched || v.kind == isWindow && v.lo != v.hi", "v.kind == isTouched"},
	{"value.go", "v.kind == isTouched || v.kind == isWindow && v.lo != v.hi", "v.kind == isWindow && v.lo != v.hi"},
	{"value.go", "v.kind == isTouched || v.kind == isWindow && v.lo != v.hi", "v.kind == isTouched || v.kind == isWindow"},
	{"value.go", "v.kind == isTouched || v.kind == isWindow && v.lo != v.hi", "v.kind != unknown"},
	// Which accesses prove something.
	{"value.go", "if in.sure && in.gs", "if in.gs"},
	{"value.go", "s[in.base] = s[in.base].touched(int64(in.disp))\n", "if t := s[in.base].touched(int64(in.disp)); t.kind == isTouched { defer func() { s[in.base] = t }() }\n"},
	{"decode.go", "!in.form.perhaps && p.aaa == 0", "p.aaa == 0"},
	{"decode.go", "!in.form.perhaps && p.aaa == 0", "!in.form.perhaps"},
	{"table.go", "f.perhaps = true // the immediate", "f.perhaps = false // the immediate"},
	{"table.go", "case \"perhaps\":\n\t\tf.perhaps = true", "case \"perhaps\":"},
	// What a fact is good for, and what it is with another.
	{"value.go", "if v.kind == isNum {\n\t\treturn value{0, 0, isWindow}", "if v.kind == isNum || v.kind == isTouched {\n\t\treturn value{0, 0, isWindow}"},
	{"value.go", "return near(isTouched, lo, hi)", "return near(isWindow, lo, hi)"},
	{"value.go", "return near(isTouched, lo, hi)", "return near(isTouched, a.lo, a.hi)"},
	{"value.go", "return near(isTouched, lo, hi)", "return value{lo, hi, isTouched}"},
	{"value.go", "return near(isTouched, lo, hi)", "return value{}"},
	{"value.go", "a.kind == isTouched && b.kind == isWindow,", "a.kind == isTouched && b.kind != isTouched,"},
	{"value.go", "x.kind == isWindow && y.kind == isBase", "(x.kind == isWindow || x.kind == isTouched) && y.kind == isBase"},
	// Sums.
	{"value.go", "return -in.imm", "return in.imm"},
	{"value.go", "\t\treturn 1\n", "\t\treturn 0\n"},
	{"value.go", "\t\treturn -1\n", "\t\treturn 0\n"},
	{"value.go", "if wide && in.dst != regNone {", "if in.dst != regNone {"},
	{"value.go", "s[in.dst].add(in.summand())", "s[in.dst]"},
	// Loops.
	{"flow.go", "s[r], h.changes[r] = whole, 0", "s[r] = value{}"},
	{"flow.go", "s[r] = value{}", ""},
}

// TestRuleMutants checks that the corpus notices each of these mutants: what it asserts is the rule, and no other one. It
// compiles the package anew for each, and so runs on demand only.
func TestRuleMutants(t *testing.T) {
	if os.Getenv("SFI_RULES") == "" {
		t.Skip("SFI_RULES is not set")
	}
	for _, m := range ruleMutants {
		text, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), m.old) != 1 {
			t.Errorf("%s does not have %q once", m.file, m.old)
			continue
		}
		path, _ := filepath.Abs(m.file)
		changed, overlay := filepath.Join(t.TempDir(), m.file), filepath.Join(t.TempDir(), "overlay.json")
		list, _ := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
		for name, b := range map[string]string{changed: strings.Replace(string(text), m.old, m.new, 1), overlay: string(list)} {
			if err := os.WriteFile(name, []byte(b), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("go", "test", "-vet=off", "-overlay="+overlay, "-run=^(TestCorpus|TestBounded)$", ".").CombinedOutput()
		switch {
		case strings.Contains(string(out), "build failed"):
			t.Errorf("%s: %q: %s", m.file, m.new, out)
		case err == nil:
			t.Errorf("%s: %q could as well be %q", m.file, m.old, m.new)
		}
	}
}
