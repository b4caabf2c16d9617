package machine

import (
	"math/rand/v2"
	"testing"

	"ub/btc"
	"ub/target"
)

// jumper dispatches to the target in RAX from program address rip.
func jumper(rip uint64) *btc.Blob {
	var a blobAsm
	a.entry(rip)
	a.mov(r13, rAX)
	a.raw(0x4c, 0x8d, 0x35, 0, 0, 0, 0) // lea r14, [rip+0]
	a.sym(target.SymDispatch)
	return a.done()
}

// landingPad puts id into RBX at rip and exits.
func landingPad(rip, id uint64) *btc.Blob {
	var a blobAsm
	a.entry(rip)
	a.movImm(rBX, id)
	a.exit(target.SymSyscall, rip+2)
	return a.done()
}

// TestDispatch binds many targets, among them all kinds of collisions, and checks that each dispatch leads to the right
// one or misses exactly, with the registers and flags untouched.
func TestDispatch(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	const from = 0x1000
	c := code(t, m, jumper(from))
	rng := rand.New(rand.NewPCG(11, 12))
	targets := []uint64{0, 1, ^uint64(0), 1 << 63, 0x401000, 2}
	for range 300 {
		targets = append(targets, 0x401000+rng.Uint64N(1<<20))
	}
	// Five targets of one set, and some of set 0, where free entries are special.
	for _, set := range []int{tableSet(0x401000), 0} {
		for k, n := uint64(1), 0; n < 5; k++ {
			if tableSet(k<<12) == set {
				targets = append(targets, k<<12)
				n++
			}
		}
	}
	codes := map[uint64]Code{}
	for _, rip := range targets {
		codes[rip] = code(t, m, landingPad(rip, rip^0x5555))
	}
	hits := 0
	dispatch := func(rip uint64) bool {
		randomRegs(rng, th.Regs())
		th.Regs().GPR[rAX] = rip
		start := *th.Regs()
		want := start
		ex := th.Run(w, c)
		for ; ex.Reason == ExitFuel; ex = th.Run(w, c) { // asked by the runtime
			*th.Regs() = start
		}
		switch ex.Reason {
		case ExitMiss:
			want.RIP = rip
			if ex.From != from {
				t.Fatalf("miss of %#x from %#x, want %#x", rip, ex.From, uint64(from))
			}
		case ExitSyscall:
			want.GPR[rBX], want.RIP = rip^0x5555, rip+2
			hits++
		default:
			t.Fatalf("exit %+v", ex)
		}
		if *th.Regs() != want {
			t.Fatalf("to %#x, %v: registers\n got %+v\nwant %+v", rip, ex.Reason, *th.Regs(), want)
		}
		return ex.Reason == ExitSyscall
	}
	for _, rip := range targets {
		if dispatch(rip) {
			t.Errorf("hit for %#x in an empty table", rip)
		}
	}
	for range 20000 {
		rip := targets[rng.IntN(len(targets))]
		if rng.IntN(2) == 0 {
			if !dispatch(rip) {
				th.Bind(rip, codes[rip])
				if !dispatch(rip) {
					t.Fatalf("miss of %#x right after it was bound", rip)
				}
			}
		} else if rng.IntN(500) == 0 {
			th.Flush()
			if dispatch(rip) {
				t.Fatalf("hit for %#x after Flush", rip)
			}
		}
	}
	if hits < 5000 {
		t.Errorf("only %d hits", hits)
	}
	th.Flush()
	for i, e := range th.tables[0] {
		if e.code != 0 || (e.negKey != 0) != (i < tableWays) {
			t.Errorf("entry %d after Flush: %+v", i, e)
		}
	}
	// As many of a set stay as it has ways; the next one pushes the oldest out.
	same := targets[len(targets)-10:][:tableWays+1]
	for i, rip := range same {
		th.Bind(rip, codes[rip])
		for k, old := range same[:i+1] {
			if dispatch(old) != (i-k < tableWays) {
				t.Errorf("after %d bindings in a set: the one of number %d", i+1, k+1)
			}
		}
	}
	// Binding one of them again makes it the newest.
	a, b := same[1], same[2]
	th.Bind(a, codes[a])
	th.Bind(same[0], codes[same[0]])
	if !dispatch(a) || dispatch(b) {
		t.Error("what was bound again is not the newest")
	}
	b = a
	// Retiring takes effect by itself.
	m.Retire(codes[b].Installed())
	if dispatch(b) {
		t.Error("dispatch to a retired blob")
	}
	th.Bind(b, codes[b])
	if dispatch(b) {
		t.Error("a retired blob can be bound")
	}
}

// TestDispatchPolls: a chain of dispatches is left by Stop, although no blob in it has a poll.
func TestDispatchPolls(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, jumper(0x1000)) // to RAX, which is 0x1000
	th.Bind(0x1000, c)
	th.Regs().GPR[rAX] = 0x1000
	th.Regs().GPR[rCX] = 77
	done := make(chan Exit)
	go func() {
		ex := th.Run(w, c)
		for ex.Reason == ExitFuel && !th.stop.Load() { // asked by the runtime
			ex = th.Run(w, c)
		}
		done <- ex
	}()
	waitRunning(t, th)
	th.Stop()
	if ex := <-done; ex.Reason != ExitFuel || th.Regs().RIP != 0x1000 || th.Regs().GPR[rCX] != 77 {
		t.Errorf("exit %+v, registers %+v", ex, *th.Regs())
	}
}

func BenchmarkDispatch(b *testing.B) {
	m := newMachine(b, Options{})
	th, w := newThread(b, m), newWindow(b, m)
	// A loop that counts RCX down and dispatches to itself.
	var a blobAsm
	a.entry(0x1000)
	a.raw(0x48, 0xff, 0xc9) // dec rcx
	a.raw(0x0f, 0x84, 0, 0, 0, 0)
	a.fixes = append(a.fixes, fix{len(a.b) - 4, 4, "end"})
	a.exit(target.SymDispatch, 0x1000)
	a.label("end")
	a.exit(target.SymSyscall, 0x1009)
	c := code(b, m, a.done())
	th.Bind(0x1000, c)
	th.Regs().GPR[rCX] = uint64(b.N)
	for {
		switch ex := th.Run(w, c); ex.Reason {
		case ExitFuel:
		case ExitSyscall:
			return
		default:
			b.Fatal(ex)
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	m := newMachine(b, Options{})
	th, w := newThread(b, m), newWindow(b, m)
	c := code(b, m, jumper(0x1000))
	for b.Loop() {
		if ex := th.Run(w, c); ex.Reason != ExitMiss && ex.Reason != ExitFuel {
			b.Fatal(ex)
		}
	}
}
