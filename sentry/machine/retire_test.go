package machine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ub/btc"
	"ub/sfi"
	"ub/target"
)

// TestRetireWhileRunning: a blob that a thread is inside stays what it is, is not entered again, and is freed when the
// thread has left.
func TestRetireWhileRunning(t *testing.T) {
	m := newMachine(t, Options{})
	th, other, w := newThread(t, m), newThread(t, m), newWindow(t, m)
	before := m.space.used
	i := install(t, m, loop())
	c, _ := i.Entry(0x2000)
	bytesThen := append([]byte(nil), mapping(m.rx+uintptr(i.off), i.size)...)
	th.Regs().GPR[rCX] = 1 << 60
	var quit atomic.Bool
	done := make(chan Exit)
	go func() {
		for {
			// Stay in the blob, but for the runtime's preemption, until retired.
			if ex := th.Run(w, c); ex.Reason != ExitFuel || quit.Load() {
				done <- ex
				return
			}
		}
	}()
	waitRunning(t, th)
	m.Retire(i)
	m.Retire(i)
	if ex := other.Run(w, c); ex != (Exit{Reason: ExitMiss}) {
		t.Errorf("another thread enters a retired blob: %+v", ex)
	}
	// Unless the runtime has made the thread leave meanwhile, the blob is in place.
	if th.Running() {
		got := append([]byte(nil), mapping(m.rx+uintptr(i.off), i.size)...)
		if !bytes.Equal(got, bytesThen) && th.Running() {
			t.Error("the blob changed under a thread inside")
		}
	}
	quit.Store(true)
	th.Stop()
	if ex := <-done; ex.Reason != ExitFuel && ex.Reason != ExitMiss {
		t.Errorf("exit %+v", ex)
	}
	m.mu.Lock()
	m.reap()
	used := m.space.used
	m.mu.Unlock()
	if used != before {
		t.Errorf("%d bytes in use, %d before", used, before)
	}
	if got := mapping(m.rx+uintptr(i.off), i.size); !bytes.Equal(got, bytes.Repeat([]byte{0xcc}, i.size)) {
		t.Errorf("freed code is % x", got)
	}
	if len(*m.installed.Load()) != 0 {
		t.Error("a freed blob is still listed")
	}
}

