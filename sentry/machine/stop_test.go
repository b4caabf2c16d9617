package machine

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/target"
)

// waitRunning returns when th is inside translated code.
func waitRunning(t testing.TB, th *Thread) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !th.Running(); {
		if time.Now().After(deadline) {
			t.Fatal("thread does not get to run")
		}
		time.Sleep(10 * time.Microsecond)
	}
}

// TestStop: Stop from another goroutine is prompt, sticky, and ended by ClearStop; the state is exact each time.
func TestStop(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, loop())
	total := uint64(0)
	for i := range 200 {
		th.Regs().GPR = [16]uint64{rCX: 1 << 60, rDX: 42}
		th.ClearStop()
		done := make(chan Exit, 1)
		go func() {
			for {
				// The runtime may ask the thread to leave too.
				if ex := th.Run(w, c); ex.Reason != ExitFuel || th.stop.Load() {
					done <- ex
					return
				}
			}
		}()
		if i%2 == 0 {
			waitRunning(t, th)
		}
		th.Stop()
		ex := <-done
		r := th.Regs()
		if ex.Reason != ExitFuel || r.GPR[rAX]+r.GPR[rCX] != 1<<60 || r.GPR[rAX]+r.GPR[rBX] != 0 || r.GPR[rDX] != 42 {
			t.Fatalf("exit %+v, registers %+v", ex, *r)
		}
		if r.GPR[rAX] > 0 && r.RIP != 0x2000 {
			t.Fatalf("RIP %#x", r.RIP)
		}
		total += r.GPR[rAX]
		before := *r
		if ex := th.Run(w, c); ex.Reason != ExitFuel || *r != before {
			t.Fatalf("Run while stopped: exit %+v, registers %+v", ex, *r)
		}
		if th.Running() {
			t.Fatal("running after Run has returned")
		}
	}
	if total == 0 {
		t.Error("the loop never ran")
	}
}

// TestStopAndWait: when it returns, threads that are entered over and over do nothing any more, not even what lies before
// their first poll.
func TestStopAndWait(t *testing.T) {
	m := newMachine(t, Options{})
	w := newWindow(t, m)
	f := memFile(t, pageSize)
	if err := w.Map(0x1000, pageSize, int(f.Fd()), 0, true, true); err != nil {
		t.Fatal(err)
	}
	var a blobAsm
	a.entry(0x3000)
	a.sanitize(r12, rDI, btc.Fault{RIP: 0x3000})
	a.fault(btc.Fault{RIP: 0x3000})
	a.raw(0x65, 0xf0, 0x49, 0xff, 0x44, 0x24, 0x00) // lock inc qword gs:[r12+0]
	a.exit(target.SymSyscall, 0x3008)
	c := code(t, m, a.done())
	count := counterAt(w.Base() + 0x1000)
	// More threads than CPUs, so that the host's scheduler stops some of them at any place of their way in.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	var quit atomic.Bool
	var wg sync.WaitGroup
	var threads []*Thread
	for range 6 {
		th := newThread(t, m)
		threads = append(threads, th)
		wg.Go(func() {
			for !quit.Load() {
				th.Regs().GPR[rDI] = 0x1000
				switch ex := th.Run(w, c); ex.Reason {
				case ExitFuel:
					time.Sleep(50 * time.Microsecond)
				case ExitSyscall:
				default:
					t.Errorf("exit %+v", ex)
					return
				}
			}
		})
	}
	for range 60 {
		m.StopAndWait(threads...)
		n := count.Load()
		time.Sleep(8 * time.Millisecond)
		if now := count.Load(); now != n {
			t.Errorf("threads go on after StopAndWait: %d, %d", n, now)
		}
		for _, th := range threads {
			th.ClearStop()
		}
		time.Sleep(4 * time.Millisecond)
	}
	quit.Store(true)
	wg.Wait()
	if count.Load() < 1000 {
		t.Errorf("only %d runs", count.Load())
	}
}

// TestStopIsNotLost: a Stop that comes while Run makes polls pass again, after the runtime has asked the thread to
// leave, is in force all the same.
func TestStopIsNotLost(t *testing.T) {
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, loop())
	const rounds = 50000
	var ready, left atomic.Int64
	go func() {
		for i := int64(1); i <= rounds; i++ {
			th.Regs().GPR[rCX] = 1 << 60
			th.b.disarm() // as urgHandler does
			ready.Store(i)
			for ex := th.Run(w, c); ex.Reason == ExitFuel && !th.stop.Load(); ex = th.Run(w, c) {
			}
			left.Store(i)
		}
	}()
	rng := rand.New(rand.NewPCG(17, 18))
	for i := int64(1); i <= rounds; i++ {
		for ready.Load() < i {
			runtime.Gosched()
		}
		spin(rng.IntN(200))
		th.Stop()
		for deadline := time.Now().Add(5 * time.Second); left.Load() < i; {
			if runtime.Gosched(); time.Now().After(deadline) {
				t.Errorf("round %d: Stop is lost", i)
				th.Stop()
			}
		}
		th.ClearStop()
	}
}

// spin does nothing for about n ns.
func spin(n int) {
	for i := range n {
		if i < 0 {
			panic(i)
		}
	}
}

