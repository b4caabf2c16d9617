package vm

import (
	"testing"
	"time"
)

// program is a command line that runs without and with bypass.
type program struct {
	cmd string
	// min is the least number of system calls that must be bypassed. 0: it may be over before there is code.
	min uint64
	// core ones also run on the other kernel.
	core bool
}

var cPrograms = []program{
	{cmd: "loops", min: 10000, core: true},
	{cmd: "regs", min: 1000, core: true},
	{cmd: "redzone", min: 1000},
	{cmd: "fpu", min: 10000, core: true},
	{cmd: "vectors emulated", min: 1000, core: true},
	{cmd: "strings", min: 500},
	{cmd: "futex", min: 1000, core: true},
	{cmd: "timer", min: 1000, core: true},
	{cmd: "storm", min: 500},
	{cmd: "before", min: 300, core: true},
	{cmd: "killstop", min: 2000, core: true},
	{cmd: "eintr", min: 500, core: true},
	{cmd: "trees", min: 500},
	{cmd: "faults skip", min: 1000, core: true},
	{cmd: "faults fix", min: 1000},
	{cmd: "faults jump", min: 1000},
	{cmd: "flags", min: 500},
	{cmd: "bases", min: 500},
	{cmd: "contexts", min: 500},
	{cmd: "vdso", min: 500},
	{cmd: "smc flip", min: 0},
	{cmd: "smc patch", min: 0},
	{cmd: "smc child", min: 0},
	{cmd: "smc over", min: 0},
	{cmd: "smc gone", min: 0},
	{cmd: "smc zeroed", min: 0},
	{cmd: "smc fork", min: 0},
	{cmd: "smc procmem", min: 0},
	{cmd: "smc filewrite", min: 0},
	{cmd: "smc self", min: 0},
	{cmd: "races munmap", min: 200, core: true},
	{cmd: "races mprotect", min: 200},
	{cmd: "races dontneed", min: 200},
	{cmd: "races truncate", min: 200},
	{cmd: "races fork", min: 200},
	{cmd: "races codeunmap", min: 200, core: true},
	{cmd: "races codeprotect", min: 200},
	{cmd: "races codewrite", min: 200},
	{cmd: "memory cow", min: 500},
	{cmd: "memory edges", min: 500},
	{cmd: "third", min: 5000, core: true},
	{cmd: "selfcall", min: 1000, core: true},
	{cmd: "restart", min: 1000, core: true},
	{cmd: "processes forks", min: 500, core: true},
	{cmd: "processes vforks", min: 500},
	{cmd: "processes execs 10", min: 0},
	{cmd: "processes endings", min: 500, core: true},
	{cmd: "processes clones", min: 100},
	{cmd: "processes threads", min: 5000},
	{cmd: "seccomp errno", min: 0, core: true},
	// These are over, or filtered, before anything is translated; "third" is the one whose filter strikes in a chain.
	{cmd: "seccomp trap", min: 0},
	{cmd: "seccomp kill", min: 0},
	{cmd: "seccomp self", min: 0},
	{cmd: "seccomp thread", min: 0},
	{cmd: "ptrace calls", min: 100, core: true},
	{cmd: "ptrace step", min: 100},
	{cmd: "ptrace poke", min: 0},
	{cmd: "ptrace attach", min: 100},
	{cmd: "ptrace regs", min: 100},
	{cmd: "ptrace traceme", min: 0},
}

const programTime = 90 * time.Second

func TestPrograms(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	for _, p := range cPrograms {
		t.Run(p.cmd, func(t *testing.T) { p.test(t, m) })
	}
}

// test compares the two runs.
func (p *program) test(t *testing.T, m *machine) {
	cmd := guestPrograms + "/" + p.cmd
	want := m.native(t, cmd, programTime)
	if want.status == 99 || want.status == 98 {
		t.Fatalf("the program's own checks fail natively:\n%s", tail(want.output))
	}
	p.bypassed(t, m, cmd, want)
}

// bypassed compares runs with bypass with the native one. Results must be equal each time. How much is bypassed of a program that
// lives for tenths of a second depends on when the one processor is given to whoever translates: it has some goes.
func (p *program) bypassed(t *testing.T, m *machine, cmd string, want outcome) {
	t.Helper()
	for try := 1; ; try++ {
		got, st := m.bypassed(t, eager, cmd, programTime)
		t.Logf("%v, with bypass %v: %s", want.took.Round(time.Millisecond), got.took.Round(time.Millisecond), summary(st))
		compare(t, want, got)
		if st.Total.Chained >= p.min || try == tries || t.Failed() {
			checkStats(t, st, p.min)
			return
		}
	}
}

// tries is how often a program may be run until enough of its calls were bypassed.
const tries = 5