// TestReuse: threads run and dispatch between blobs that others replace all the time in an arena that has room for few.
// Each blob tells which one it is, so that running anything but what was asked for is seen.
func TestReuse(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	m := newMachine(t, Options{ArenaSize: 4 * pageSize})
	w := newWindow(t, m)
	const n = 32
	// What is installed for each of n program addresses, and what it says.
	var mu sync.Mutex
	type current struct {
		i  *Installed
		id uint64
	}
	var now [n]current
	rip := func(k int) uint64 { return 0x10000 + uint64(k)*0x40 }
	var nextID atomic.Uint64
	// produce installs a blob for address k that puts its id into RBX and dispatches to RAX, or exits
	// when RCX is 0. Its size varies, so that what is freed does not fit the next one exactly.
	produce := func(k int, rng *rand.Rand) current {
		id := nextID.Add(1)
		var a blobAsm
		a.entry(rip(k))
		for range rng.IntN(100) {
			a.raw(0x90)
		}
		a.movImm(rBX, id)
		a.line(rip(k) + 1)
		a.raw(0x48, 0xff, 0xc9) // dec rcx
		a.raw(0x0f, 0x8e, 0, 0, 0, 0)
		a.fixes = append(a.fixes, fix{len(a.b) - 4, 4, "end"})
		a.mov(rSI, rBX)
		a.mov(r13, rAX)
		a.raw(0x4c, 0x8d, 0x35, 0, 0, 0, 0) // lea r14, [rip+0]
		a.sym(target.SymDispatch)
		a.label("end")
		a.exit(target.SymSyscall, rip(k)+2)
		i, err := m.Install(a.done())
		for ; errors.Is(err, ErrArenaFull); i, err = m.Install(&a.blob) {
			runtime.Gosched()
		}
		if err != nil {
			t.Error(err)
		}
		return current{i, id}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for k := range now {
		now[k] = produce(k, rng)
	}
	var quit atomic.Bool
	var wg sync.WaitGroup
	var runs, misses, dead, replaced atomic.Int64
	for g := range 3 {
		th := newThread(t, m)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(g)))
			for !quit.Load() {
				from, to := rng.IntN(n), rng.IntN(n)
				mu.Lock()
				a, b := now[from], now[to]
				mu.Unlock()
				ca, _ := a.i.Entry(rip(from))
				cb, _ := b.i.Entry(rip(to))
				if rng.IntN(3) > 0 {
					th.Bind(rip(to), cb)
				}
				if rng.IntN(50) == 0 {
					time.Sleep(time.Microsecond) // become stale
				}
				*th.Regs() = Regs{Flags: flag1}
				r := th.Regs()
				r.GPR[rAX], r.GPR[rCX] = rip(to), 2
				if from == to {
					r.GPR[rCX] = 1
				}
				ex := th.Run(w, ca)
				runs.Add(1)
				switch {
				case ex == Exit{Reason: ExitFuel}:
				case ex == Exit{Reason: ExitMiss}: // retired meanwhile
					dead.Add(1)
					if r.GPR[rBX] != 0 || !a.i.dead.Load() {
						t.Errorf("nothing entered, but registers %+v", *r)
					}
				case ex.Reason == ExitMiss:
					misses.Add(1)
					if r.GPR[rSI] != a.id || r.GPR[rBX] != a.id || r.RIP != rip(to) || ex.From != rip(from)+1 {
						t.Errorf("miss: want blob %d from %#x to %#x, got %+v %+v", a.id, rip(from)+1, rip(to), ex, *r)
					}
				case ex.Reason == ExitSyscall && from == to:
					if r.GPR[rBX] != a.id || r.RIP != rip(to)+2 {
						t.Errorf("want blob %d, got registers %+v", a.id, *r)
					}
				case ex.Reason == ExitSyscall:
					// The binding may be an earlier one than b, of a blob that was in use when Run began.
					if r.GPR[rSI] != a.id || r.RIP != rip(to)+2 || r.GPR[rBX] == 0 || r.GPR[rBX] > nextID.Load() {
						t.Errorf("want blob %d and then one for %#x, got registers %+v", a.id, rip(to), *r)
					}
				default:
					t.Errorf("exit %+v", ex)
				}
			}
		})
	}
	for g := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(g)))
			for !quit.Load() {
				k := rng.IntN(n)
				fresh := produce(k, rng)
				mu.Lock()
				old := now[k]
				now[k] = fresh
				mu.Unlock()
				m.Retire(old.i)
				replaced.Add(1)
				if rng.IntN(4) > 0 {
					time.Sleep(time.Duration(rng.IntN(50)) * time.Microsecond)
				}
			}
		})
	}
	time.Sleep(800 * time.Millisecond)
	quit.Store(true)
	wg.Wait()
	t.Logf("%d runs, %d replaced, %d misses, %d found retired", runs.Load(), replaced.Load(), misses.Load(), dead.Load())
	if replaced.Load() < 200 || runs.Load() < 2000 {
		t.Error("too little happened for a test")
	}
}

// TestWindowRelease: a released window is empty for its next owner, and a thread that was in it is out.
func TestWindowRelease(t *testing.T) {
	m := newMachine(t, Options{Windows: 1})
	th := newThread(t, m)
	f := memFile(t, pageSize)
	c := code(t, m, loop())
	read := code(t, m, accessBlob())
	for range 20 {
		w, err := m.NewWindow()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.NewWindow(); !errors.Is(err, ErrNoWindow) {
			t.Fatalf("a second window: %v", err)
		}
		th.Regs().GPR[rDI] = 0x1000
		if ex := th.Run(w, read); ex.Reason != ExitFault {
			t.Fatalf("a new window is not empty: %+v", ex)
		}
		if err := w.Map(0x1000, pageSize, int(f.Fd()), 0, true, true); err != nil {
			t.Fatal(err)
		}
		if ex := th.Run(w, read); ex.Reason != ExitSyscall {
			t.Fatalf("exit %+v", ex)
		}
		done := make(chan Exit, 1)
		go func() {
			th.Regs().GPR[rCX] = 1 << 60
			ex := th.Run(w, c)
			for ex.Reason == ExitFuel {
				ex = th.Run(w, c)
			}
			done <- ex
		}()
		waitRunning(t, th)
		seq := atomic.LoadUint64(&th.b.seq)
		w.Release()
		if seq&1 != 0 && atomic.LoadUint64(&th.b.seq) == seq {
			t.Error("a thread is still inside a released window")
		}
		if ex := <-done; ex.Reason != ExitStop {
			t.Fatalf("exit %+v", ex)
		}
		w.Release()
		if err := w.Map(0x1000, pageSize, int(f.Fd()), 0, true, true); err == nil {
			t.Fatal("Map after Release succeeds")
		}
	}
}

