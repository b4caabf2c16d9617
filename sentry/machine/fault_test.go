package machine

import (
	"errors"
	"math/rand/v2"
	"testing"

	"ub/btc"
	"ub/sfi"
	"ub/target"
)

// accessBlob reads the program's [RDI] into RAX, at 0x3000, with three virtual registers away from home.
func accessBlob() *btc.Blob {
	var a blobAsm
	dirty := []btc.RegLoc{{Virtual: 4, Native: r14, Delta: -8}, {Virtual: 12, Native: r13}, {Virtual: 15, Native: rBX, Delta: 5}}
	a.entry(0x3000)
	a.load(r14, rSP, target.SlotRSP)
	a.raw(0x4d, 0x8d, 0x76, 0x08) // lea r14, [r14+8]
	a.load(r13, rSP, target.SlotR12)
	a.raw(0x4d, 0x8d, 0x6d, 0x01) // lea r13, [r13+1]
	a.sanitize(r12, rDI, btc.Fault{RIP: 0x3004, Dirty: dirty})
	a.gsLoad(rAX, r12, 0, btc.Fault{RIP: 0x3004, Dirty: dirty})
	a.exit(target.SymSyscall, 0x3008)
	return a.done()
}

// wantAccessFault turns the registers before accessBlob into those at its fault.
func wantAccessFault(r Regs) Regs {
	r.GPR[r12]++
	r.GPR[r15] = r.GPR[rBX] + 5
	r.RIP = 0x3004
	return r
}

// TestBadAddresses: every kind of address that is not the program's faults, exactly, and with nothing done.
func TestBadAddresses(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, accessBlob())
	f := memFile(t, 2*pageSize)
	if err := w.Map(0x10000, 2*pageSize, int(f.Fd()), 0, true, true); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(pageSize); err != nil { // the second page is now a SIGBUS
		t.Fatal(err)
	}
	if err := w.Map(0x20000, pageSize, int(f.Fd()), 0, false, false); err != nil {
		t.Fatal(err)
	}
	addrs := map[uint64]btc.FaultKind{
		0:                     btc.FaultAccess,
		0x11000:               btc.FaultAccess, // beyond the end of the file
		0x10fff:               btc.FaultAccess, // crosses into it
		0x20000:               btc.FaultAccess, // PROT_NONE
		target.WindowSize - 1: btc.FaultAccess, // crosses the window's end
		target.WindowSize - 8: btc.FaultAccess,
		0xffff_8000_0000_0000: btc.FaultTouch, // kernel
		^uint64(0):            btc.FaultTouch,
		0x00ff_fc00_0000_0000: btc.FaultAccess, // becomes not canonical
		0x00ff_fc00_0001_0000: btc.FaultAccess,
		0x07ff_fc00_0001_0000: btc.FaultTouch, // would become the kernel's half
	}
	for bit := target.WindowBits; bit < target.TagShift; bit++ {
		addrs[1<<bit] = btc.FaultAccess
		addrs[1<<bit|0x10000] = btc.FaultAccess
	}
	for bit := target.TagShift; bit < 64; bit++ {
		addrs[1<<bit] = btc.FaultTouch
		addrs[1<<bit|0x10000] = btc.FaultTouch // its low bits name mapped memory
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for addr, kind := range addrs {
		for range 20 {
			randomRegs(rng, th.Regs())
			th.Regs().GPR[rDI] = addr
			want := wantAccessFault(*th.Regs())
			ex := th.Run(w, c)
			if ex.Reason != ExitFault || ex.Fault.Kind != kind {
				t.Fatalf("address %#x: exit %+v, want a fault of kind %d", addr, ex, kind)
			}
			if *th.Regs() != want {
				t.Fatalf("address %#x: registers\n got %+v\nwant %+v", addr, *th.Regs(), want)
			}
		}
	}
	// And a good one.
	if _, err := f.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 0x100); err != nil {
		t.Fatal(err)
	}
	th.Regs().GPR[rDI] = 0x10100
	if ex := th.Run(w, c); ex.Reason != ExitSyscall || th.Regs().GPR[rAX] != 0x0807060504030201 {
		t.Errorf("exit %+v, rax %#x", ex, th.Regs().GPR[rAX])
	}
}

