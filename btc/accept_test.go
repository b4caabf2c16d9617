package btc_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/target"
	"ub/x86"
)

// TestVerifierTakesForms: whatever instruction the translator takes, the verifier accepts it, in whatever encoding. A form
// that only one of them knows costs the whole path, each time.
func TestVerifierTakesForms(t *testing.T) {
	w := newWorld(t)
	n := 200_000
	if testing.Short() {
		n /= 10
	}
	g := &gen{rng: rand.New(rand.NewPCG(17, 18)), base: lowBase}
	refused := map[string]int{}
	example := map[string]string{}
	taken := 0
	for range n {
		b := g.bytes()
		in, err := x86.Decode(b, lowBase)
		if err != nil || in.Flow != x86.FlowNext || path.StopReason(&in) != "" {
			continue
		}
		w.setCode(append(b[:in.Len:in.Len], 0xcc))
		p, err := path.Discover([]uint64{lowBase}, w, nil, path.Limits{})
		if err != nil {
			continue
		}
		blob, err := btc.Translate(p, w.opts)
		if err != nil {
			continue
		}
		taken++
		i, err := w.m.Install(blob)
		if err != nil {
			k := in.Mnemonic()
			if refused[k]++; refused[k] == 1 {
				example[k] = fmt.Sprintf("% x %v: %v", b[:in.Len], &in, err)
			}
			continue
		}
		w.m.Retire(i)
	}
	t.Logf("%d instructions taken, of %d tried", taken, n)
	var names []string
	for k := range refused {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		t.Errorf("%s: refused %d times, for example %s", k, refused[k], example[k])
	}
}

// TestUndefined: an instruction that some processors do not have must have a fault record, in registers and in slots, or
// whoever runs the translation there does not know how to go on.
func TestUndefined(t *testing.T) {
	for _, text := range []string{
		"f3480fb8c3",   // popcnt rax, rbx
		"f34d0fb8e4",   // popcnt r12, r12
		"c4e2f8f2c3",   // andn rax, rax, rbx
		"c4c2f8f3cc",   // blsr rax, r12
		"f2480f38f1c3", // crc32 rax, rbx
	} {
		code, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for k := range target.NumKernels {
			f := function{addr: lowBase, code: append(code, 0xcc), entries: []uint64{lowBase}}
			_, b := f.translate(t, btc.Options{Kernel: k})
			if len(b.Faults) != 1 || b.Faults[0].RIP != lowBase {
				t.Errorf("%s for %v: fault records %v", text, k, b.Faults)
			}
		}
	}
}
