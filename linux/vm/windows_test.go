package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ub/linux"
)

// TestWindows changes windows of time under programs, at random: see package linux.
func TestWindows(t *testing.T) {
	t.Parallel()
	for _, cpus := range []int{1, 2} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			m := newMachine(t, map[int]string{1: "6.12", 2: "6.1"}[cpus], cpus, "")
			out := m.must(t, "UB_TEST_VICTIM=/t/beat /t/linux.test -test.v -test.run '^TestWindows$' -test.timeout 5m\n", 5*time.Minute)
			if !strings.Contains(out, "--- PASS: TestWindows") {
				t.Error(tail(out))
			}
			t.Log(tail(out))
		})
	}
}

// TestController: of a program's gaps those that pay are bypassed and the one that does not is not, whatever else there is. The
// guest's clock counts instructions, so it is a matter of what is executed, not of what the machine does meanwhile.
func TestController(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	m.count = true
	const cmd = guestPrograms + "/gaps 1800"
	want := m.native(t, cmd, 2*time.Minute)
	got, st := m.bypassed(t, "--tune guard=0", cmd, 4*time.Minute)
	compare(t, want, got)
	if want.status != 0 {
		t.Errorf("status %d: %s", want.status, tail(want.output))
	}
	if t.Failed() || nativeOnly {
		return
	}
	if len(st.Ended) == 0 {
		t.Fatalf("%+v", st)
	}
	p := &st.Ended[len(st.Ended)-1] // the others are programs that have executed it
	t.Log(summary(st))
	var kept, slower []linux.GapStatus
	for _, g := range p.Gaps {
		t.Logf("%+v", g)
		switch {
		case g.State == "kept":
			kept = append(kept, g)
			// The means are of the last pairs, above all, and one interrupt makes a difference there: what decides is the median.
			if g.Saves <= 0 || g.BypassNS > g.NativeNS*5/4 {
				t.Errorf("it is kept, but does not pay: %+v", g)
			}
		case g.Setbacks > 0 && g.BypassNS > g.NativeNS:
			slower = append(slower, g)
		}
	}
	// getppid and gettid, mmap, munmap; and the one with the indirect calls, of which five in two hundred passes are.
	if len(kept) < 2 || len(slower) != 1 || slower[0].BypassNS < 2*slower[0].NativeNS {
		t.Errorf("kept %+v, slower %+v", kept, slower)
	}
	s := &p.Stats
	if p.Counts.Windows < 12 || p.Counts.Decisions < 3 || s.EndGate < 100 || 10*s.Chained < 9*(s.Hooks+s.Chained) {
		t.Errorf("%+v, %+v", p.Counts, s)
	}
}
