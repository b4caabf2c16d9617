package codebench

import (
	"testing"

	"ub/sentry/machine"
)

// TestMeasure runs some workloads: the translation's result must be the program's own, with whichever rules left out.
func TestMeasure(t *testing.T) {
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, w := range b.Workloads() {
		r, err := b.Measure(w, 5, []Rule{0, Tags, Masks, Jumps, Fuel, AllRules})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Variants {
			t.Logf("%-28s -%-24v n %8.2f t %8.2f nat %.3f exits %.2f patched %d bytes %d %s", w.Name, v.Without, r.Native[2:3], v.NS[min(2, len(v.NS)):min(3, len(v.NS))], v.Natively, v.Exits, v.Patched, v.Bytes, v.Why)
		}
	}
}
