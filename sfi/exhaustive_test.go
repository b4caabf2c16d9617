package sfi

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"ub/target"
)

// census collects what the decoder accepts, and compares each instruction with Zydis.
type census struct {
	t        *testing.T
	z        *zydis
	table    *table
	tried    int
	accepted int
	linux    int             // of these, by Linux
	forms    map[string]bool // printed
	seen     map[censusKey]bool
	vectors  []vectorForm
	code     []byte            // of the instruction that is being looked at
	bad      map[string]string // kind of disagreement and mnemonic: an example
}

// censusKey is a cheap stand-in for the printed form.
type censusKey struct {
	form                        *form
	mnemonic                    uint32
	osz, base, index            uint8
	hasMem, lock, gs, rep, high bool
	destBits, srcBits, memSize  int
	vector                      uint32 // of vector instructions: the bits of EVEX that the summary is about
}

func newCensus(t *testing.T) *census {
	return &census{t: t, z: needZydis(t), table: theTable(), forms: map[string]bool{}, seen: map[censusKey]bool{}, bad: map[string]string{}}
}

// try looks at the instruction at the start of code, which is followed by enough zeros.
func (c *census) try(code []byte) {
	var in inst
	c.tried++
	c.code = code
	if c.table.decode(code, 0, &in) != nil {
		c.linuxRefuses(code)
		return
	}
	c.accepted++
	f, ok := c.z.facts(code)
	c.compareLinux(code, &in, &f)
	if !ok {
		c.note("Zydis does not know it", in.form.mnemonic, code[:in.len])
		return
	}
	if d := disagreement(&in, &f); d != "" {
		c.note(d, f.mnemonic, code[:in.len])
		return
	}
	if !c.z.allowed() {
		c.note("not on the test's own list of mnemonics", f.mnemonic, code[:in.len])
		return
	}
	k := censusKey{form: in.form, mnemonic: c.z.inst.mnemonic, osz: in.osz, hasMem: in.hasMem, lock: in.lock, gs: in.gs, rep: in.rep,
		high: f.highByte, destBits: f.destBits, srcBits: f.srcBits, memSize: int(in.msize)}
	if c.z.inst.encoding == zEncodingEVEX {
		k.vector = uint32(code[evexAt(code)+3] & 0x97)
		k.base, k.index = 0, 0
	}
	if c.seen[k] {
		return
	}
	c.seen[k] = true
	if f.vec != target.VecNone {
		c.vectors = append(c.vectors, c.vectorForm(&in))
		return
	}
	c.forms[c.print(&in)] = true
}

// tryVector tries every opcode of the three maps with VEX and EVEX and every value of the fields that select or constrain a
// form: pp, W, L'L, mask, z, b, vvvv used or not, and the fifth bits of registers; with every ModRM.reg, registers and
// memory without a displacement, and with 8 bits of it of both signs.
func (c *census) tryVector() {
	var modrms []byte
	for reg := range 8 {
		modrms = append(modrms, byte(reg<<3|3), byte(reg<<3|0xc3))
	}
	buf := make([]byte, 24)
	for mmm := byte(1); mmm < 4; mmm++ {
		for op := range 256 {
			for _, modrm := range modrms {
				for wp := range 8 {
					for _, vvvv := range []byte{0, 5, 9} {
						p1 := byte(wp>>2<<7|wp&3) | ^vvvv&15<<3
						for l := range byte(2) {
							copy(buf, []byte{0xc4, 0xe0 | mmm, p1 | l<<2, byte(op), modrm, 0x10})
							c.try(buf)
						}
						for p2 := range 256 {
							if p2&7 > 1 || vvvv == 5 {
								continue
							}
							copy(buf, []byte{0x62, 0xf0 | mmm, p1 | 4, byte(p2), byte(op), modrm, 0x10})
							c.try(buf)
						}
					}
				}
			}
			// Register extensions and displacements, for what exists at all.
			for wp := range 8 {
				for b := range 256 { // L'L, b, mask or not, and a choice of ModRM bytes
					modrm := []byte{0x43, 0x8b, 0x44, 0xc3, 0xd3, 0xe3, 0xf3, 0x63}[b&7]
					p2 := byte(b>>3&3)<<5 | byte(b>>5&1)<<4 | 8 | byte(b>>6&1)*3
					for _, disp := range []byte{0x7f, 0x80} {
						copy(buf, []byte{0x62, 0xf0 | mmm, byte(wp>>2<<7|wp&3) | 0x7c, p2, byte(op), modrm, 0x24, disp, disp})
						if modrm&7 != 4 {
							copy(buf[6:], []byte{disp, disp, disp})
						}
						if c.table.decode(buf, 0, &inst{}) != nil {
							copy(buf[2:], []byte{byte(wp>>2<<7|wp&3) | 0x3c}) // another vvvv
							if c.table.decode(buf, 0, &inst{}) != nil {
								continue
							}
						}
						for rxbr := range 16 {
							buf[1] = byte(rxbr)<<4 | mmm
							c.try(buf)
							buf[3] ^= 8
							c.try(buf)
							buf[3] ^= 8
						}
					}
				}
			}
		}
	}
	clear(buf)
}

