package sfi

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ub/target"
)

//go:embed forms.txt
var formsText string

// Opcode spaces: each has its own 256 opcodes.
const (
	space1 = iota
	space0F
	space0F38
	space0F3A
	spaceVEX0F
	spaceVEX0F38
	spaceVEX0F3A
	spaceEVEX0F
	spaceEVEX0F38
	spaceEVEX0F3A
	numSpaces
)

// effect says what is known about the destination after an accepted instruction; see state.result.
type effect uint8

const (
	fxNone effect = iota // destinations become unknown
	fxCopy
	fxImm
	fxZext
	fxLea
	fxShr
	fxPdep
	fxPlus
	fxMinus
	fxPlus1
	fxMinus1
	fxMovs
	fxStos
)

var effectNames = map[string]effect{
	"copy": fxCopy, "imm": fxImm, "zext": fxZext, "lea": fxLea, "shr": fxShr, "pdep": fxPdep,
	"plus": fxPlus, "minus": fxMinus, "plus1": fxPlus1, "minus1": fxMinus1, "movs": fxMovs, "stos": fxStos,
}

// flow says where control goes after an instruction.
type flow uint8

const (
	flowNext flow = iota // to the next instruction
	flowJmp              // to the target
	flowJcc              // to either; the processor may also guess wrongly
)

// need is a condition on a prefix.
type need uint8

const (
	absent need = iota
	optional
	required
)

type operand struct {
	kind  byte // E M R G Z B I J A N V W U H L, as in forms.txt; g e r h for kG kE kR kB
	size  byte // b w d q o v y z x
	part  byte // of size x: the vector's length is divided by it
	write bool
	read  bool
}

// form is one line of forms.txt.
type form struct {
	line     int // in forms.txt
	mnemonic string
	refused  Rule // 0: accepted
	reason   string

	lo, hi   byte // opcodes
	digit    int8 // ModRM.reg, or -1
	modrmIs  int  // the whole ModRM byte, or -1
	anyPfx   bool // refused whatever the prefixes are
	p66      need
	rep      byte // mandatory 0xF2 or 0xF3, else 0
	f3       bool // F3 is a valid repeat prefix
	hasModRM bool
	noREX    bool
	needB    bool
	w        int8 // required W, or -1

	// Of vector instructions.
	vec   target.Vec // level needed
	lens  uint8      // VEX and EVEX: bit set of the L (L'L) that are valid
	mask  bool       // EVEX.aaa may name an opmask
	zero  bool       // EVEX.z may be set
	bcast uint8      // EVEX.b may be set with memory: the element's size; bcastW: 4 or 8 by W
	er    bool       // EVEX.b may be set with registers: L'L is the rounding mode
	sae   bool       // EVEX.b may be set with registers

	ops     []operand
	clobber uint16 // registers written implicitly
	lock    bool
	bitImm  bool
	perhaps bool // the memory operand is perhaps not accessed, or not all of it
	landing bool // ENDBR64
	raises  bool // an exception, whatever is accessed
	fx      effect
	flow    flow
}

const bcastW = 0xff

// Bits of form.lens.
const (
	len128 = 1 << iota
	len256
	len512
	lenIgnored // the manual ignores the length; only 128 is accepted
)

type table struct {
	kernel target.Kernel
	forms  []form
	index  [numSpaces][256][]uint16 // by opcode, in the order of the file
}

// theTable is the Sentry's. Tables are parsed at first use. A malformed one is a bug of this package, which every test finds.
var (
	theTable   = sync.OnceValue(func() *table { return mustParse(target.Sentry) })
	linuxTable = sync.OnceValue(func() *table { return mustParse(target.Linux) })
)

func tableFor(k target.Kernel) *table {
	if k == target.Linux {
		return linuxTable()
	}
	return theTable()
}

func mustParse(k target.Kernel) *table {
	t, err := parseTable(formsText, k)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return t
}

var regNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

func parseTable(text string, k target.Kernel) (*table, error) {
	t := &table{kernel: k}
	for n, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if of, rest, ok := strings.Cut(line, ": "); ok && (of == target.Sentry.String() || of == target.Linux.String()) {
			if line = rest; of != k.String() {
				continue
			}
		}
		lines, err := expandVector(line)
		for _, l := range lines {
			space, f, err1 := parseForm(l)
			if err = err1; err != nil {
				break
			}
			f.line = n + 1
			t.forms = append(t.forms, f)
			for op := int(f.lo); op <= int(f.hi); op++ {
				t.index[space][op] = append(t.index[space][op], uint16(len(t.forms)-1))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("forms.txt:%d: %w", n+1, err)
		}
	}
	return t, nil
}

