package vm

import (
	"strings"
	"testing"
	"time"
)

// paged are programs whose results depend on what addresses are.
var paged = []program{
	{cmd: "high", min: 500},
	{cmd: "loops", min: 10000},
	{cmd: "faults skip", min: 1000},
	{cmd: "faults fix", min: 1000},
	{cmd: "faults jump", min: 1000},
	{cmd: "memory edges", min: 500},
	{cmd: "bases", min: 500},
	{cmd: "redzone", min: 1000},
	{cmd: "vectors emulated", min: 1000},
}

// TestPaging runs programs with both numbers of levels of page tables that processors have: user addresses have 47 bits, or 56. The
// emulated processor has 5 unless told otherwise, so most other tests are with 5.
func TestPaging(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, words, flag, memory string
		programs                  []program
	}{
		{"4 levels", "no5lvl", "0", "below", paged},
		{"5 levels", "", "1", "above", paged[:1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, "6.1", 1, c.words)
			if out := m.must(t, "grep -c -w la57 /proc/cpuinfo; "+guestPrograms+"/high | head -n 1", time.Minute); strings.Join(strings.Fields(out), " ") != c.flag+" memory "+c.memory+" 2^47" {
				t.Fatalf("this is not the machine that it should be: %q", out)
			}
			for _, p := range c.programs {
				t.Run(p.cmd, func(t *testing.T) { p.test(t, m) })
			}
		})
	}
}

// TestHotplug takes a processor away and gives it back, again and again, while chains run on both: the timers that have them leave are per
// processor.
func TestHotplug(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 2, "")
	out := m.must(t, `
/t/spinner & A=$!
/t/spinner x & B=$!
for p in $A $B; do /t/ub attach -b `+eager+` $p 2>/dev/null || exit 1; done
sleep 1
for i in $(seq 12); do
	echo 0 >/sys/devices/system/cpu/cpu1/online || { echo "round $i: it does not go"; exit 1; }
	for k in $(seq 10); do /usr/bin/cat /proc/uptime >/dev/null; done
	echo 1 >/sys/devices/system/cpu/cpu1/online || { echo "round $i: it does not come back"; exit 1; }
done
/t/ub status --json >status
kill -0 $A && kill -0 $B && echo alive
kill $A $B
wait $A; echo "status $?"
wait $B; echo "status $?"
[ $(sed -n 's/.*"chained": \([0-9]*\).*/\1/p' status | head -n 1) -gt 10000 ] && echo chained
`, 3*time.Minute)
	if want := "alive\nstatus 143\nstatus 143\nchained\n"; strings.ReplaceAll(out, "Terminated\n", "") != want {
		t.Errorf("%q, want %q", out, want)
	}
}