// vectorForm is one accepted form of a vector instruction: what it is, and what of it is summarized over many of its kind.
type vectorForm struct {
	shape             string // encoding, mnemonic, kinds of operands, general registers written
	access            string
	size              int // of memory
	bcast             int
	mask, zero, round bool
}

func (c *census) vectorForm(in *inst) (v vectorForm) {
	z := c.z
	shape := []string{map[uint32]string{zEncodingVEX: "vex", zEncodingEVEX: "evex"}[z.inst.encoding], z.mnemonic()}
	if shape[0] == "" {
		shape = shape[1:]
	}
	v.size = int(in.msize)
	for i := range z.ops[:z.inst.nOps] {
		o := &z.ops[i]
		hidden := o.visibility == zHidden
		switch {
		case o.kind == zOpMem:
			v.access = map[bool]string{true: "r"}[o.actions&zRead != 0] + map[bool]string{true: "w"}[o.actions&zWrite != 0]
			shape = append(shape, "mem:"+v.access)
		case o.kind == zOpImm:
			shape = append(shape, "imm")
		case o.kind == zOpReg:
			n, width, _ := zReg(o.reg)
			switch {
			case n >= 0 && hidden && o.actions&zWrite != 0:
				shape = append(shape, "writes "+regNames[n])
			case hidden:
			case n >= 0:
				shape = append(shape, fmt.Sprintf("reg%s%d", map[bool]string{true: ":w", false: ":"}[o.actions&zWrite != 0], width))
			case o.reg >= zK0 && o.reg <= zK7 && o.encoding == zEncodingMask:
			case o.reg >= zK0 && o.reg <= zK7:
				shape = append(shape, "k")
			case o.reg >= zXMM0 && o.reg <= zZMM31:
				shape = append(shape, "vec")
			}
		}
	}
	v.shape = strings.Join(shape, " ")
	if z.inst.encoding == zEncodingEVEX {
		var p prefixes
		r := reader{code: c.code, pos: uint32(evexAt(c.code)) + 1, end: uint32(len(c.code))}
		r.evex(&p)
		v.mask, v.zero = p.aaa != 0, p.z
		if p.bcastRC && in.hasMem {
			v.bcast, v.size = v.size, 0
		} else {
			v.round = p.bcastRC
		}
	}
	return v
}