// expandVector turns a line with several encodings (SVE.pp.map) into one line for each of them: legacy opcodes and prefixes,
// VEX.pp.map, EVEX.pp.map. It drops what does not apply to an encoding, and leaves other lines alone.
func expandVector(line string) ([]string, error) {
	words := strings.Fields(line)
	enc, rest, ok := strings.Cut(words[0], ".")
	if !ok || enc == "VEX" || enc == "EVEX" {
		return []string{line}, nil
	}
	if enc == "" || strings.Trim(enc, "SVE") != "" {
		return nil, fmt.Errorf("unknown encodings in %q", words[0])
	}
	pp, maps, _ := strings.Cut(rest, ".")
	var lines []string
	for _, e := range enc {
		var out []string
		switch e {
		case 'S':
			if pp != "NP" {
				out = append(out, pp)
			}
			out = append(out, "0F")
			if m := strings.TrimPrefix(maps, "0F"); m != "" {
				out = append(out, m)
			}
		case 'V':
			out = append(out, "VEX."+rest)
		case 'E':
			out = append(out, "EVEX."+rest)
		}
		named := false
		for i, w := range words[1:] {
			if i > 0 && !named && w[0] != '/' {
				if named = true; e != 'S' && w[0] != 'v' && w[0] != 'k' {
					w = "v" + w
				}
				out = append(out, w)
				continue
			}
			legacyOnly, evexOnly := false, false
			switch w {
			case "H", "L0", "L1", "L2", "L12", "lig", "w0", "w1":
				legacyOnly = e == 'S'
			case "ew0", "ew1":
				if evexOnly = e != 'E'; !evexOnly {
					w = w[1:]
				}
			case "k", "kz", "b4", "b8", "bw", "er", "sae":
				evexOnly = e != 'E'
			}
			if !legacyOnly && !evexOnly {
				out = append(out, w)
			}
		}
		lines = append(lines, strings.Join(out, " "))
	}
	return lines, nil
}

func parseForm(line string) (space int, f form, err error) {
	f = form{digit: -1, modrmIs: -1, w: -1}
	words := strings.Fields(line)
	space, words, err = f.parseOpcode(words)
	if err != nil {
		return space, f, err
	}
	if len(words) < 2 {
		return space, f, fmt.Errorf("neither operands nor a reason")
	}
	name, words := words[0], words[1:]
	if rule, ok := strings.CutPrefix(name, "!"); ok {
		f.reason = strings.Join(words, " ")
		for r, n := range ruleNames {
			if n != "" && n == rule {
				f.refused = Rule(r)
			}
		}
		if f.refused == 0 {
			return space, f, fmt.Errorf("no rule %q", rule)
		}
		f.anyPfx = f.rep == 0 && f.p66 == absent
		return space, f, nil
	}
	f.mnemonic = name
	for _, w := range words {
		if err := f.parseWord(w); err != nil {
			return space, f, err
		}
	}
	f.hasModRM = f.hasModRM || f.digit >= 0 || f.modrmIs >= 0
	if space >= spaceVEX0F && f.lens == 0 {
		f.lens = len128
		if f.vec != target.VecNone {
			f.lens = len128 | len256 | len512
		}
	}
	if f.vec != target.VecNone && slices.ContainsFunc(f.ops, func(o operand) bool { return o.kind == 'I' }) {
		f.perhaps = true // the immediate may select nothing from memory
	}
	if space < spaceEVEX0F {
		f.lens &^= len512
	} else {
		f.vec = target.VecAVX512
	}
	return space, f, nil
}

// parseOpcode reads the OPCODE column and returns the words behind it.
func (f *form) parseOpcode(words []string) (space int, rest []string, err error) {
	vex := false
	for len(words) > 0 {
		w := words[0]
		switch {
		case w == "66" && len(words) > 1 && words[1] == "0F":
			f.p66 = required
		case (w == "F2" || w == "F3") && len(words) > 1 && (words[1] == "0F" || words[1] == "90"):
			f.rep = map[string]byte{"F2": 0xf2, "F3": 0xf3}[w]
		case strings.HasPrefix(w, "VEX."), strings.HasPrefix(w, "EVEX."):
			vex = true
			parts := strings.Split(w, ".")
			spaces := map[string]int{"0F": spaceVEX0F, "0F38": spaceVEX0F38, "0F3A": spaceVEX0F3A}
			if parts[0] == "EVEX" {
				spaces = map[string]int{"0F": spaceEVEX0F, "0F38": spaceEVEX0F38, "0F3A": spaceEVEX0F3A}
			}
			ok := false
			if space, ok = spaces[parts[len(parts)-1]]; !ok {
				return 0, nil, fmt.Errorf("unknown map in %q", w)
			}
			if len(parts) == 3 {
				switch parts[1] {
				case "NP":
				case "66":
					f.p66 = required
				case "F2":
					f.rep = 0xf2
				case "F3":
					f.rep = 0xf3
				default:
					return 0, nil, fmt.Errorf("unknown prefix in %q", w)
				}
			}
		case !vex && space == space1 && w == "0F":
			space = space0F
		case space == space0F && len(words) > 1 && w == "38" && isHex(words[1]):
			space = space0F38
		case space == space0F && len(words) > 1 && w == "3A" && isHex(words[1]):
			space = space0F3A
		default:
			return f.parseOpcodeByte(space, words)
		}
		words = words[1:]
	}
	return 0, nil, fmt.Errorf("no opcode")
}

