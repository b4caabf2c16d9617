package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// ub is ub in the guest.
const ub = guestPrograms + "/ub"

// TestLoadUnload loads and unloads the module a hundred times beside tasks that are enrolled and others that are not, on
// two processors.
func TestLoadUnload(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 2, "")
	out := m.must(t, `
rmmod ub || exit 1
/t/beat 100000000 3000 & A=$!
/t/beat 100000000 3000 & B=$!
for i in $(seq 100); do
	insmod /ub.ko || { echo "round $i: not loaded"; exit 1; }
	if [ $((i % 10)) = 0 ]; then
		/t/ub attach -b --tune eager=1 --tune hot-count=2 $B 2>/dev/null || { echo "round $i: not attached"; exit 1; }
		rmmod ub 2>/dev/null && { echo "round $i: unloaded under an enrolled task"; exit 1; }
		[ $((i % 20)) = 0 ] && sleep 0.3 # or at once
		/t/ub detach $B || { echo "round $i: not detached"; exit 1; }
	fi
	n=0
	while ! rmmod ub 2>/dev/null; do
		n=$((n + 1)); [ $n = 50 ] && { echo "round $i: not unloaded"; exit 1; }; sleep 0.1
	done
done
kill -0 $A && kill -0 $B && echo alive
kill $A $B
insmod /ub.ko
`, 5*time.Minute)
	if out != "alive\n" {
		t.Error(out)
	}
}

// TestSpinners runs endless chains and endless loops behind one: the guest answers meanwhile, and signals end them at once.
func TestSpinners(t *testing.T) {
	t.Parallel()
	for _, cpus := range []int{1, 2} {
		m := newMachine(t, "6.1", cpus, "")
		for _, c := range []struct{ name, args string }{{"chain", ""}, {"loop", " x"}} {
			for _, sig := range map[int][]string{1: {"KILL"}, 2: {"TERM"}}[cpus] {
				t.Run(fmt.Sprintf("%s %s on %d", c.name, sig, cpus), func(t *testing.T) {
					out := m.must(t, fmt.Sprintf(`
/t/spinner%s & S=$!
/t/ub attach -b %s $S 2>/dev/null || exit 1
sleep 3
for i in $(seq 30); do /usr/bin/cat /proc/uptime >/dev/null; done
/t/ub status --json >status
kill -%s $S; wait $S 2>/dev/null; echo "status $?"
sed -n 's/.*"chained": //p' status | head -n 1
cut -d ' ' -f 1 /proc/uptime
`, c.args, eager, sig), 40*time.Second)
					lines := strings.Split(strings.TrimPrefix(strings.TrimPrefix(out, "Killed\n"), "Terminated\n"), "\n")
					want := map[string]string{"KILL": "status 137", "TERM": "status 143"}[sig]
					if lines[0] != want {
						t.Errorf("%q", out)
					}
					if len(lines) < 2 || len(strings.TrimRight(lines[1], ",")) < 4 {
						t.Errorf("it was not in chains: %q", out)
					}
				})
			}
		}
	}
}

// TestReplace replaces code under threads that are in calls which it has made, on two processors: what a chain remembers of
// where to go on must be forgotten in time.
func TestReplace(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 2, "")
	for _, p := range []program{{cmd: "replace self", min: 500}, {cmd: "replace two", min: 500}, {cmd: "replace sleeper", min: 500}, {cmd: "replace busy", min: 500}} {
		t.Run(p.cmd, func(t *testing.T) { p.test(t, m) })
	}
}

// TestVectorState runs programs with vector registers beside a user of the FPU in softirqs.
func TestVectorState(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	m.must(t, "insmod "+guestFPUModule, 20*time.Second)
	for _, p := range []program{{cmd: "vectors emulated", min: 1000}, {cmd: "fpu", min: 10000}} {
		t.Run(p.cmd, func(t *testing.T) {
			p.test(t, m)
		})
	}
	out := m.must(t, "cat /sys/module/fpuirq/parameters/used; rmmod fpuirq", 20*time.Second)
	var used, busy int
	if _, err := fmt.Sscan(out, &used, &busy); err != nil || used < 50 {
		t.Errorf("the FPU was used %d times in softirqs, and busy %d times: %v", used, busy, err)
	}
	t.Logf("the FPU was used %d times in softirqs, and busy %d times", used, busy)
}

// TestHostile runs attacks on the module: see package linux.
func TestHostile(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	attack := func(name string, attacks int) {
		t.Run(name, func(t *testing.T) {
			out := m.must(t, fmt.Sprintf("UB_TEST_VICTIM=/t/beat UB_TEST_ATTACKS=%d /t/linux.test -test.v -test.run '^%s$' -test.timeout 5m\n", attacks, name), 5*time.Minute)
			if !strings.Contains(out, "--- PASS: "+name) {
				t.Error(tail(out))
			}
			t.Log(tail(out))
		})
	}
	attack("TestDeviceLimits", 1)
	attack("TestIoctlFuzz", 8000)
	attack("TestHostileCode", 800)
	attack("TestHostileLoader", 100_000)
}