// vectorLines summarizes the vector forms: one line a shape.
func (c *census) vectorLines() (lines []string) {
	type summary struct {
		sizes, bcasts     map[int]bool
		mask, zero, round bool
	}
	all := map[string]*summary{}
	for _, v := range c.vectors {
		s := all[v.shape]
		if s == nil {
			s = &summary{sizes: map[int]bool{}, bcasts: map[int]bool{}}
			all[v.shape] = s
		}
		if v.size != 0 {
			s.sizes[v.size] = true
		}
		if v.bcast != 0 {
			s.bcasts[v.bcast] = true
		}
		s.mask, s.zero, s.round = s.mask || v.mask, s.zero || v.zero, s.round || v.round
	}
	list := func(m map[int]bool, unit int) string {
		var l []string
		for _, n := range slices.Sorted(maps.Keys(m)) {
			l = append(l, fmt.Sprint(n*unit))
		}
		return strings.Join(l, ",")
	}
	for shape, s := range all {
		for _, access := range []string{"mem:r", "mem:w"} {
			shape = strings.Replace(shape, access, access+list(s.sizes, 8), 1)
		}
		if len(s.bcasts) != 0 {
			shape += " bcast" + list(s.bcasts, 8)
		}
		if s.mask {
			shape += " mask"
		}
		if s.zero {
			shape += " zero"
		}
		if s.round {
			shape += " round"
		}
		lines = append(lines, shape)
	}
	return lines
}

// evexAt returns where the EVEX prefix is, behind 65.
func evexAt(code []byte) int {
	if code[0] == 0x65 {
		return 1
	}
	return 0
}

// print writes the form with Zydis's operands.
func (c *census) print(in *inst) string {
	z := c.z
	var b strings.Builder
	if in.lock {
		b.WriteString("lock ")
	}
	if in.rep {
		b.WriteString("rep ")
	}
	b.WriteString(z.mnemonic())
	for i := range z.ops[:z.inst.nOps] {
		o := &z.ops[i]
		hidden := o.visibility == zHidden
		access := strings.TrimPrefix(map[bool]string{true: "r"}[o.actions&zRead != 0]+map[bool]string{true: "w"}[o.actions&zWrite != 0], "")
		switch o.kind {
		case zOpReg:
			n, width, _ := zReg(o.reg)
			if n < 0 {
				continue
			}
			if hidden || o.encoding == 0 {
				fmt.Fprintf(&b, " %s:%s%d", regNames[n], access, width)
			} else {
				fmt.Fprintf(&b, " reg:%s%d", access, width)
			}
		case zOpMem:
			if o.reg == zMemAgen {
				fmt.Fprintf(&b, " address")
			} else {
				fmt.Fprintf(&b, " mem:%s%d", access, o.size)
			}
		case zOpImm:
			fmt.Fprintf(&b, " imm")
		}
	}
	return b.String()
}

func (c *census) note(what, mnemonic string, code []byte) {
	k := what + ": " + mnemonic
	if _, ok := c.bad[k]; !ok {
		c.bad[k] = hex.EncodeToString(code)
	}
}

func (c *census) report() {
	for k, example := range c.bad {
		c.t.Errorf("%s (%s)", k, example)
	}
}

// The bytes that can stand in front of an opcode.
var legacyPrefixes = []string{"", "\x66", "\xf2", "\xf3", "\xf0", "\x65", "\x67", "\x2e", "\x36", "\x3e", "\x26", "\x64"}

var opcodeMaps = []string{"", "\x0f", "\x0f\x38", "\x0f\x3a"}

