package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ub/internal/attach"
	"ub/internal/guest"
)

// machine is a guest that tests use one after another. One that has been spoilt is replaced by a new one.
type machine struct {
	series string
	cpus   int
	append string
	debug  bool // for Trace
	count  bool // its clock counts instructions
	mu     sync.Mutex
	vm     *guest.VM
}

// needed skips a test for want of something that `make test` installs: there it fails.
func needed(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case guest.Required():
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

func newMachine(t *testing.T, series string, cpus int, words string) *machine {
	t.Helper()
	needed(t, guest.Supported())
	m := &machine{series: series, cpus: cpus, append: words}
	t.Cleanup(func() {
		if m.vm != nil {
			m.vm.Close()
		}
	})
	return m
}

// boot makes sure that there is a guest, with the module loaded.
func (m *machine) boot(t *testing.T) {
	t.Helper()
	if m.vm != nil {
		return
	}
	img, err := images[m.series]()
	if err != nil {
		t.Fatal(err)
	}
	k, err := guest.FindKernel(m.series)
	if err != nil {
		t.Fatal(err)
	}
	o := guest.Options{Kernel: k, Image: img, CPUs: m.cpus, Append: m.append, PTI: strings.Contains(m.append, "pti=on"), Debug: m.debug, Emulate: m.debug, Count: m.count}
	if os.Getenv("UB_VM_CONSOLE") != "" {
		o.Console = os.Stderr
	}
	if m.vm, err = guest.Boot(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if r := m.run(t, "insmod "+guestModule, 20*time.Second); r.Status != 0 {
		t.Fatalf("loading the module: %s\n%s", r.Output, r.Log)
	}
}

// run runs a script. Trouble of the kernel's ends the test, and the guest.
func (m *machine) run(t *testing.T, script string, timeout time.Duration) *guest.Result {
	t.Helper()
	m.boot(t)
	r, err := m.vm.Run(script, timeout)
	if err != nil {
		m.vm.Close()
		m.vm = nil
		out := ""
		if r != nil {
			out = tail(r.Output)
		}
		t.Fatalf("%v\noutput:\n%s", err, out)
	}
	return r
}

// must is run for scripts that may not fail.
func (m *machine) must(t *testing.T, script string, timeout time.Duration) string {
	t.Helper()
	r := m.run(t, script, timeout)
	if r.Status != 0 {
		t.Fatalf("status %d of\n%s\noutput:\n%s", r.Status, script, tail(r.Output))
	}
	return r.Output
}

// outcome is what a program leaves behind.
type outcome struct {
	output string
	status int
	took   time.Duration
}

const statsMark = "\n=== statistics\n"

// eager has everything translated that is seen at all, in paths that grow in small steps, and bypassed.
const eager = "--tune guard=0 --tune controller=0 --tune eager=1 --tune hot-count=2 --tune miss-count=2 --tune max-path-insts=300 --tune max-path-blocks=40"

// yielding has programs give way to whoever translates for them: they are short, and an emulated processor is slow.
const yielding = "/usr/bin/nice -n 19 "

// native runs a command line without bypass, but else as with it. What follows a ';' runs natively.
func (m *machine) native(t *testing.T, cmd string, timeout time.Duration) outcome {
	t.Helper()
	o, _ := m.under(t, "--bypass=off", cmd, timeout)
	return o
}

// fresh makes a working directory.
const fresh = "rm -rf /tmp/w; mkdir -p /tmp/w; cd /tmp/w\n"

// nativeOnly has programs run natively twice instead: that shows which cannot be compared at all. It needs no module of
// ours; UB_VM_MODULE names the source of any other.
var nativeOnly = os.Getenv("UB_VM_NATIVE") != ""

// bypassed runs it with bypass.
func (m *machine) bypassed(t *testing.T, flags, cmd string, timeout time.Duration) (outcome, *attach.Status) {
	t.Helper()
	st := &attach.Status{}
	if nativeOnly {
		return m.native(t, cmd, timeout), st
	}
	o, stats := m.under(t, flags+" --stats-json /run/stats.json", cmd, timeout)
	if err := json.Unmarshal([]byte(stats), st); err != nil {
		t.Errorf("statistics: %v: %q", err, tail(stats))
	}
	return o, st
}

// under runs a command line under ub. What ub says goes to the program's standard error: it is cut out again.
func (m *machine) under(t *testing.T, flags, cmd string, timeout time.Duration) (o outcome, stats string) {
	t.Helper()
	r := m.run(t, fmt.Sprintf(`%srm -f /run/stats.json
{
%s run --kernel=linux %s -- %s%s
} 2>/run/stderr
status=$?
grep -v '^ub: ' /run/stderr
printf '\n=== statistics\n'; [ -e /run/stats.json ] && cat /run/stats.json
echo '=== ub'; grep '^ub: ' /run/stderr
exit $status
`, fresh, ub, flags, yielding, cmd), timeout)
	out, rest, _ := strings.Cut(r.Output, statsMark)
	stats, said, _ := strings.Cut(rest, "=== ub\n")
	if said != "" {
		t.Errorf("ub says: %s", tail(said))
	}
	return outcome{out, r.Status, r.Took}, stats
}

// compare reports how two runs differ.
func compare(t *testing.T, want, got outcome) {
	t.Helper()
	if got.status != want.status {
		t.Errorf("exit status %d, with bypass %d\noutput:\n%s", want.status, got.status, tail(got.output))
	}
	if got.output == want.output {
		return
	}
	w, g := strings.Split(want.output, "\n"), strings.Split(got.output, "\n")
	for i := range max(len(w), len(g)) {
		wl, gl := "(end of output)", "(end of output)"
		if i < len(w) {
			wl = w[i]
		}
		if i < len(g) {
			gl = g[i]
		}
		if wl != gl {
			t.Errorf("line %d:\n   native: %s\nwith bypass: %s", i+1, tail(wl), tail(gl))
			return
		}
	}
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// checkStats checks that bypass was really active, with nothing that the verifier refused.
func checkStats(t *testing.T, st *attach.Status, least uint64) {
	t.Helper()
	if nativeOnly {
		return
	}
	if st.Total.Chained < least {
		t.Errorf("%d system calls bypassed, want at least %d", st.Total.Chained, least)
	}
	if st.Total.Refused != 0 {
		t.Errorf("the module's verifier refused %d blobs", st.Total.Refused)
	}
}

// summary is one line about what bypass did.
func summary(st *attach.Status) string {
	s := &st.Total
	return fmt.Sprintf("native %d, bypassed %d (%.0f %%, chains of %.1f), exits miss %d stop %d fault %d fuel %d, ends no entry %d signal %d restart %d work %d never %d limit %d off %d gate %d, blobs %d, refused %d, invalidated %d, expels %d",
		s.Hooks, s.Chained, 100*s.Share(), s.ChainLength(), s.ExitMiss, s.ExitStop, s.ExitFault, s.ExitFuel,
		s.EndNoEntry, s.EndSignal, s.EndRestart, s.EndWork, s.EndNever, s.EndLimit, s.EndOff, s.EndGate, s.Installs, s.Refused, s.Invalidated, s.Expels)
}