func (f *form) parseOpcodeByte(space int, words []string) (int, []string, error) {
	lo, hi, isRange := strings.Cut(words[0], "-")
	if !isRange {
		hi = lo
	}
	l, err1 := strconv.ParseUint(lo, 16, 8)
	h, err2 := strconv.ParseUint(hi, 16, 8)
	if err1 != nil || err2 != nil || l > h {
		return 0, nil, fmt.Errorf("bad opcode %q", words[0])
	}
	f.lo, f.hi = byte(l), byte(h)
	words = words[1:]
	if len(words) > 0 && len(words[0]) == 2 && words[0][0] == '/' {
		f.digit = int8(words[0][1] - '0')
		if f.digit < 0 || f.digit > 7 {
			return 0, nil, fmt.Errorf("bad digit %q", words[0])
		}
		words = words[1:]
	} else if len(words) > 0 && words[0][0] == '=' {
		m, err := strconv.ParseUint(words[0][1:], 16, 8)
		if err != nil {
			return 0, nil, fmt.Errorf("bad ModRM byte %q", words[0])
		}
		f.modrmIs = int(m)
		words = words[1:]
	}
	return space, words, nil
}

func isHex(s string) bool {
	lo, _, _ := strings.Cut(s, "-")
	_, err := strconv.ParseUint(lo, 16, 8)
	return err == nil && len(lo) == 2
}

// parseWord reads one operand or attribute.
func (f *form) parseWord(w string) error {
	name, access, _ := strings.Cut(w, ":")
	if access != "" && access != "w" && access != "rw" {
		return fmt.Errorf("bad access in %q", w)
	}
	if len(name) == 2 && strings.Contains("EMRGZBIJ", name[:1]) && strings.Contains("bwdqovyz", name[1:]) {
		if f.p66 == absent && (name[1] == 'v' || name[1] == 'z') {
			f.p66 = optional
		}
		f.hasModRM = f.hasModRM || strings.Contains("EMRG", name[:1])
		f.ops = append(f.ops, operand{kind: name[0], size: name[1], write: access != "", read: access != "w"})
		return nil
	}
	if f.parseVector(name, access != "") {
		return nil
	}
	for r, n := range regNames {
		if n == name && access != "" {
			f.clobber |= 1 << r
			return nil
		}
	}
	switch w {
	case "-":
	case "A", "N":
		f.hasModRM = true
		f.ops = append(f.ops, operand{kind: w[0]})
	case "lock":
		f.lock = true
	case "rep":
		f.f3 = true
	case "osz":
		f.p66 = optional
	case "norex":
		f.noREX = true
	case "rexb":
		f.needB = true
	case "w0":
		f.w = 0
	case "w1":
		f.w = 1
	case "bit":
		f.bitImm = true
	case "perhaps":
		f.perhaps = true
	case "landing":
		f.landing = true
	case "raises":
		f.raises = true
	case "L0":
		f.lens = len128
	case "L1":
		f.lens = len256
	case "L2":
		f.lens = len512
	case "L12":
		f.lens = len256 | len512
	case "lig":
		f.lens = len128 | lenIgnored
	case "k":
		f.mask = true
	case "kz":
		f.mask, f.zero = true, true
	case "b4":
		f.bcast = 4
	case "b8":
		f.bcast = 8
	case "bw":
		f.bcast = bcastW
	case "er":
		f.er = true
	case "sae":
		f.sae = true
	case "avx":
		f.vec = max(f.vec, target.VecAVX)
	case "jmp":
		f.flow = flowJmp
	case "jcc":
		f.flow = flowJcc
	default:
		fx, ok := effectNames[w]
		if !ok {
			return fmt.Errorf("unknown word %q", w)
		}
		f.fx = fx
	}
	return nil
}

// parseVector reads an operand of a vector instruction, if it is one.
func (f *form) parseVector(name string, write bool) bool {
	o := operand{kind: name[0], part: 1, write: write, read: !write}
	size := name[1:]
	level := target.VecAVX
	switch {
	case len(name) == 1 && strings.Contains("VUHL", name):
	case strings.Contains("WM", name[:1]) && size != "":
		if name[0] == 'M' {
			level = target.VecNone // says nothing: its line has another vector operand
		}
	case name == "kG", name == "kR", name == "kB", strings.HasPrefix(name, "kE"):
		level = target.VecAVX512
		o.kind = map[byte]byte{'G': 'g', 'R': 'r', 'B': 'h', 'E': 'e'}[name[1]]
		size = name[2:]
	default:
		return false
	}
	switch size {
	case "":
	case "b", "w", "d", "q", "o", "y", "x":
		o.size = size[0]
	case "x2", "x4", "x8":
		o.size, o.part = 'x', size[1]-'0'
	default:
		return false
	}
	f.hasModRM = true
	f.vec = max(f.vec, level)
	f.ops = append(f.ops, o)
	return true
}
