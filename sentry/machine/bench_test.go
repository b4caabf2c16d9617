package machine

import (
	"testing"

	"ub/btc"
	"ub/target"
)

// BenchmarkRun is one entry and one exit: what a bypassed syscall costs beside the syscall itself.
func BenchmarkRun(b *testing.B) {
	m := newMachine(b, Options{})
	th, w := newThread(b, m), newWindow(b, m)
	var a blobAsm
	a.entry(0x1000)
	a.exit(target.SymSyscall, 0x1002)
	c := code(b, m, a.done())
	for b.Loop() {
		if ex := th.Run(w, c); ex.Reason != ExitSyscall {
			b.Fatal(ex)
		}
	}
}

// BenchmarkRunTwoWindows alternates between two programs on one host thread, so that each entry writes GS base.
func BenchmarkRunTwoWindows(b *testing.B) {
	m := newMachine(b, Options{})
	th := newThread(b, m)
	ws := [2]*Window{newWindow(b, m), newWindow(b, m)}
	var a blobAsm
	a.entry(0x1000)
	a.exit(target.SymSyscall, 0x1002)
	c := code(b, m, a.done())
	for i := 0; b.Loop(); i++ {
		if ex := th.Run(ws[i&1], c); ex.Reason != ExitSyscall {
			b.Fatal(ex)
		}
	}
}

// BenchmarkFault is an entry that ends in a fault: a signal and its return on top of BenchmarkRun.
func BenchmarkFault(b *testing.B) {
	m := newMachine(b, Options{})
	th, w := newThread(b, m), newWindow(b, m)
	c := code(b, m, accessBlob())
	for b.Loop() {
		th.Regs().GPR[rDI] = 0x1000
		if ex := th.Run(w, c); ex.Reason != ExitFault {
			b.Fatal(ex)
		}
	}
}

// BenchmarkInstall installs and retires a blob of about 100 instructions.
func BenchmarkInstall(b *testing.B) {
	m := newMachine(b, Options{})
	var a blobAsm
	for i := range 20 {
		a.entry(uint64(0x3000 + 16*i))
		a.sanitize(r12, rDI, btc.Fault{})
		a.gsLoad(rAX, r12, 0, btc.Fault{})
		a.gsStore(r12, 0, rAX, btc.Fault{})
	}
	a.exit(target.SymSyscall, 0x4000)
	blob := a.done()
	for b.Loop() {
		i, err := m.Install(blob)
		if err != nil {
			b.Fatal(err)
		}
		m.Retire(i)
	}
}
