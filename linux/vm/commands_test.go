package vm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ub/internal/attach"
	"ub/linux"
)

// stats reads what the last `ub run --stats-json /run/stats.json` has left.
func (m *machine) stats(t *testing.T) *attach.Status {
	t.Helper()
	out := m.must(t, "cat /run/stats.json", 10*time.Second)
	st := &attach.Status{}
	if err := json.Unmarshal([]byte(out), st); err != nil {
		t.Errorf("statistics: %v: %q", err, tail(out))
	}
	return st
}

// TestCommands uses ub as people do.
func TestCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	for _, c := range []struct {
		name, script string
		want         []string // parts of the output, in this order
	}{
		{"check", "/t/ub check --for module; echo $?", []string{"SMAP", "module", fmt.Sprint("loaded, interface ", linux.ABIVersion), "0\n"}},
		{"check without the module", "rmmod ub; /t/ub check --for module; echo $?; /t/ub attach $$; echo $?; insmod /ub.ko", []string{"What to do", "module:", "1\n", "not loaded", "125"}},
		{"status of nothing", "/t/ub status; /t/ub status --json", []string{"module: loaded, on", "no process has bypass", `"attached": []`}},
		{"attach, status, detach", `/t/beat 100000 & P=$!
/t/ub attach -b --tune hot-count=4 --tune eager=1 $P; sleep 1
/t/ub attach -b $P; echo "second: $?"
/t/ub status | sed "s/$P/PID/"; /t/ub detach $P; echo "detached: $?"; /t/ub detach $P; echo "again: $?"; /t/ub status; kill $P`,
			[]string{"has bypass;", "has bypass already", "second: 125", "PID", "/t/beat 100000", "detached: 0", "has no bypass", "again: 125", "no process has bypass"}},
		{"detach ends the foreground", `/t/beat 100000 & P=$!
/t/ub attach $P & U=$!; sleep 1; /t/ub detach $P; wait $U; echo "attach: $?"; kill -0 $P && echo alive; kill $P`, []string{"attach: 0", "alive"}},
		{"killed attach leaves the program", `/t/beat 1500 >out & P=$!
/t/ub attach $P 2>/dev/null & U=$!; sleep 0.5; kill -9 $U; wait $P; echo "program: $?"; cat out; /t/ub status`, []string{"program: 0", "ok", "no process has bypass"}},
		{"status of the program", "/t/ub run --kernel=linux -- sh -c 'exit 7'; echo $?; /t/ub run --kernel=linux -- sh -c 'kill -TERM $$'; echo $?; /t/ub run --kernel=linux -- nothing; echo $?",
			[]string{"7\n", "143\n", "no such program", "127\n"}},
		{"signals", `/t/ub run --kernel=linux -- sh -c 'trap "echo got; exit 3" TERM; while :; do sleep 0.05; done' & U=$!
sleep 0.7; kill -TERM $U; wait $U; echo $?`, []string{"got", "3\n"}},
		{"stats", "/t/ub run --kernel=linux --stats --tune hot-count=4 -- /t/beat 500", []string{"ok", "bypassed", "chains"}},
		{"standard files", "echo hello | /t/ub run --kernel=linux -- cat | tr a-z A-Z", []string{"HELLO"}},
		{"no such process", "/t/ub attach 999999; echo $?", []string{"no such process", "125"}},
		{"a child that has its parent's memory", `/t/vforked 1000 /t/beat 3000 & P=$!
sleep 0.4; C=$(cat /proc/$P/task/$P/children); /t/ub attach -b $C; echo "early: $?"; sleep 1.2; /t/ub attach -b --tune eager=1 --tune hot-count=2 $C; echo "late: $?"
sleep 1; /t/ub status --json | sed -n 's/.*"chained": \(.*\),/\1/p' | head -n 1 | grep -q '....' && echo many; wait $P; echo "program: $?"`,
			[]string{"shares its memory", "early: 125", "late: 0", "many", "ok", "program: 0"}},
		{"kernel thread", "/t/ub attach 2; echo $?", []string{"thread of the kernel", "125"}},
		{"without rights", "chmod 755 /t; su -s /bin/sh nobody -c '/t/ub attach 1; echo $?'", []string{"sudo", "125"}},
		{"the switch for all", `echo 0 >/sys/module/ub/parameters/enabled; /t/ub status; /t/ub run --kernel=linux --stats-json /run/s --tune eager=1 --tune hot-count=2 -- /t/beat 300
sed -n 's/.*"chained": \(.*\),/chained \1/p' /run/s | head -n 1; echo 1 >/sys/module/ub/parameters/enabled`, []string{"switched off", "ok", "chained 0"}},
		{"a program that executes another one", `/t/ub run --kernel=linux --stats-json /run/s --tune eager=1 --tune hot-count=2 -- sh -c 'exec /t/beat 4000'
sed -n 's/.*"chained": \(.*\),/\1/p' /run/s | head -n 1 | grep -q '....' && echo many`, []string{"ok", "many"}},
		{"children", `/t/ub run --kernel=linux --stats-json /run/s --tune eager=1 --tune hot-count=2 -- sh -c '/t/beat 4000; true'
sed -n 's/.*"chained": \(.*\),/\1/p' /run/s | head -n 1 | grep -q '....' && echo many`, []string{"ok", "many"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := m.run(t, fresh+c.script, 60*time.Second)
			rest := r.Output
			for _, w := range c.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("%q is missing, or out of order, in:\n%s", w, tail(r.Output))
				}
				rest = after
			}
		})
	}
}

// TestOtherKernel runs the core of the tests on the other kernel, and with other ways of preempting.
func TestOtherKernel(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.12", 1, "preempt=full")
	for _, p := range cPrograms {
		if p.core {
			t.Run(p.cmd, func(t *testing.T) { p.test(t, m) })
		}
	}
	for _, p := range tools {
		if p.core {
			t.Run(p.cmd, func(t *testing.T) { p.tool(t, m) })
		}
	}
	t.Run("redis", func(t *testing.T) { redisServer.test(t, m, "") })
	t.Run("nginx", func(t *testing.T) { nginxServer.test(t, m, makeSite) })
}