// TestGarbageCollection: threads in endless loops delay the collector no more than goroutines in endless Go loops, which
// the runtime can stop anywhere. (With one P, a collection takes several turns of 10 ms in either case.)
func TestGarbageCollection(t *testing.T) {
	m := newMachine(t, Options{})
	w := newWindow(t, m)
	c := code(t, m, loop())
	threads := []*Thread{newThread(t, m), newThread(t, m)}
	for _, procs := range []int{1, 2} {
		var fuel atomic.Int64
		inBTC := collectBeside(procs, func(i int, quit *atomic.Bool) {
			th := threads[i]
			th.Regs().GPR[rCX] = 1 << 60
			for !quit.Load() {
				if ex := th.Run(w, c); ex.Reason != ExitFuel {
					t.Errorf("exit %+v", ex)
					return
				}
				fuel.Add(1)
			}
		})
		inGo := collectBeside(procs, func(i int, quit *atomic.Bool) {
			for !quit.Load() {
			}
		})
		t.Logf("GOMAXPROCS %d: a collection takes %v beside translated code (left %d times), %v beside Go", procs, inBTC, fuel.Load(), inGo)
		if inBTC > 4*inGo+100*time.Millisecond {
			t.Errorf("GOMAXPROCS %d: a collection takes %v beside translated code, %v beside Go", procs, inBTC, inGo)
		}
	}
}

// collectBeside returns how long a collection takes on procs Ps while two goroutines run spin(0) and spin(1).
func collectBeside(procs int, spin func(i int, quit *atomic.Bool)) time.Duration {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	var quit atomic.Bool
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { spin(i, &quit) })
	}
	time.Sleep(5 * time.Millisecond)
	const rounds = 5
	start := time.Now()
	for range rounds {
		runtime.GC()
		keep = append(keep[:0], make([]*[]byte, 1000)...)
	}
	each := time.Since(start) / rounds
	quit.Store(true)
	wg.Wait()
	return each
}

var keep []*[]byte

// TestStopTheWorldLatency: with a P to spare, stopping the world takes no more than a poll and a signal.
func TestStopTheWorldLatency(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	m := newMachine(t, Options{})
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, loop())
	var quit atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !quit.Load() {
			th.Regs().GPR[rCX] = 1 << 60
			th.Run(w, c)
		}
	})
	best := time.Hour
	var stats runtime.MemStats
	for range 50 {
		waitRunning(t, th)
		start := time.Now()
		runtime.ReadMemStats(&stats) // stops the world
		best = min(best, time.Since(start))
	}
	quit.Store(true)
	th.Stop()
	wg.Wait()
	t.Logf("stopping the world: %v at best", best)
	if best > 5*time.Millisecond {
		t.Errorf("stopping the world takes %v at best", best)
	}
}

// TestSignals: translated code computes the right thing under a CPU profile, an execution trace, preemption, collections, and a storm of
// signals that the program handles.
func TestSignals(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // let the host's scheduler interleave them
	m := newMachine(t, Options{})
	w := newWindow(t, m)
	c := code(t, m, loop())
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Skip(err)
	}
	if err := trace.Start(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer trace.Stop()
	got := make(chan os.Signal, 1)
	// Those of faults too: sent by somebody, they are no faults, wherever they arrive.
	signal.Notify(got, syscall.SIGUSR1, syscall.SIGCHLD, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE)
	var quit atomic.Bool
	var work, noise sync.WaitGroup
	noise.Go(func() {
		pid := unix.Getpid()
		for !quit.Load() {
			for _, s := range []unix.Signal{unix.SIGUSR1, unix.SIGURG, unix.SIGCHLD, unix.SIGPROF, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE} {
				unix.Kill(pid, s)
				tids(func(tid int) { unix.Tgkill(pid, tid, s) })
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	noise.Go(func() {
		for !quit.Load() {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	})
	var fuel atomic.Int64
	for range 4 {
		th := newThread(t, m)
		work.Go(func() {
			deadline := time.Now().Add(700 * time.Millisecond)
			for n := uint64(1); time.Now().Before(deadline); n++ {
				count := 1000 + n%100_000
				want := [16]uint64{rAX: count, rBX: -count, rDX: n, rSP: n + 1, rBP: n + 2, rSI: n + 3, rDI: n + 4, r8: n + 5,
					r9: n + 6, r10: n + 7, r11: n + 8, r12: n + 9, r13: n + 10, r14: n + 11, r15: n + 12}
				r := th.Regs()
				r.GPR = want
				r.GPR[rAX], r.GPR[rBX], r.GPR[rCX] = 0, 0, count
				ex := th.Run(w, c)
				for ; ex.Reason == ExitFuel; ex = th.Run(w, c) {
					fuel.Add(1)
				}
				if ex.Reason != ExitSyscall || r.GPR != want || r.RIP != 0x2012 {
					t.Errorf("exit %+v, registers\n got %+v\nwant %+v", ex, *r, want)
					return
				}
			}
		})
	}
	work.Wait()
	quit.Store(true)
	noise.Wait()
	signal.Stop(got)
	pprof.StopCPUProfile()
	if fuel.Load() == 0 {
		t.Error("no signal has ever made a thread leave")
	}
	if profile.Len() == 0 {
		t.Error("the profile is empty")
	}
	t.Logf("left %d times, profile of %d bytes", fuel.Load(), profile.Len())
}

// tids calls f for each thread of this process.
func tids(f func(tid int)) {
	dirs, _ := filepath.Glob("/proc/self/task/*")
	for _, d := range dirs {
		if tid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			f(tid)
		}
	}
}
