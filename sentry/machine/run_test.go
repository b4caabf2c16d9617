package machine

import (
	"math/rand/v2"
	"testing"

	"ub/btc"
	"ub/target"
)

// randomRegs fills r; flags as Run accepts them.
func randomRegs(rng *rand.Rand, r *Regs) {
	for i := range r.GPR {
		r.GPR[i] = rng.Uint64() >> (rng.UintN(4) * 16)
	}
	r.RIP = rng.Uint64()
	r.Flags = rng.Uint64()&(flagsArith|flagID) | flag1 | flagIF
	r.FSBase = rng.Uint64() & (target.WindowSize - 1)
}

// TestRegistersSurvive: each way in and out keeps all registers and flags.
func TestRegistersSurvive(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	const rip, next = 0x401000, 0x7fff_1234_5678
	for _, c := range []struct {
		name string
		sym  target.Sym
		want Exit
	}{
		{"syscall", target.SymSyscall, Exit{Reason: ExitSyscall}},
		{"stop", target.SymStop, Exit{Reason: ExitStop}},
		{"miss", target.SymDispatch, Exit{Reason: ExitMiss, From: rip + 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a blobAsm
			a.entry(rip)
			a.raw(0x90)
			a.line(rip + 4)
			a.exit(c.sym, next)
			code := code(t, m, a.done())
			rng := rand.New(rand.NewPCG(1, uint64(c.sym)))
			for range 5000 {
				randomRegs(rng, th.Regs())
				want := *th.Regs()
				want.RIP = next
				if ex := th.Run(w, code); ex != c.want {
					t.Fatalf("exit %+v, want %+v", ex, c.want)
				}
				if *th.Regs() != want {
					t.Fatalf("registers\n got %+v\nwant %+v", *th.Regs(), want)
				}
			}
		})
	}
}

// TestProgramSees: code sees the registers and flags it is given, and what it changes is seen after the exit, virtual
// registers included.
func TestProgramSees(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x1000)
	for slot := int32(target.SlotRSP); slot <= target.SlotR15; slot += 8 {
		a.load(r12, rSP, slot)
		a.raw(0x4d, 0x8d, 0x64, 0x24, 0x01) // lea r12, [r12+1]
		a.store(rSP, slot, r12)
	}
	a.load(rBP, rSP, target.SlotFSBase)
	a.raw(0x48, 0x11, 0xc8)       // adc rax, rcx: uses CF, sets all
	a.raw(0x0f, 0x90, 0xc2)       // seto dl
	a.raw(0x49, 0x87, 0xd8)       // xchg r8, rbx
	a.raw(0x4d, 0x8d, 0x5b, 0x05) // lea r11, [r11+5]
	a.exit(target.SymSyscall, 0x1010)
	c := code(t, m, a.done())
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		randomRegs(rng, th.Regs())
		want := *th.Regs()
		if ex := th.Run(w, c); ex.Reason != ExitSyscall {
			t.Fatal(ex)
		}
		for _, r := range []int{rSP, r12, r13, r14, r15} {
			want.GPR[r]++
		}
		want.GPR[rBP] = want.FSBase
		x, y, cf := want.GPR[rAX], want.GPR[rCX], want.Flags&flagCF
		sum := x + y + cf
		want.GPR[rAX] = sum
		want.Flags &^= flagsArith
		set := func(flag uint64, on bool) {
			if on {
				want.Flags |= flag
			}
		}
		set(flagCF, sum < x || cf == 1 && sum == x)
		set(flagOF, int64((x^sum)&(y^sum)) < 0)
		set(flagSF, int64(sum) < 0)
		set(flagZF, sum == 0)
		set(flagAF, (x^y^sum)&0x10 != 0)
		parity := sum & 0xff
		parity ^= parity >> 4
		set(flagPF, 0x6996>>(parity&0xf)&1 == 0)
		want.GPR[rDX] &^= 0xff
		if want.Flags&flagOF != 0 {
			want.GPR[rDX] |= 1
		}
		want.GPR[r8], want.GPR[rBX] = want.GPR[rBX], want.GPR[r8]
		want.GPR[r11] += 5
		want.RIP = 0x1010
		if *th.Regs() != want {
			t.Fatalf("registers\n got %+v\nwant %+v", *th.Regs(), want)
		}
	}
}

// TestRefusedState: what translated code does not honour is not entered, and nothing changes.
func TestRefusedState(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x1000)
	a.exit(target.SymSyscall, 0x1002)
	c := code(t, m, a.done())
	try := func(name string, set func(*Regs), want Exit, code Code) {
		randomRegs(rand.New(rand.NewPCG(5, 6)), th.Regs())
		set(th.Regs())
		before := *th.Regs()
		if ex := th.Run(w, code); ex != want {
			t.Errorf("%s: exit %+v, want %+v", name, ex, want)
		}
		if *th.Regs() != before {
			t.Errorf("%s: registers changed", name)
		}
	}
	for bit := range 64 {
		if FlagsAllowed>>bit&1 == 0 {
			try("flag", func(r *Regs) { r.Flags |= 1 << bit }, Exit{Reason: ExitStop}, c)
		}
	}
	try("FS base", func(r *Regs) { r.FSBase = target.WindowSize }, Exit{Reason: ExitStop}, c)
	try("zero code", func(*Regs) {}, Exit{Reason: ExitMiss}, Code{})
	m.Retire(c.Installed())
	try("retired code", func(*Regs) {}, Exit{Reason: ExitMiss}, c)

	gone, err := m.NewWindow()
	if err != nil {
		t.Fatal(err)
	}
	gone.Release()
	w = gone
	var b blobAsm
	b.entry(0x1000)
	b.exit(target.SymSyscall, 0x1002)
	try("released window", func(*Regs) {}, Exit{Reason: ExitStop}, code(t, m, b.done()))
}

// TestResumeFlagIsConsumed: RF is accepted and gone afterwards, as after any instruction.
func TestResumeFlagIsConsumed(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x1000)
	a.exit(target.SymSyscall, 0x1002)
	th.Regs().Flags |= flagRF | flagZF
	if ex := th.Run(w, code(t, m, a.done())); ex.Reason != ExitSyscall {
		t.Fatal(ex)
	}
	if got := th.Regs().Flags; got != flag1|flagIF|flagZF {
		t.Errorf("flags %#x", got)
	}
}

// loop returns a blob that, entered at 0x2000, adds 1 to RAX and takes 1 from RBX's value RCX times; 0 in RCX means for
// ever, more or less. It polls once per iteration.
func loop() *btc.Blob {
	var a blobAsm
	a.entry(0x2000)
	a.label("head")
	a.poll(0x2000)
	a.line(0x2000)
	a.raw(0x48, 0xff, 0xc0) // inc rax
	a.raw(0x48, 0xff, 0xcb) // dec rbx
	a.raw(0x48, 0xff, 0xc9) // dec rcx
	a.raw(0x0f, 0x85, 0, 0, 0, 0)
	a.fixes = append(a.fixes, fix{len(a.b) - 4, 4, "head"})
	a.line(0x2010)
	a.exit(target.SymSyscall, 0x2012)
	return a.done()
}

func TestLoop(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, loop())
	th.Regs().GPR[rCX] = 1000
	if ex := th.Run(w, c); ex.Reason != ExitSyscall {
		t.Fatal(ex)
	}
	if r := th.Regs(); r.GPR[rAX] != 1000 || r.GPR[rCX] != 0 || r.GPR[rBX] != ^uint64(999) {
		t.Errorf("registers %+v", *r)
	}
}
