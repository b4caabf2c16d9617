package sfi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ub/target"
)

// Where the test's blobs run.
const (
	testArena = 0x6000_0000_0000
	testBase  = testArena + 0x10000
)

var testEnv = Env{Syms: [target.NumSyms]uint64{testArena + 0x100, testArena + 0x140, testArena + 0x180}, Vec: target.VecAVX512}

// The same for Linux. Distances are the same, so that a blob has the same bytes.
const (
	linuxArena = 0xffff_ffff_c000_0000
	linuxBase  = linuxArena + 0x10000
)

var linuxEnv = Env{Syms: [target.NumSyms]uint64{linuxArena + 0x100, linuxArena + 0x140, linuxArena + 0x180}, Vec: target.VecAVX512, Kernel: target.Linux}

// envs and bases are those of the tests, by kernel.
var (
	envs  = [target.NumKernels]Env{testEnv, linuxEnv}
	bases = [target.NumKernels]uint64{testBase, linuxBase}
)

// testCase is one case of testdata/*.cases. The files are lines of
//
//	case: name
//	want: ok, or RULE +OFFSET
//	entries: offsets, if not just 0
//	faults: offsets with fault records, if that is to be checked
//	base: address, if not testBase
//	vec: the blob's vector level, if not avx512
//	kernel: linux, if not the Sentry; in front of base and code
//	code: hex, and syscall, dispatch, stop for a jmp to that symbol; 90*20 is a byte repeated
//
// Indented lines are comments that the test writes (SFI_UPDATE=1) and checks; # starts one of ours. "(strict)" in a name
// says that the policy asks for more there than safety does, so that the oracle need not object.
type testCase struct {
	name    string
	where   string
	want    string
	entries []uint32
	faults  []uint32
	base    uint64
	code    []byte
	vec     target.Vec
	kernel  target.Kernel
}

// env is the kernel's at the case's vector level.
func (c *testCase) env() Env {
	env := envs[c.kernel]
	env.Vec, env.Faults = c.vec, c.faults
	return env
}

func (c *testCase) verify() string {
	return verdict(Verify(c.code, c.base, c.entries, c.env()))
}

func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	var e *Error
	if !errors.As(err, &e) {
		return "not an *Error"
	}
	return fmt.Sprintf("%v %+#x", e.Rule, e.Off)
}

// assemble turns hex and symbol names into code.
func assemble(words []string, base uint64, k target.Kernel) ([]byte, error) {
	var code []byte
	for _, w := range words {
		sym := -1
		for s := range target.NumSyms {
			if s.String() == w {
				sym = int(s)
			}
		}
		if sym >= 0 {
			code = append(code, 0xe9)
			code = binary.LittleEndian.AppendUint32(code, uint32(envs[k].Syms[sym]-(base+uint64(len(code))+4)))
			continue
		}
		w, count, repeated := strings.Cut(w, "*")
		n := 1
		if repeated {
			var err error
			if n, err = strconv.Atoi(count); err != nil {
				return nil, err
			}
		}
		for range n {
			for i := 0; i < len(w); i += 2 {
				b, err := strconv.ParseUint(w[i:min(i+2, len(w))], 16, 8)
				if err != nil {
					return nil, err
				}
				code = append(code, byte(b))
			}
		}
	}
	return code, nil
}