// TestRefusedBlob: what the verifier refuses does not get in, and costs no room.
func TestRefusedBlob(t *testing.T) {
	m := newMachine(t, Options{})
	for name, build := range map[string]func(*blobAsm){
		"raw memory access":  func(a *blobAsm) { a.load(rAX, rDI, 0); a.exit(target.SymSyscall, 2) },
		"syscall":            func(a *blobAsm) { a.raw(0x0f, 0x05); a.exit(target.SymSyscall, 2) },
		"runs off the end":   func(a *blobAsm) { a.raw(0x90) },
		"ret":                func(a *blobAsm) { a.raw(0xc3) },
		"loop without poll":  func(a *blobAsm) { a.label("l"); a.raw(0x90); a.jmp("l") },
		"host field":         func(a *blobAsm) { a.load(rAX, rSP, offHostSP); a.exit(target.SymSyscall, 2) },
		"unsanitized access": func(a *blobAsm) { a.gsLoad(rAX, rDI, 0, btc.Fault{}); a.exit(target.SymSyscall, 2) },
		"jump to landing":    func(a *blobAsm) { a.raw(0xe9); a.imm32(-0x100) },
	} {
		var a blobAsm
		a.entry(0x1000)
		build(&a)
		used := m.space.used
		_, err := m.Install(a.done())
		if e := (*sfi.Error)(nil); !errors.As(err, &e) {
			t.Errorf("%s: Install returns %v", name, err)
		}
		if m.space.used != used || len(*m.installed.Load()) != 0 {
			t.Errorf("%s: the arena has kept it", name)
		}
	}
	for name, b := range map[string]*btc.Blob{
		"empty":              {},
		"relocation outside": {Code: []byte{0x90, 0x90, 0x90, 0xe9}, Relocs: []btc.Reloc{{Off: 1}}},
		"unknown symbol":     {Code: []byte{0xe9, 0, 0, 0, 0}, Relocs: []btc.Reloc{{Off: 1, Sym: target.NumSyms}}},
	} {
		if _, err := m.Install(b); err == nil {
			t.Errorf("%s: installed", name)
		}
	}
}

// TestArenaFull: when the arena is full, Install says so, and has room again for what is retired.
func TestArenaFull(t *testing.T) {
	m := newMachine(t, Options{ArenaSize: 2 * pageSize})
	var all []*Installed
	for {
		i, err := m.Install(loop())
		if errors.Is(err, ErrArenaFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, i); len(all) > 1000 {
			t.Fatal("the arena never fills")
		}
	}
	if len(all) < 50 {
		t.Errorf("only %d blobs fit", len(all))
	}
	for range 3 {
		m.Retire(all[3], all[4])
		for k := 3; k <= 4; k++ {
			i, err := m.Install(loop())
			if err != nil {
				t.Fatal(err)
			}
			all[k] = i
		}
		if _, err := m.Install(loop()); !errors.Is(err, ErrArenaFull) {
			t.Fatalf("one more than there is room for: %v", err)
		}
	}
}

// TestSpans compares the allocator with a simple model.
func TestSpans(t *testing.T) {
	const size = 1 << 14
	s := spans{free: []span{{0, size}}}
	rng := rand.New(rand.NewPCG(13, 14))
	var taken [size / arenaAlign]bool
	type piece struct{ off, size int }
	var pieces []piece
	used := 0
	for range 20000 {
		if rng.IntN(2) == 0 || len(pieces) == 0 {
			n := 1 + rng.IntN(1000)
			cells := roundUp(n) / arenaAlign
			// First fit, by the model.
			want, run := -1, 0
			for i := range taken {
				if run++; taken[i] {
					run = 0
				}
				if run == cells {
					want = (i - cells + 1) * arenaAlign
					break
				}
			}
			off, ok := s.alloc(n)
			if ok != (want >= 0) || ok && off != want {
				t.Fatalf("alloc(%d) = %d, %v; want %d", n, off, ok, want)
			}
			if ok {
				for i := range cells {
					taken[off/arenaAlign+i] = true
				}
				pieces = append(pieces, piece{off, n})
				used += roundUp(n)
			}
		} else {
			k := rng.IntN(len(pieces))
			p := pieces[k]
			pieces[k] = pieces[len(pieces)-1]
			pieces = pieces[:len(pieces)-1]
			s.release(p.off, p.size)
			for i := range roundUp(p.size) / arenaAlign {
				taken[p.off/arenaAlign+i] = false
			}
			used -= roundUp(p.size)
		}
		if s.used != used {
			t.Fatalf("used %d, want %d", s.used, used)
		}
		for i := 1; i < len(s.free); i++ {
			if s.free[i-1].off+s.free[i-1].size >= s.free[i].off {
				t.Fatalf("free list not sorted or not coalesced: %v", s.free)
			}
		}
	}
}
