package btc_test

import (
	"flag"
	"math/rand/v2"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/x86"
)

var sequences = flag.Int("sequences", 20000, "random programs that TestRandom executes")

var firstSeed = flag.Uint64("first", 0, "seed of the first of them")

var verbose = flag.Bool("seeds", false, "print the seed of each random program before it runs")

// TestRandom executes random programs natively and translated.
func TestRandom(t *testing.T) { eachKernel(t, testRandom) }

func testRandom(t *testing.T, w *world) {
	n := *sequences
	if testing.Short() {
		n /= 10
	}
	seen := map[form]int{}
	for i := range n {
		seed := *firstSeed + uint64(i)
		g := newGen(seed)
		g.seen = seen
		if *verbose {
			println("seed", seed)
		}
		runRandom(t, w, g)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d programs, %d not entered, %d left by a fault that is not the program's, %d forms", w.runs, w.stops, w.spurious, len(seen))
	checkCovered(t, seen, n)
	for at, n := range w.spuriousBy {
		if n > 1 {
			t.Logf("  %d times at %s", n, at)
		}
	}
}

// checkCovered complains if an operation that can be translated was never generated.
func checkCovered(t *testing.T, seen map[form]int, n int) {
	if n < 20000 {
		return
	}
	ops := map[x86.Op]bool{}
	for f := range seen {
		ops[f.op] = true
	}
	for op := x86.Op(1); op < x86.OpXOR; op++ {
		switch {
		case excluded[op], ops[op]:
		case op == x86.OpCALL || op == x86.OpJMP || op == x86.OpJcc || op == x86.OpRET || op == x86.OpSYSCALL,
			op == x86.OpJRCXZ || op == x86.OpLOOP || op == x86.OpLOOPE || op == x86.OpLOOPNE:
			// Branches are put in by hand.
		case op == x86.OpSTD || op == x86.OpXLAT || op == x86.OpENDBR32: // left to the processor; a NOP
		default:
			t.Errorf("no program had %v", op)
		}
	}
}

func newGen(seed uint64) *gen {
	g := &gen{rng: rand.New(rand.NewPCG(seed, 0x5eed)), base: lowBase}
	if g.chance(2) {
		g.base = highBase
	}
	return g
}

func runRandom(t testing.TB, w *world, g *gen) {
	w.fill(g.rng, g.base)
	code := g.program(1 + g.rng.IntN(10))
	w.setCode(code)
	w.check(t, g.state(), code)
}

// FuzzProgram takes its input for straight-line code, as far as that is translatable.
func FuzzProgram(f *testing.F) {
	for _, c := range []string{
		"\x41\x54\x41\x55\x55\x53\x48\x83\xec\x08\x5b\x5d\x41\x5c\x41\x5d",
		"\x49\x8b\x04\x24\x49\x83\xc4\x08\x4d\x8b\x6c\x24\x08\xf0\x4d\x0f\xb1\x75\x00",
		"\xf3\xa4\xf3\x48\xab\xa5\xac\xae\xa6\x8a\x27\x02\x3f\x48\x0f\xba\xe4\x05",
		"\xc9\x48\x8d\x64\x24\xf8\x64\x48\x8b\x04\x25\x28\x00\x00\x00\x66\x41\x0f\x38\xf1\x04\x24",
	} {
		f.Add(uint64(len(c)), []byte(c))
	}
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		w := newWorld(t)
		g := newGen(seed)
		w.fill(g.rng, g.base)
		var code []byte
		for len(data) > 0 && len(code) < 200 {
			b := append([]byte(nil), data[:min(len(data), x86.MaxLen)]...)
			at := g.base + uint64(len(code))
			in, err := x86.Decode(b, at)
			data = data[max(in.Len, 1):]
			if err == nil && in.Flow == x86.FlowNext && path.StopReason(&in) == "" && !excluded[in.Op] {
				g.aim(&in, b)
				code = append(code, b[:in.Len]...)
			}
		}
		code = append(code, 0xcc)
		w.setCode(code)
		w.check(t, g.state(), code)
	})
}

// BenchmarkTranslate is discovery and translation of a path of 100 instructions.
func BenchmarkTranslate(b *testing.B) {
	f := hundred(b)
	b.ReportAllocs()
	for b.Loop() {
		p, err := path.Discover(f.entries, f, nil, path.Limits{MaxInsts: 100})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := btc.Translate(p, btc.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiscover(b *testing.B) {
	f := hundred(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := path.Discover(f.entries, f, nil, path.Limits{MaxInsts: 100}); err != nil {
			b.Fatal(err)
		}
	}
}

// hundred is a program whose path has 100 instructions: copies of a loop that calls a function.
func hundred(t testing.TB) function {
	t.Helper()
	all := readFunctions(t)
	f := function{addr: 0x401000, entries: []uint64{0x401000}}
	unit := all["keep"].code
	// Without the return at its end, each copy runs on into the next.
	start := all["keep"].entries[0] - all["keep"].addr
	for range 4 {
		call := []byte{0xe9, byte(start), 0, 0, 0}
		f.code = append(append(f.code, call...), unit...)
		for i := len(f.code) - 1; f.code[i] == 0xc3; i-- {
			f.code[i] = 0x90
		}
	}
	f.code = append(f.code, 0x0f, 0x05)
	p, err := path.Discover(f.entries, f, nil, path.Limits{MaxInsts: 100})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.NumInsts(); n != 100 {
		t.Fatalf("the path has %d instructions, not 100", n)
	}
	return f
}
