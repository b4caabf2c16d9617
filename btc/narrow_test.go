package btc_test

import (
	"syscall"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/target"
	"ub/x86"
)

// TestNarrow executes random instructions natively: no register may come out larger than the translator would take for
// granted, knowing all about those that went in. A tag that is not checked would be dropped silently.
func TestNarrow(t *testing.T) {
	w := newWorld(t)
	n := *sequences
	if testing.Short() {
		n /= 10
	}
	known := 0
	for i := range n {
		seed := *firstSeed + uint64(i)
		g := newGen(seed)
		w.fill(g.rng, g.base)
		code := g.inst(g.base)
		in, err := x86.Decode(code, g.base)
		if err != nil || path.StopReason(&in) != "" {
			continue
		}
		w.setCode(append(code, 0xcc))
		s := g.state()
		out := w.o.run(t, s)
		if out.sig != syscall.SIGTRAP || out.rip != g.base+uint64(in.Len)+1 { // behind the INT3
			continue
		}
		var before [16]uint8
		for r, v := range s.gpr {
			before[r] = btc.NarrowOf(v)
			if g.chance(8) {
				before[r] /= 2
			}
		}
		for k := range target.NumKernels {
			for r, claim := range btc.Narrows(k, &in, before) {
				if btc.NarrowOf(out.gpr[r]) < claim {
					t.Errorf("seed %d, kernel %v: %v makes %v %#x, claimed to have %d bits\nfrom %v", seed, k, &in, x86.Reg(r), out.gpr[r], 63-claim, s)
				}
				if in.Writes&(1<<r) != 0 && claim > 0 {
					known++
				}
			}
		}
		if t.Failed() {
			return
		}
	}
	if known < n/10 {
		t.Errorf("of %d instructions only %d results are known", n, known)
	}
}