// TestExhaustive decodes every opcode of every map with every ModRM byte under the usual prefixes, and with a choice of
// ModRM bytes under all REX prefixes and pairs of legacy prefixes. What is accepted is compared with Zydis, and its
// summary with testdata/accepted.txt: that file is what to read to see what the verifier lets through.
func TestExhaustive(t *testing.T) {
	t.Parallel()
	c := newCensus(t)
	buf := make([]byte, 24)
	try := func(parts ...string) {
		clear(buf)
		n := 0
		for _, p := range parts {
			n += copy(buf[n:], p)
		}
		c.try(buf)
	}
	b := func(x int) string { return allBytes[x : x+1] }
	for _, m := range opcodeMaps {
		for op := 0; op < 256; op++ {
			for modrm := 0; modrm < 256; modrm++ {
				for _, p := range legacyPrefixes {
					for _, rex := range []string{"", "\x41", "\x48", "\x4f"} {
						try(p, rex, m, b(op), b(modrm))
					}
				}
			}
		}
	}
	for _, m := range opcodeMaps {
		for op := 0; op < 256; op++ {
			for modrm := 0; modrm < 256; modrm += 0x08 {
				if mod := modrm >> 6; mod == 1 || mod == 2 {
					continue
				}
				for _, p := range legacyPrefixes[:6] {
					for _, q := range legacyPrefixes[:6] {
						for rex := 0x3f; rex < 0x50; rex++ {
							if rex == 0x3f {
								try(p, q, m, b(op), b(modrm))
							} else {
								try(p, q, b(rex), m, b(op), b(modrm))
							}
						}
					}
				}
			}
		}
	}
	for _, rxb := range []int{0xe0, 0x00, 0xa0, 0x40} {
		for _, mm := range []int{0, 1, 2, 3, 4, 31} {
			for wvlp := 0; wvlp < 256; wvlp++ {
				for op := 0; op < 256; op++ {
					for _, modrm := range []int{0x03, 0x0b, 0x13, 0x1b, 0xc3, 0xcb, 0xd3, 0xdb, 0xfb} {
						try("\xc4", b(rxb|mm), b(wvlp), b(op), b(modrm))
					}
				}
			}
		}
	}
	for _, p := range legacyPrefixes {
		for rvlp := 0; rvlp < 256; rvlp++ {
			for op := 0; op < 256; op++ {
				try(p, "\xc5", b(rvlp), b(op), "\xc3")
				try(p, "\xc4\xe2", b(rvlp), b(op), "\xc3")
				try(p, "\x48\xc4\xe2", b(rvlp), b(op), "\xc3")
			}
		}
	}
	c.tryVector()
	c.report()
	t.Logf("%d tried, %d accepted, %d by Linux, %d forms", c.tried, c.accepted, c.linux, len(c.forms))
	if c.linux < c.accepted/3 {
		t.Error("Linux accepts too few")
	}
	lines := make([]string, 0, len(c.forms))
	for f := range c.forms {
		lines = append(lines, f)
	}
	lines = append(lines, c.vectorLines()...)
	slices.Sort(lines)
	golden(t, "testdata/accepted.txt", strings.Join(lines, "\n")+"\n")
}

// TestAddressing decodes every ModRM and SIB byte under every REX prefix, with displacements of both signs.
func TestAddressing(t *testing.T) {
	c := newCensus(t)
	buf := make([]byte, 24)
	for _, op := range []byte{0x8b, 0x8d} {
		for rex := 0x40; rex < 0x50; rex++ {
			for modrm := 0; modrm < 0xc0; modrm++ {
				for sib := 0; sib < 256; sib++ {
					if modrm&7 != 4 && sib != 0 {
						break
					}
					for _, disp := range [][]byte{{0x7f, 0, 0, 0, 0}, {0x80, 0xff, 0xff, 0xff, 0x80}} {
						for _, gs := range []bool{false, true} {
							b := buf[:0]
							if gs {
								b = append(b, 0x65)
							}
							b = append(b, byte(rex), op, byte(modrm))
							if modrm&7 == 4 {
								b = append(b, byte(sib))
							}
							b = append(b, disp...)
							c.try(buf[:cap(buf)])
						}
					}
				}
			}
		}
	}
	c.report()
	if c.accepted < c.tried/4 {
		t.Errorf("only %d of %d accepted", c.accepted, c.tried)
	}
}

var allBytes = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

// golden compares got with a file. SFI_UPDATE=1 writes it instead: the change is then to be read line by line.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if os.Getenv("SFI_UPDATE") != "" {
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	have, need := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for _, l := range have {
		if !slices.Contains(need, l) {
			t.Errorf("%s lacks: %s", name, l)
		}
	}
	for _, l := range need {
		if !slices.Contains(have, l) {
			t.Errorf("no more: %s", l)
		}
	}
}
