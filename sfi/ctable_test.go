package sfi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ub/target"
)

// The C verifier's tables are data from this package: the rules' numbers, the constants of the contract, and forms.txt. How
// they are used is written down twice, here and in linux/module.

const cHeader = `/* SPDX-License-Identifier: GPL-2.0 */
/* Generated from sfi/forms.txt and target/ by: SFI_UPDATE=1 go test -run CTables ./sfi. Do not edit. */
`

// cPolicy writes linux/module/ub_policy.h.
func cPolicy() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(cHeader + "#ifndef UB_POLICY_H\n#define UB_POLICY_H\n")
	p("enum {")
	for r := Rule(1); r < numRules; r++ {
		p("\tUB_RULE_%s = %d,", strings.ToUpper(r.String()), r)
	}
	p("\tUB_NUM_RULES = %d,\n};\n", numRules)
	p("#define UB_RULE_NAMES { \\\n\t\"none\", \\")
	for r := Rule(1); r < numRules; r++ {
		p("\t%q, \\", r.String())
	}
	p("}\n")
	m := &machines[target.Linux]
	for _, c := range []struct {
		name  string
		value int64
	}{
		{"MAX_STEPS", maxSteps}, {"PATIENCE", patience},
		{"SLOT_FS_BASE", target.SlotFSBase}, {"SLOT_ADDR_MASK", target.SlotAddrMask},
		{"SLOTS_END", m.slots}, {"WRITABLE_END", target.WritableEnd}, {"TAG_SHIFT", target.TagShift}, {"MAX_TAG", target.MaxTag}, {"POLL_DISP", int64(m.poll.disp)},
		{"TOUCH_DISP", int64(m.touch.disp)}, {"MAX_REP_COUNT", target.MaxRepCount},
	} {
		p("#define UB_%s %#x", c.name, c.value)
	}
	for _, c := range []struct {
		name  string
		value int64
	}{
		{"NUMBERS", m.numbers}, {"WINDOW_BELOW", m.reach[isWindow].below}, {"WINDOW_ABOVE", m.reach[isWindow].above},
		{"TOUCHED_BELOW", m.reach[isTouched].below}, {"TOUCHED_ABOVE", m.reach[isTouched].above}, {"WALK_BELOW", m.walkBelow},
	} {
		p("#define UB_%s %#xll", c.name, c.value)
	}
	p("\n#define UB_NUM_SPACES %d", numSpaces)
	p("#define UB_SPACE_0F %d\n#define UB_SPACE_0F38 %d\n#define UB_SPACE_0F3A %d\n#define UB_SPACE_VEX %d\n#define UB_SPACE_EVEX %d\n",
		space0F, space0F38, space0F3A, spaceVEX0F, spaceEVEX0F)
	p("/* The words of forms.txt about prefixes, control, and what the destination is known to be. */")
	p("enum { UB_ABSENT = %d, UB_OPTIONAL = %d, UB_REQUIRED = %d };", absent, optional, required)
	p("enum { UB_NEXT = %d, UB_JMP = %d, UB_JCC = %d };", flowNext, flowJmp, flowJcc)
	p("enum { UB_LEN512 = %d, UB_LENIGNORED = %d, UB_BCASTW = %d };\n", len512, lenIgnored, bcastW)
	p("enum {\n\tUB_FX_NONE,")
	names := make([]string, fxStos+1)
	for n, fx := range effectNames {
		names[fx] = n
	}
	for _, n := range names[1:] {
		p("\tUB_FX_%s,", strings.ToUpper(n))
	}
	p("};\n\n#endif")
	return b.String()
}

// cForms writes linux/module/ub_forms.h.
func cForms() string {
	t := tableFor(target.Linux)
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(cHeader + "#ifndef UB_FORMS_H\n#define UB_FORMS_H\n")
	p("/* struct ub_form is described in ub_verify_int.h. */")
	p("const struct ub_form ub_forms[] = {")
	for i := range t.forms {
		p("\t%s", cForm(&t.forms[i]))
	}
	p("};\n")
	var list []uint16
	p("/* Where the forms of an opcode begin in ub_form_list, by space * 256 + opcode. */")
	p("static const u16 ub_form_index[UB_NUM_SPACES * 256 + 1] = {")
	var words []string
	for s := range numSpaces {
		for op := range 256 {
			words = append(words, fmt.Sprint(len(list)))
			list = append(list, t.index[s][op]...)
		}
	}
	cWords(&b, append(words, fmt.Sprint(len(list))))
	p("};\n\nstatic const u16 ub_form_list[] = {")
	words = nil
	for _, i := range list {
		words = append(words, fmt.Sprint(i))
	}
	cWords(&b, words)
	p("};\n\n#endif")
	return b.String()
}

// cWords writes comma-separated words, some on each line.
func cWords(b *strings.Builder, words []string) {
	for chunk := range slices.Chunk(words, 12) {
		fmt.Fprintf(b, "\t%s,\n", strings.Join(chunk, ", "))
	}
}

// cForm writes one form.
func cForm(f *form) string {
	var flags []string
	for _, c := range []struct {
		name string
		set  bool
	}{
		{"ANYPFX", f.anyPfx}, {"F3", f.f3}, {"MODRM", f.hasModRM}, {"NOREX", f.noREX}, {"NEEDB", f.needB}, {"MASK", f.mask}, {"ZERO", f.zero},
		{"ER", f.er}, {"SAE", f.sae}, {"LOCK", f.lock}, {"BIT", f.bitImm}, {"PERHAPS", f.perhaps}, {"LANDING", f.landing}, {"RAISES", f.raises},
		{"LOCKS", f.mnemonic == "xchg"},
	} {
		if c.set {
			flags = append(flags, "UB_F_"+c.name)
		}
	}
	if flags == nil {
		flags = []string{"0"}
	}
	var ops []string
	for _, o := range f.ops {
		size, part := "0", max(o.part, 1)
		if o.size != 0 {
			size = fmt.Sprintf("'%c'", o.size)
		}
		write := 0
		if o.write {
			write = 1
		}
		ops = append(ops, fmt.Sprintf("{ '%c', %s, %d, %d }", o.kind, size, part, write))
	}
	if ops == nil {
		ops = []string{"{ 0, 0, 0, 0 }"}
	}
	if len(f.ops) > 4 {
		panic("struct ub_form has room for 4 operands")
	}
	name := f.mnemonic
	if f.refused != 0 {
		name = "!" + f.refused.String()
	}
	return fmt.Sprintf("{ %d, %d, %d, %d, %#x, %d, %d, %#x, %d, %d, %d, %#x, %d, %s, { %s } }, /* %s */",
		f.refused, f.digit, f.modrmIs, f.p66, f.rep, f.w, f.vec, f.lens, f.bcast, f.fx, f.flow, f.clobber, len(f.ops),
		strings.Join(flags, " | "), strings.Join(ops, ", "), name)
}

// TestCTables checks, or with SFI_UPDATE=1 writes, the tables of the C verifier.
func TestCTables(t *testing.T) {
	golden(t, "../linux/module/ub_policy.h", cPolicy())
	golden(t, "../linux/module/ub_forms.h", cForms())
}
