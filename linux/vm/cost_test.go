package vm

import (
	"bufio"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ub/internal/guest"
)

// mostInstructions is what a chained system call may cost: from where translated code leaves to where it goes on, without the
// kernel's own dispatcher and what that calls, and without no-ops, which stand where some processors need a mitigation.
const mostInstructions = 60

// TestChainCost counts what is executed around a chained system call, in a guest that is taken from instruction to
// instruction.
func TestChainCost(t *testing.T) {
	t.Parallel()
	for _, series := range guest.Series {
		t.Run(series, func(t *testing.T) {
			m := newMachine(t, series, 1, "")
			m.debug = true
			syms := m.symbols(t, "x64_sys_call", "ub_sym_syscall", "ub_arena", "ub_arena_end")
			ended := make(chan struct{})
			vm := m.vm
			go func() {
				defer close(ended)
				vm.Run(ub+" run --kernel=linux "+eager+" -- "+guestPrograms+"/spinner", 3*time.Minute)
			}()
			// The first time round C may have to look for where to go on.
			const rounds = 9
			var steps []guest.Step
			var err error
			// While it is traced, nothing else runs: if it has been found where its code is about to be replaced, it waits for that in vain.
			for range 6 {
				time.Sleep(3 * time.Second)
				if steps, err = vm.Trace(syms["ub_sym_syscall"], rounds, time.Minute); err == nil {
					break
				}
			}
			vm.Close()
			<-ended
			m.vm = nil
			if err != nil {
				t.Fatal(err)
			}
			costs, parts := chainCosts(steps, syms)
			if len(costs) != rounds {
				t.Fatalf("%d rounds in a trace of %d", len(costs), rounds)
			}
			t.Logf("instructions around each system call: %v; others: %v", costs, parts)
			slices.Sort(costs)
			if c := costs[len(costs)/2]; c > mostInstructions {
				t.Errorf("a chained system call takes %d instructions around the kernel's dispatcher, at most %d are wanted: see ub_sym_syscall in linux/module/enter.S",
					c, mostInstructions)
			}
		})
	}
}

// symbols are the addresses of functions, of a guest that has loaded the module.
func (m *machine) symbols(t *testing.T, names ...string) map[string]uint64 {
	t.Helper()
	out := m.must(t, "grep -E ' ("+strings.Join(names, "|")+")([[:space:]]|$)' /proc/kallsyms", time.Minute)
	syms := map[string]uint64{}
	for in := bufio.NewScanner(strings.NewReader(out)); in.Scan(); {
		f := strings.Fields(in.Text())
		if a, err := strconv.ParseUint(f[0], 16, 64); err == nil && a != 0 {
			syms[f[2]] = a
		}
	}
	for _, n := range names {
		if syms[n] == 0 {
			t.Fatalf("the guest's kernel has no %s, only %v", n, slices.Collect(maps.Keys(syms)))
		}
	}
	return syms
}

// chainCosts takes a trace apart, which begins where translated code leaves for a system call. A round's cost is all that is
// neither in the call of the kernel's dispatcher nor between the first instruction of translated code and the next leaving.
func chainCosts(steps []guest.Step, syms map[string]uint64) (costs []int, parts map[string]int) {
	parts = map[string]int{}
	const (
		around = iota
		dispatcher
		translated
	)
	state, call := around, uint64(0)
	for i, step := range steps {
		pc := step.PC
		switch {
		case pc == syms["ub_sym_syscall"]:
			state = around
			costs = append(costs, 0)
		case state == around && pc == syms["x64_sys_call"]:
			state, call = dispatcher, steps[i-1].PC
		case state == dispatcher && pc > call && pc <= call+8:
			state = around
		case state == around && pc >= syms["ub_arena"] && pc < syms["ub_arena_end"]:
			state = translated
		}
		switch {
		case state == around && step.Noop:
			parts["no-ops"]++
		case state == around:
			costs[len(costs)-1]++
		case state == dispatcher:
			parts["dispatcher"]++
		default:
			parts["translated"]++
		}
	}
	for k := range parts {
		parts[k] /= max(len(costs), 1)
	}
	return costs, parts
}
