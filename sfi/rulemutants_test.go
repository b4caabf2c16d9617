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
	{"machine.go", "WalkLimit = 1 << 20", "WalkLimit = 1<<20 - 1"},
	{"value.go", "lo < -m.reach[k].below || hi > m.reach[k].above", "hi > m.reach[k].above"},
	{"value.go", "lo < -m.reach[k].below || hi > m.reach[k].above", "lo < -m.reach[k].below"},
	{"value.go", "return m.near(v.kind, v.lo+d, v.hi+d)", "return value{lo: v.lo + d, hi: v.hi + d, kind: v.kind}"},
	{"memory.go", "v.hi+d+size).kind == isWindow", "v.hi+d).kind == isWindow"},
	{"memory.go", "hi+d+size).kind == isTouched", "hi+d).kind == isTouched"},
	{"memory.go", "lo+d >= -m.walkBelow &&", ""},
	{"memory.go", "m.near(isTouched, lo+d, hi+d+size)", "m.near(isWindow, lo+d, hi+d+size)"},
	// What an access proves.
	{"value.go", "t.kind == unknown, d > m.walkBelow:", "t.kind == unknown:"},
	{"value.go", "case v.kind == isWindow && m.both:", "case false:"},
	{"value.go", "case v.kind == isWindow && m.both:", "case v.kind == isWindow:"},
	{"value.go", "case v.kind == isTouched, v.kind == isWindow && v.lo != v.hi:", "case v.kind == isTouched:"},
	{"value.go", "case v.kind == isTouched, v.kind == isWindow && v.lo != v.hi:", "case v.kind == isWindow && v.lo != v.hi:"},
	{"value.go", "case v.kind == isTouched, v.kind == isWindow && v.lo != v.hi:", "case v.kind != unknown:"},
	{"value.go", "m.near(isTouched, -d, -d)", "m.near(isTouched, d, d)"},
	{"value.go", "m.near(isTouched, -d, -d)", "m.near(isTouched, 0, 0)"},
	{"value.go", "m.near(isTouched, -d, -d)", "m.near(isWindow, -d, -d)"},
	// Which accesses prove something.
	{"value.go", "if in.sure && in.program", "if in.program"},
	{"value.go", "s[in.base] = m.touched(s[in.base], int64(in.disp))\n", "if t := m.touched(s[in.base], int64(in.disp)); t.kind == isTouched { defer func() { s[in.base] = t }() }\n"},
	{"decode.go", "!in.form.perhaps && p.aaa == 0", "p.aaa == 0"},
	{"decode.go", "!in.form.perhaps && p.aaa == 0", "!in.form.perhaps"},
	{"table.go", "f.perhaps = true // the immediate", "f.perhaps = false // the immediate"},
	{"table.go", "case \"perhaps\":\n\t\tf.perhaps = true", "case \"perhaps\":"},
	// What a fact is good for, and what it is with another.
	{"value.go", "if v.kind == isNum {\n\t\treturn value{kind: isWindow}", "if v.kind == isNum || v.kind == isTouched {\n\t\treturn value{kind: isWindow}"},
	{"value.go", "t = m.near(isTouched, min(alo, blo), max(ahi, bhi))", "t = m.near(isWindow, min(alo, blo), max(ahi, bhi))"},
	{"value.go", "t = m.near(isTouched, min(alo, blo), max(ahi, bhi))", "t = m.near(isTouched, max(alo, blo), min(ahi, bhi))"},
	{"value.go", "return w.and(t)\n\tcase a.kind != b.kind", "_ = t\n\t\treturn w\n\tcase a.kind != b.kind"},
	{"value.go", "case walks(a) && walks(b):\n\t\tvar w, t value\n\t\tif a.kind == b.kind {", "case walks(a) && walks(b):\n\t\tvar w, t value\n\t\tif true {"},
	{"value.go", "x.kind == isWindow && y.kind == isBase", "(x.kind == isWindow || x.kind == isTouched) && y.kind == isBase"},
	// Sums.
	{"value.go", "return -in.imm", "return in.imm"},
	{"value.go", "\t\treturn 1\n", "\t\treturn 0\n"},
	{"value.go", "\t\treturn -1\n", "\t\treturn 0\n"},
	{"value.go", "if wide && in.dst != regNone {", "if in.dst != regNone {"},
	{"value.go", "m.add(s[in.dst], in.summand())", "s[in.dst]"},
	// Loops.
	{"flow.go", "s[r], h.changes[r] = whole, 0", "s[r] = value{}"},
	{"flow.go", "s[r] = value{}", ""},
	// Linux.
	{"machine.go", "LinuxWalkBelow = 512", "LinuxWalkBelow = 511"},
	{"machine.go", "span{target.LinuxBelow, target.LinuxAbove}", "span{target.LinuxBelow + 1, target.LinuxAbove}"},
	{"machine.go", "span{target.LinuxBelow, target.LinuxAbove}", "span{target.LinuxBelow - 1, target.LinuxAbove}"},
	{"machine.go", "span{target.LinuxBelow, target.LinuxAbove}", "span{target.LinuxBelow, target.LinuxAbove + 1}"},
	{"machine.go", "span{target.LinuxBelow, target.LinuxAbove}", "span{target.LinuxBelow, target.LinuxAbove - 1}"},
	{"machine.go", "1 << target.LinuxAddrBits", "1 << (target.LinuxAddrBits + 1)"},
	{"machine.go", "1 << target.LinuxAddrBits", "1<<target.LinuxAddrBits - 1"},
	{"machine.go", "slots: target.LinuxSlotsEnd", "slots: target.SlotsEnd"},
	{"value.go", "if in.src == m.touch.base {", "if true {"},
	{"value.go", "m.num(0, target.MaxTag)", "m.num(0, target.MaxTag+1)"},
	{"value.go", "m.num(0, target.MaxTag)", "m.num(0, target.MaxTag-1)"},
	{"value.go", "wide && c.kind == isNum && c.lo == c.hi", "c.kind == isNum && c.lo == c.hi"},
	{"value.go", "wide && c.kind == isNum && c.lo == c.hi", "wide && c.kind == isNum"},
	{"value.go", "wide && c.kind == isNum && c.lo == c.hi", "wide && c.lo == c.hi"},
	{"value.go", "c.lo&63 > 0", "c.lo >= 0"},
	{"value.go", "c.lo&63 > 0", "c.lo > 0"},
	{"value.go", "1<<(64-c.lo&63)-1", "1<<(63-c.lo&63)-1"},
	{"value.go", "1<<(64-c.lo&63)-1", "1<<(64-c.lo&63)"},
	{"decode.go", "f.fx == fxShr && in.osz == 8 && reg == r.anchor()", "in.osz == 8 && reg == r.anchor()"},
	{"decode.go", "f.fx == fxShr && in.osz == 8 && reg == r.anchor()", "f.fx == fxShr && reg == r.anchor()"},
	{"decode.go", "if r.linux {\n\t\treturn regRBP\n\t}", ""},
	{"memory.go", "v.hi > target.MaxTag", "v.hi > target.MaxTag+1"},
	{"memory.go", "v.hi > target.MaxTag", "v.hi > target.MaxTag-1"},
	{"machine.go", "m.poll.base, m.poll.disp = regRBP", "m.poll.base, m.poll.disp = regRSP"},
	{"decode.go", "if reg == regRBP && r.linux {", "if reg == regRBP && r.linux && o.write {"},
	{"decode.go", "if reg == regRBP && r.linux {", "if reg == regRBP && r.linux && !o.write {"},
	{"decode.go", "in.msize != 0 && in.base != regRSP && in.base != regRBP", "in.msize != 0 && in.base != regRSP"},
	{"decode.go", "in.index == regRBP || in.base == regRBP", "in.base == regRBP"},
	{"decode.go", "in.index == regRBP || in.base == regRBP && in.msize == 0", "in.index == regRBP"},
	{"opcode.go", "if r.linux {\n\t\t\t\treturn 0, refuse(r.start, RuleSegment", "if false {\n\t\t\t\treturn 0, refuse(r.start, RuleSegment"},
	{"control.go", "!in.form.landing", "false"},
	{"memory.go", "v, want = v.asWindow(), isWindow", "v, want = v.asWindow(), v.kind"},
	{"memory.go", "m.near(want, v.lo, v.hi+extent)", "m.near(want, v.lo, v.hi)"},
	{"memory.go", "in.osz < 4 || in.scale != 8", "in.scale != 8"},
	{"memory.go", "in.osz < 4 || in.scale != 8", "in.osz < 4"},
	{"memory.go", "in.base != m.touch.base || in.disp != m.touch.disp", "in.disp != m.touch.disp"},
	{"memory.go", "in.base != m.touch.base || in.disp != m.touch.disp", "in.base != m.touch.base"},
	{"memory.go", "in.form.fx != fxCopy || in.mwrite || in.osz < 4", "in.form.fx != fxCopy || in.osz < 4"},
	{"memory.go", "in.form.fx != fxCopy || in.mwrite || in.osz < 4", "in.mwrite || in.osz < 4"},
	{"sfi.go", "v.base < 0xffff<<48|1<<47 || ", ""},
	{"sfi.go", " || v.base >= -n)", ")"},
}