// TestGuards: an access as far outside a window as the policy lets one get faults, between two windows in use.
func TestGuards(t *testing.T) {
	m := newMachine(t, Options{Windows: 3})
	th := newThread(t, m)
	f := memFile(t, pageSize)
	var ws []*Window
	for range 3 {
		w := newWindow(t, m)
		for _, addr := range []uint64{0, target.WindowSize - pageSize} {
			if err := w.Map(addr, pageSize, int(f.Fd()), 0, true, true); err != nil {
				t.Fatal(err)
			}
		}
		ws = append(ws, w)
	}
	for _, c := range []struct {
		addr uint64
		disp int32
		ok   bool
	}{
		{0, 0, true}, {0, -8, false}, {0, -1 << 31, false}, {0x1000, -0x1000, true}, {0x1000, -0x1001, false},
		{target.WindowSize - 8, 0, true}, {target.WindowSize - 8, 1, false}, {target.WindowSize - 1, 1<<31 - 1, false},
		{target.WindowSize - 0x1000, 0xff8, true}, {target.WindowSize - 0x1000, 0xff9, false},
	} {
		var a blobAsm
		a.entry(0x3000)
		a.sanitize(r12, rDI, btc.Fault{RIP: 0x3000})
		a.gsLoad(rAX, r12, c.disp, btc.Fault{RIP: 0x3000})
		a.exit(target.SymSyscall, 0x3008)
		i := install(t, m, a.done())
		code, _ := i.Entry(0x3000)
		for k, w := range ws {
			th.Regs().GPR[rDI] = c.addr
			ex := th.Run(w, code)
			if c.ok && ex.Reason != ExitSyscall || !c.ok && ex.Reason != ExitFault {
				t.Errorf("window %d: access to %#x%+#x: exit %+v", k, c.addr, c.disp, ex)
			}
			if host := w.Base() + uintptr(c.addr) + uintptr(c.disp); !c.ok && c.disp != 1 && c.disp != 0xff9 && c.disp != -0x1001 && ex.FaultAddr != host {
				t.Errorf("window %d: access to %#x%+#x: fault address %#x, want %#x", k, c.addr, c.disp, ex.FaultAddr, host)
			}
		}
		m.Retire(i)
	}
}

// TestReadOnly: a store to memory that the program may only read faults and changes nothing.
func TestReadOnly(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x3000)
	a.sanitize(r12, rDI, btc.Fault{RIP: 0x3000})
	a.gsStore(r12, 16, rAX, btc.Fault{RIP: 0x3000})
	a.exit(target.SymSyscall, 0x3008)
	c := code(t, m, a.done())
	f := memFile(t, pageSize)
	for _, writable := range []bool{false, true} {
		if err := w.Map(0x1000, pageSize, int(f.Fd()), 0, true, writable); err != nil {
			t.Fatal(err)
		}
		th.Regs().GPR[rDI], th.Regs().GPR[rAX] = 0x1100, 0x1122334455667788
		want := ExitFault
		if writable {
			want = ExitSyscall
		}
		ex := th.Run(w, c)
		if ex.Reason != want {
			t.Errorf("writable %v: exit %+v", writable, ex)
		}
		var got [8]byte
		if _, err := f.ReadAt(got[:], 0x110); err != nil {
			t.Fatal(err)
		}
		if (got[0] == 0x88) != writable {
			t.Errorf("writable %v: file has % x", writable, got)
		}
	}
	if err := w.Unmap(0x1000, pageSize); err != nil {
		t.Fatal(err)
	}
	if ex := th.Run(w, c); ex.Reason != ExitFault {
		t.Errorf("after Unmap: exit %+v", ex)
	}
}

// TestDivide: SIGFPE, by zero and by overflow.
func TestDivide(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x4000)
	a.fault(btc.Fault{Kind: btc.FaultDivide, RIP: 0x4000})
	a.raw(0x48, 0xf7, 0xf1) // div rcx
	a.exit(target.SymSyscall, 0x4003)
	c := code(t, m, a.done())
	rng := rand.New(rand.NewPCG(9, 10))
	for _, d := range []struct {
		dx, ax, cx uint64
		ok         bool
	}{{0, 100, 7, true}, {0, 100, 0, false}, {8, 0, 8, false}, {7, ^uint64(0), 8, true}} {
		randomRegs(rng, th.Regs())
		th.Regs().GPR[rDX], th.Regs().GPR[rAX], th.Regs().GPR[rCX] = d.dx, d.ax, d.cx
		want := *th.Regs()
		want.RIP = 0x4000
		ex := th.Run(w, c)
		if d.ok != (ex.Reason == ExitSyscall) {
			t.Fatalf("%+v: exit %+v", d, ex)
		}
		if !d.ok && (ex.Reason != ExitFault || ex.Fault.Kind != btc.FaultDivide || *th.Regs() != want) {
			t.Fatalf("%+v: exit %+v, registers\n got %+v\nwant %+v", d, ex, *th.Regs(), want)
		}
	}
}