// parseCases reads the cases in text.
func parseCases(name, text string) (cases []*testCase, err error) {
	var c *testCase
	for n, line := range strings.Split(text, "\n") {
		key, value, ok := strings.Cut(line, ":")
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		if ok && key == "case" {
			c = &testCase{name: value, where: fmt.Sprintf("%s:%d", name, n+1), base: testBase, entries: []uint32{0}, vec: testEnv.Vec}
			cases = append(cases, c)
			continue
		}
		if !ok || c == nil {
			return nil, fmt.Errorf("%s:%d: what is this?", name, n+1)
		}
		switch key {
		case "want":
			c.want = value
		case "vec":
			for c.vec = 0; c.vec.String() != value; c.vec++ {
				if c.vec >= target.NumVecs {
					return nil, fmt.Errorf("%s:%d: no such level", name, n+1)
				}
			}
		case "kernel":
			for c.kernel = 0; c.kernel.String() != value; c.kernel++ {
				if c.kernel >= target.NumKernels {
					return nil, fmt.Errorf("%s:%d: no such kernel", name, n+1)
				}
			}
			c.base = bases[c.kernel]
		case "base":
			c.base, err = strconv.ParseUint(value, 0, 64)
		case "entries":
			c.entries, err = offsets(value)
		case "faults":
			c.faults, err = offsets(value)
		case "code":
			c.code, err = assemble(strings.Fields(value), c.base, c.kernel)
		default:
			err = errors.New("unknown key")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
	}
	return cases, nil
}

// offsets reads numbers; none are an empty list, which is not nil.
func offsets(text string) ([]uint32, error) {
	list, err := []uint32{}, error(nil)
	for _, w := range strings.Fields(text) {
		n, err1 := strconv.ParseUint(w, 0, 32)
		list, err = append(list, uint32(n)), errors.Join(err, err1)
	}
	return list, err
}

func corpusFiles(t testing.TB) []string {
	names, err := filepath.Glob("testdata/*.cases")
	if err != nil || len(names) == 0 {
		t.Fatal("no corpus", err)
	}
	return names
}

func corpus(t testing.TB) (all []*testCase) {
	for _, name := range corpusFiles(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parseCases(name, string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cases...)
	}
	return append(all, formCases(t)...)
}

func TestCorpus(t *testing.T) {
	rules := map[string]bool{}
	for _, c := range corpus(t) {
		if got := c.verify(); got != c.want {
			t.Errorf("%s: %s: got %s, want %s (%v)", c.where, c.name, got, c.want, Verify(c.code, c.base, c.entries, c.env()))
			continue
		}
		rule, _, _ := strings.Cut(c.want, " ")
		rules[rule] = true
		checkExplain(t, c)
	}
	for r := Rule(1); r < numRules; r++ {
		if !rules[r.String()] {
			t.Errorf("no case is refused by the rule %v", r)
		}
	}
}

// checkExplain compares Explain with Verify.
func checkExplain(t *testing.T, c *testCase) {
	t.Helper()
	next, got, errs := uint32(0), "ok", 0
	for _, l := range Explain(c.code, c.base, c.entries, c.env()) {
		if l.Err != nil {
			errs++
			if got == "ok" || verdict(l.Err) == c.want {
				got = verdict(l.Err)
			}
		}
		if l.Len == 0 {
			continue
		}
		if l.Off != next || l.Text == "" {
			t.Errorf("%s: %s: Explain has a gap or no text at %+#x", c.where, c.name, l.Off)
		}
		next = l.Off + l.Len
	}
	if got != c.want || c.want == "ok" && (errs != 0 || next != uint32(len(c.code))) {
		t.Errorf("%s: %s: Explain says %s", c.where, c.name, got)
	}
}

// harmless are the rules whose violations the oracle may not see: it judges what an instruction does, not how it is
// written, and knows nothing of the arguments of Verify.
var harmless = map[string]bool{
	"form": true, "prefix": true, "lock": true, "bits": true, "input": true, "truncated": true, "entry": true,
}

// TestOracle checks the oracle itself: it must agree with everything that the corpus accepts, and object to what it
// refuses, but for matters of encoding.
func TestOracle(t *testing.T) {
	z := needZydis(t)
	objected := 0
	for _, c := range corpus(t) {
		o := oracle{z: z, code: c.code, base: c.base, entries: c.entries, env: c.env(), rng: rand.New(rand.NewPCG(1, 2))}
		var err error
		for range 20 {
			if err = o.check(); err != nil {
				break
			}
		}
		rule, _, _ := strings.Cut(c.want, " ")
		strict := strings.Contains(c.name, "(strict)")
		if o.steps = 50000; rule == "address" && !strict {
			for i := 0; err == nil && i < 100; i++ { // perhaps it takes many rounds of a loop
				err = o.check()
			}
		}
		switch {
		case c.want == "ok" && err != nil:
			t.Errorf("%s: %s: accepted, but the oracle says %v", c.where, c.name, err)
		case c.want != "ok" && err == nil && !harmless[rule] && !strict && rule != RuleFault.String(): // it knows of no records
			t.Errorf("%s: %s: refused by %s, but the oracle sees nothing", c.where, c.name, rule)
		case err != nil:
			objected++
		}
	}
	t.Logf("the oracle objected to %d cases", objected)
}

// TestCorpusComments checks, or with SFI_UPDATE=1 writes, the disassembly in the corpus. Verdicts are never written.
func TestCorpusComments(t *testing.T) {
	z := needZydis(t)
	for _, name := range corpusFiles(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		base, kernel := uint64(testBase), target.Sentry
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, " ") {
				continue
			}
			out = append(out, line)
			key, value, _ := strings.Cut(line, ":")
			switch key {
			case "case":
				base, kernel = testBase, target.Sentry
			case "kernel":
				base, kernel = linuxBase, target.Linux
			case "base":
				base, _ = strconv.ParseUint(strings.TrimSpace(value), 0, 64)
			case "code":
				code, err := assemble(strings.Fields(value), base, kernel)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, disassemble(z, code, base, kernel)...)
			}
		}
		golden(t, name, strings.Join(out, "\n"))
	}
}

// disassemble prints code as comments for the corpus; addresses in it are shown as offsets.
func disassemble(z *zydis, code []byte, base uint64, k target.Kernel) (lines []string) {
	for off := 0; off < len(code); {
		n, text := 1, "?"
		if z.decode(code[off:]) {
			n, text = int(z.inst.length), z.format(uint64(off))
			for s, addr := range envs[k].Syms {
				text = strings.ReplaceAll(text, fmt.Sprintf("0x%016X", addr-base), target.Sym(s).String())
			}
		}
		lines = append(lines, fmt.Sprintf("    +%02x  %-20x  %s", off, code[off:off+n], text))
		off += n
		if len(lines) == 20 {
			return append(lines, "    ...")
		}
	}
	return lines
}