// cMutants are wrong versions of the verifier in C.
var cMutants = []struct{ file, old, new string }{
	{"ub_flow.c", "lo >= -UB_WINDOW_BELOW", "lo >= -UB_WINDOW_BELOW - 1"},
	{"ub_flow.c", "hi <= UB_WINDOW_ABOVE", "hi <= UB_WINDOW_ABOVE + 1"},
	{"ub_flow.c", "lo >= -UB_TOUCHED_BELOW", "lo >= -UB_TOUCHED_BELOW - 1"},
	{"ub_flow.c", "hi <= UB_TOUCHED_ABOVE", "hi <= UB_TOUCHED_ABOVE + 1"},
	{"ub_flow.c", "v.hi < (s64)1 << 32", "1"},
	{"ub_flow.c", "return number(0, f->ops[1].size == 'b' ? 0xff : 0xffff);", "return number(0, 0xffff);"},
	{"ub_flow.c", "if (in->osz == 2)\n\t\treturn unknown();", ""},
	{"ub_flow.c", "-in->imm :", "in->imm :"},
	{"ub_flow.c", "if (in->clobber >> i & 1)", "if (in->clobber >> i & 1 && i != 2)"},
	{"ub_flow.c", "++h->changes[r] <= UB_PATIENCE", "++h->changes[r] < UB_PATIENCE"},
	{"ub_flow.c", "v->steps > (u64)UB_MAX_STEPS", "v->steps > 2 * (u64)UB_MAX_STEPS"},
	{"ub_flow.c", "n > v->visiting)", "n != v->visiting)"},
	{"ub_flow.c", "ub_form(last)->flow != UB_JMP && n + 1", "ub_form(last)->flow == UB_NEXT && n + 1"},
	{"ub_flow.c", "d % 8 + size > 8", "d % 8 + size > 16"},
	{"ub_flow.c", "in->osz < 4 || in->scale", "in->scale"},
	{"ub_flow.c", "v.hi > UB_MAX_TAG", "v.hi > UB_MAX_TAG + 1"},
	{"ub_flow.c", "if (in->src == UB_RBP)", "if (1)"},
	{"ub_flow.c", "if (!wide || count.kind", "if ((0 && !wide) || count.kind"},
	{"ub_flow.c", "count.kind != UB_NUMBER || count.lo != count.hi", "count.lo != count.hi"},
	{"ub_flow.c", "count.lo != count.hi || n < 2", "n < 2"},
	{"ub_flow.c", "<< (64 - n)) - 1", "<< (63 - n)) - 1"},
	{"ub_flow.c", "<< (64 - n)) - 1", "<< (64 - n))"},
	{"ub_decode.c", "in->osz == 8 &&\n\t\t    p->vvvv == UB_RBP", "p->vvvv == UB_RBP"},
	{"ub_decode.c", "ub_form(in)->fx == UB_FX_SHR && in->osz == 8", "in->osz == 8"},
	{"ub_flow.c", "extent *= v.hi;", ""},
	{"ub_flow.c", "v = as_window(s->r[UB_RSI]);", "v = as_window(s->r[UB_RDI]);"},
	{"ub_flow.c", "s->r[UB_RDI]);\n\tif (v.kind != UB_WINDOW ||", "s->r[UB_RDI]);\n\tif ("},
	{"ub_verify.c", "in->imm <= in->off &&", "in->imm < in->off &&"},
	{"ub_verify.c", "in->len == 5 &&", ""},
	{"ub_verify.c", "== addr && addr", "== addr"},
	{"ub_verify.c", "env->base < upper ||", "(0 && env->base < upper) ||"},
	{"ub_verify.c", "env->base >= -(u64)len", "env->base > -(u64)len"},
	{"ub_verify.c", "f->vec > v->env->vec", "0"},
	{"ub_verify.c", " ||\n\t\t    !(ub_form(&v->insts[v->at[e]])->flags & UB_F_LANDING)", ""},
	{"ub_verify.c", " ||\n\t\t    (f->flags & UB_F_LOCKS && in->flags & UB_I_MEM)", ""},
	{"ub_decode.c", "if (reg == UB_RBP)", "if (reg == UB_RBP && o->write)"},
	{"ub_decode.c", "reg -= 4;", "reg -= 3;"},
	{"ub_decode.c", "d * in->msize", "d"},
	{"ub_decode.c", "in->index == UB_RBP ||", ""},
	{"ub_decode.c", "!p->aaa)", "1)"},
	{"ub_decode.c", "(16 << p->l) / o->part", "16 << p->l"},
	{"ub_opcode.c", "!p->aaa)", "0)"},
	{"ub_opcode.c", "if (p->p66 && p->w)", "if (0)"},
	{"ub_opcode.c", "maps > 3)\n\t\treturn UB_RULE_FORM;\n\tr->space = UB_SPACE_VEX", "maps > 2)\n\t\treturn UB_RULE_FORM;\n\tr->space = UB_SPACE_VEX"},
	{"ub_opcode.c", "b[0] & 8 ||", ""},
	{"ub_opcode.c", "case 0x64: case 0x65:\n\t\t\treturn", "case 0x64:\n\t\t\treturn"},
}

