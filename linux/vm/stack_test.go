package vm

import (
	"strings"
	"testing"
	"time"

	"ub/internal/guest"
)

// TestStack looks at the kernel stack of a thread that sleeps in a chained system call: it can be unwound to its end, which live patching,
// for one, waits for.
func TestStack(t *testing.T) {
	t.Parallel()
	for _, series := range guest.Series {
		t.Run(series, func(t *testing.T) {
			m := newMachine(t, series, 1, "")
			out := m.must(t, ub+" run --kernel=linux "+eager+` -- /t/naps & U=$!
sleep 3
P=$(pidof naps)
for i in $(seq 60); do cat /proc/$P/stack; echo ---; usleep 20000; done
kill $P; wait $U; exit 0
`, time.Minute)
			chained := 0
			for _, stack := range strings.Split(out, "---\n") {
				if !strings.Contains(stack, "nanosleep") || !strings.Contains(stack, "ub_") {
					continue
				}
				chained++
				// The entry code is the last frame, or what called it is.
				if !strings.Contains(stack, "do_syscall_64") || !strings.Contains(stack, "entry_SYSCALL_64") {
					t.Fatalf("the stack ends before its end:\n%s", stack)
				}
			}
			if chained < 10 {
				t.Errorf("it was found asleep in a chain %d times only:\n%s", chained, tail(out))
			}
		})
	}
}