// TestIllegal: SIGILL, by an instruction that the processor lacks. No such instruction can be named that all processors
// lack, so an accepted one is replaced in the arena.
func TestIllegal(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	var a blobAsm
	a.entry(0x4000)
	a.fault(btc.Fault{Kind: btc.FaultAccess, RIP: 0x4000})
	a.raw(0x66, 0x90) // nop, to become ud2
	a.exit(target.SymSyscall, 0x4002)
	c := code(t, m, a.done())
	copy(mapping(m.rw+uintptr(c.in.off), 2), []byte{0x0f, 0x0b})
	randomRegs(rand.New(rand.NewPCG(19, 20)), th.Regs())
	want := *th.Regs()
	want.RIP = 0x4000
	if ex := th.Run(w, c); ex.Reason != ExitFault || *th.Regs() != want {
		t.Fatalf("exit %+v, registers\n got %+v\nwant %+v", ex, *th.Regs(), want)
	}
}

// TestStringFault: REP STOSB that runs into an unmapped page stops there, with RDI and RCX telling how far it came.
func TestStringFault(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	f := memFile(t, pageSize)
	if err := w.Map(0x7000, pageSize, int(f.Fd()), 0, true, true); err != nil {
		t.Fatal(err)
	}
	var a blobAsm
	a.entry(0x5000)
	a.mov(r13, rDI)
	a.sanitize(r12, rDI, btc.Fault{RIP: 0x5000})
	a.load(r14, rSP, target.SlotBase)
	a.lea(r12, r12, r14)
	a.mov(rDI, r12)
	a.mov(r14, rCX)
	a.raw(0x41, 0x0f, 0xb7, 0xce) // movzx ecx, r14w
	a.fault(btc.Fault{Kind: btc.FaultString, RIP: 0x5000, Str: &btc.StringFix{OrigDI: r13, StartDI: r12}})
	a.raw(0xf3, 0xaa)       // rep stosb
	a.raw(0x49, 0xf7, 0xd4) // not r12
	a.lea(rDI, rDI, r12)
	a.raw(0x4a, 0x8d, 0x7c, 0x2f, 0x01) // lea rdi, [rdi+r13+1]
	a.exit(target.SymSyscall, 0x5002)
	c := code(t, m, a.done())
	for _, s := range []struct {
		di, cx, wantDI, wantCX uint64
		reason                 Reason
	}{
		{0x7000, 0x1000, 0x8000, 0, ExitSyscall},
		{0x7800, 0x800, 0x8000, 0, ExitSyscall},
		{0x7800, 0x900, 0x8000, 0x100, ExitFault},
		{0x6fff, 5, 0x6fff, 5, ExitFault},
		{1 << 50, 5, 1 << 50, 5, ExitFault},
		{1<<60 | 0x7000, 5, 1<<60 | 0x7000, 5, ExitFault},
	} {
		th.Regs().GPR[rDI], th.Regs().GPR[rCX], th.Regs().GPR[rAX] = s.di, s.cx, 0x5a
		ex := th.Run(w, c)
		if r := th.Regs(); ex.Reason != s.reason || r.GPR[rDI] != s.wantDI || r.GPR[rCX] != s.wantCX {
			t.Errorf("%+v: exit %+v, rdi %#x rcx %#x", s, ex, r.GPR[rDI], r.GPR[rCX])
		}
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0xfff); err != nil || b[0] != 0x5a {
		t.Errorf("memory %#x, %v", b, err)
	}
}

// TestUnlistedFault: a blob in which something can fault that the translation does not list is not installed.
func TestUnlistedFault(t *testing.T) {
	m := newMachine(t, Options{})
	b := accessBlob()
	for i := range b.Faults {
		b.Faults[i].Off++
	}
	var refused *sfi.Error
	if _, err := m.Install(b); !errors.As(err, &refused) || refused.Rule != sfi.RuleFault {
		t.Errorf("installed: %v", err)
	}
}

// TestOtherFaultsReachGo: faults of Go code go on to the runtime's handlers, and to safecopy's.
func TestOtherFaultsReachGo(t *testing.T) {
	m := newMachine(t, Options{})
	w := newWindow(t, m)
	expectPanic := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	var p *[1 << 20]int
	zero := len(t.Name()) - len(t.Name())
	for range 3 {
		expectPanic("nil dereference", func() { sink = p[1000] })
		expectPanic("division by zero", func() { sink = 1 / zero })
	}
	if n, err := w.Read(0x1000, make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("Read of nothing: %d, %v", n, err)
	}
	f := memFile(t, pageSize)
	if err := w.Map(0x1000, 2*pageSize, int(f.Fd()), 0, true, false); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Read(0x1ff0, make([]byte, 32)); n != 16 || err == nil {
		t.Errorf("Read across the end of the file: %d, %v", n, err)
	}
	if n, err := w.Read(target.WindowSize-8, make([]byte, 32)); n != 0 || err == nil {
		t.Errorf("Read across the end of the window: %d, %v", n, err)
	}
	if _, err := w.Read(target.WindowSize, make([]byte, 1)); err == nil {
		t.Error("Read beyond the window: no error")
	}
}

var sink int