// TestCRuleMutants checks that the comparison with Go notices each of these mutants. On demand, as TestRuleMutants.
func TestCRuleMutants(t *testing.T) {
	if os.Getenv("SFI_RULES") == "" {
		t.Skip("SFI_RULES is not set")
	}
	files, _ := filepath.Glob(cDir + "/ub_*.[ch]")
	for _, m := range cMutants {
		if !wanted(m.old) {
			continue
		}
		dir := t.TempDir()
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(f) == m.file {
				if strings.Count(string(text), m.old) != 1 {
					t.Errorf("%s does not have %q once", m.file, m.old)
				}
				text = []byte(strings.Replace(string(text), m.old, m.new, 1))
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("go", "test", "-vet=off", "-count=1", "-run=^(TestCVerifier|TestCLarge|TestCLoops|TestCSizes|TestCSymbols|TestCEffects|TestCMutants|TestCSweep)$", ".")
		cmd.Env = append(os.Environ(), "SFI_RULES=", "SFI_C="+dir)
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			t.Errorf("%s: %q could as well be %q", m.file, m.old, m.new)
		case !strings.Contains(string(out), "Go says"):
			t.Errorf("%s: %q: %s", m.file, m.new, out)
		}
	}
}

// TestRuleMutants checks that the corpus notices each of these mutants: what it asserts is the rule, and no other one. It
// compiles the package anew for each, and so runs on demand only.
func TestRuleMutants(t *testing.T) {
	if os.Getenv("SFI_RULES") == "" {
		t.Skip("SFI_RULES is not set")
	}
	for _, m := range ruleMutants {
		if !wanted(m.old) {
			continue
		}
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

// wanted tells whether a mutant of this text is to be tried: SFI_RULES=1 means all of them, anything else those that contain it.
func wanted(old string) bool {
	want := os.Getenv("SFI_RULES")
	return want == "1" || strings.Contains(old, want)
}
