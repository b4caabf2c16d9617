package sfi

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ub/target"
)

// compareLinux checks that Linux accepts an instruction that the Sentry accepts, and reads it in the same way, but for the
// differences that the policy names; and that it refuses these. So the list of what Linux accepts is testdata/accepted.txt
// without GS, without RBP, and without RDPID.
func (c *census) compareLinux(code []byte, in *inst, f *zFacts) {
	var got inst
	err := linuxTable().decode(code, 0, &got)
	want := Rule(0)
	switch {
	case in.gs:
		want = RuleSegment
	case f.mnemonic == "rdpid":
		want = RuleTrap
	case f.count == 4:
		want = RuleRSP
	case f.rbp:
		want = RuleRBP
	}
	program := false
	for _, m := range f.mems {
		if want == 0 && (m.index == 5 || m.kind == zMemAgen && m.base == 5) {
			want = RuleRBP
		}
		program = m.kind == zMemNormal && !m.hidden && m.base != 4 && m.base != 5 && f.mnemonic != "nop"
	}
	switch {
	case want == 0 && err != nil:
		c.note("Linux refuses it by "+err.Rule.String(), f.mnemonic, code[:in.len])
		return
	case want != 0 && (err == nil || err.Rule != want):
		c.note("Linux does not refuse it by "+want.String(), f.mnemonic, code[:in.len])
		return
	case err != nil:
		return
	}
	if got.program != program {
		c.note("whether program memory is accessed", f.mnemonic, code[:in.len])
	}
	c.linux++
	if got.form.line != in.form.line {
		c.note("Linux reads it as another form", f.mnemonic, code[:in.len])
	}
	got.form, got.program = in.form, in.program
	if got != *in {
		c.note("Linux reads it differently", f.mnemonic, code[:in.len])
	}
}

// linuxRefuses checks that Linux does not accept what the Sentry refuses.
func (c *census) linuxRefuses(code []byte) {
	var in inst
	if linuxTable().decode(code, 0, &in) == nil {
		c.note("only Linux accepts it", in.form.mnemonic, code[:in.len])
	}
}

// linuxFormPrologue is formPrologue for Linux: r12 is sanitized, r13 unknown, rdi and rsi are sanitized, rcx a small count, r14
// a tag, and the others unknown.
const linuxFormPrologue = "f30f1efa" + // endbr64
	"c462fbf5642448" + // pdep r12, rax, [rsp+SlotAddrMask]
	"4c8b6c2420" + // mov r13, [rsp+SlotR15]
	"c4e2c3f57c2448" + // pdep rdi, rdi, [rsp+SlotAddrMask]
	"c4e2cbf5742448" + // pdep rsi, rsi, [rsp+SlotAddrMask]
	"0fb7c9" + // movzx ecx, cx
	"c462d3f7f0" // shrx r14, rax, rbp: its tag

// withoutGS drops the prefix 65.
func withoutGS(code []byte) string {
	for i, b := range code {
		if b == 0x65 {
			return string(code[:i]) + string(code[i+1:])
		}
		if b != 0x66 && b != 0xf0 && b != 0xf2 && b != 0xf3 {
			break
		}
	}
	return string(code)
}

// linuxFormCases are the instructions of testdata/forms.txt and vector.txt, as they are and without GS.
func linuxFormCases(t testing.TB) (cases []*testCase) {
	prologue := unhex(linuxFormPrologue)
	for _, l := range formLines(t) {
		for _, code := range []string{string(l.code), withoutGS(l.code)} {
			c := &testCase{name: l.want, where: l.line, base: linuxBase, entries: []uint32{0}, vec: linuxEnv.Vec, kernel: target.Linux}
			c.code = append(append(c.code, prologue...), code...)
			if l.want != "truncated" {
				tail, _ := assemble([]string{"stop"}, linuxBase+uint64(len(c.code)), target.Linux)
				c.code = append(c.code, tail...)
			}
			cases = append(cases, c)
			if withoutGS(l.code) == string(l.code) {
				break
			}
		}
	}
	return cases
}

// TestLinuxForms compares the verdicts on each form with the oracle's: it must have nothing against what is accepted, and
// something against what is refused, but for matters of encoding.
func TestLinuxForms(t *testing.T) {
	z := needZydis(t)
	accepted, refused := 0, 0
	for _, c := range linuxFormCases(t) {
		o := oracle{z: z, code: c.code, base: c.base, entries: c.entries, env: c.env(), rng: rand.New(rand.NewPCG(1, 2))}
		var err error
		for i := 0; err == nil && i < 10; i++ {
			err = o.check()
		}
		got := c.verify()
		rule, _, _ := strings.Cut(got, " ")
		gs := rule == "segment" && strings.Contains(string(c.code), "\x65") // Zydis does not tell where it has no meaning
		odd := (rule == "system" || rule == "hidden") &&                    // other encodings of what is allowed
			z.decode(c.code[len(linuxFormPrologue)/2:]) && z.allowed()
		switch {
		case got == "ok" && err != nil:
			t.Errorf("%s: %x is accepted, but the oracle says %v", c.where, c.code, err)
		case got != "ok" && err == nil && !harmless[rule] && !gs && !odd:
			t.Errorf("%s: %x is refused (%s), but the oracle sees nothing", c.where, c.code, got)
		case got == "ok":
			accepted++
		default:
			refused++
		}
		f, _ := z.facts(c.code[len(linuxFormPrologue)/2:])
		count := rule == "rsp" && f.count == rsp // RBP is the count there
		if c.name == "ok" && got != "ok" && !count && rule != "segment" && rule != "rbp" && rule != "slot" && rule != "memory" && rule != "trap" {
			t.Errorf("%s: %x is refused (%s), but the Sentry accepts it", c.where, c.code, got)
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 4000 || refused < 4000 {
		t.Error("too few for the test to mean anything")
	}
}
