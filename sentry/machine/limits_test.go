package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/target"
)

// TestManyThreads: many threads at the same time, each in its own window with its own contents at the same address, on
// few windows and many goroutines. Nobody sees what is not its own.
func TestManyThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	m := newMachine(t, Options{})
	// *[RDI] += 1; RAX = *[RDI+8]
	var a blobAsm
	a.entry(0x3000)
	a.sanitize(r12, rDI, btc.Fault{RIP: 0x3000})
	a.fault(btc.Fault{RIP: 0x3000})
	a.raw(0x65, 0xf0, 0x49, 0xff, 0x44, 0x24, 0x00) // lock inc qword gs:[r12+0]
	a.gsLoad(rAX, r12, 8, btc.Fault{RIP: 0x3004})
	a.exit(target.SymSyscall, 0x3008)
	c := code(t, m, a.done())
	const perWindow, runs = 4, 3000
	var wg sync.WaitGroup
	for k := range len(m.freeSlots) {
		w := newWindow(t, m)
		f := memFile(t, 2*pageSize)
		var id [8]byte
		binary.LittleEndian.PutUint64(id[:], uint64(w.Base()))
		if _, err := f.WriteAt(id[:], 0x108); err != nil {
			t.Fatal(err)
		}
		if err := w.Map(0x7f0000, pageSize, int(f.Fd()), 0, true, true); err != nil {
			t.Fatal(err)
		}
		var own sync.WaitGroup
		for range perWindow {
			th := newThread(t, m)
			own.Go(func() {
				for i := range runs {
					th.Regs().GPR[rDI] = 0x7f0100
					ex := th.Run(w, c)
					for ; ex.Reason == ExitFuel; ex = th.Run(w, c) {
					}
					if ex.Reason != ExitSyscall || th.Regs().GPR[rAX] != uint64(w.Base()) {
						t.Errorf("window %d: exit %+v, read %#x, want %#x", k, ex, th.Regs().GPR[rAX], w.Base())
						return
					}
					if i%100 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		wg.Go(func() {
			own.Wait()
			var b [8]byte
			if n, err := w.Read(0x7f0100, b[:]); n != 8 || err != nil {
				t.Error(n, err)
			}
			if n := binary.LittleEndian.Uint64(b[:]); n != perWindow*runs {
				t.Errorf("window %d: %d increments, want %d", k, n, perWindow*runs)
			}
		})
	}
	wg.Wait()
}

func TestExhaustion(t *testing.T) {
	m := newMachine(t, Options{Windows: 2, Threads: 3})
	for range 3 {
		var ths []*Thread
		for range 3 {
			th, err := m.NewThread()
			if err != nil {
				t.Fatal(err)
			}
			if th.tables[0][tableSet(5)].code != 0 {
				t.Error("a new thread has bindings")
			}
			th.Regs().GPR[rAX] = 1
			th.tables[0].bind(5, 5)
			ths = append(ths, th)
		}
		if _, err := m.NewThread(); !errors.Is(err, ErrNoThread) {
			t.Errorf("a fourth thread: %v", err)
		}
		for _, th := range ths {
			th.Free()
			th.Free()
		}
		th, err := m.NewThread()
		if err != nil {
			t.Fatal(err)
		}
		if *th.Regs() != (Regs{Flags: flag1 | flagIF}) {
			t.Errorf("a new thread has registers %+v", *th.Regs())
		}
		th.Free()
		a, err := m.NewWindow()
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.NewWindow()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.NewWindow(); !errors.Is(err, ErrNoWindow) {
			t.Errorf("a third window: %v", err)
		}
		a.Release()
		b.Release()
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{ArenaSize: 1}, {ArenaSize: 2 << 30}, {ArenaSize: pageSize}, {Windows: 25}, {Windows: -1}, {Threads: -1}} {
		if m, err := New(o); err == nil {
			m.Close()
			t.Errorf("%+v: accepted", o)
		}
	}
	m := newMachine(t, Options{})
	if _, err := New(Options{}); err == nil {
		t.Error("a second machine in the process")
	}
	th, err := m.NewThread()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err == nil {
		t.Error("closed with a thread in it")
	}
	th.Free()
}

// TestMapRanges: nothing but whole pages of the window can be mapped or unmapped.
func TestMapRanges(t *testing.T) {
	m := newMachine(t, Options{})
	w := newWindow(t, m)
	f := memFile(t, pageSize)
	for _, r := range [][2]uint64{
		{1, pageSize}, {0, 1}, {0, 0}, {target.WindowSize, pageSize}, {target.WindowSize - pageSize, 2 * pageSize},
		{^uint64(pageSize - 1), pageSize}, {^uint64(pageSize - 1), 2 * pageSize}, {0, target.WindowSize + pageSize}, {1 << 63, 1 << 63},
	} {
		if err := w.Map(r[0], r[1], int(f.Fd()), 0, true, true); err == nil {
			t.Errorf("Map(%#x, %#x) succeeds", r[0], r[1])
		}
		if err := w.Unmap(r[0], r[1]); err == nil {
			t.Errorf("Unmap(%#x, %#x) succeeds", r[0], r[1])
		}
	}
	if err := w.Map(0, pageSize, -1, 0, true, true); !errors.Is(err, unix.EBADF) {
		t.Errorf("Map of no file: %v", err)
	}
	if err := w.Unmap(0, target.WindowSize); err != nil {
		t.Error(err)
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for _, line := range strings.Split(string(maps), "\n") {
		var lo, hi uintptr
		var perm string
		fmt.Sscanf(line, "%x-%x %s", &lo, &hi, &perm)
		if strings.Contains(perm, "w") && strings.Contains(perm, "x") {
			t.Errorf("writable and executable: %s", line)
		}
	}
}

// TestLeaks: a Machine leaves no mapping, no descriptor, and little memory while it exists.
func TestLeaks(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	use := func() (rss int) {
		before := rssKiB(t)
		m, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		rss = rssKiB(t) - before
		f := memFile(t, pageSize)
		c := code(t, m, loop())
		for range 3 {
			w, err := m.NewWindow()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Map(0x1000, pageSize, int(f.Fd()), 0, true, true); err != nil {
				t.Fatal(err)
			}
			th, err := m.NewThread()
			if err != nil {
				t.Fatal(err)
			}
			th.Bind(1, c)
			th.Regs().GPR[rCX] = 5
			th.Run(w, c)
			th.Free()
		}
		f.Close()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err == nil {
			t.Error("closed twice")
		}
		return rss
	}
	use()
	fds, maps := openFDs(), ourMaps(t)
	size := sizeKiB(t)
	if maps != "" {
		t.Errorf("mappings after Close:\n%s", maps)
	}
	for range 50 {
		if rss := use(); rss > 1024 {
			t.Errorf("a new Machine takes %d KiB of memory", rss)
		}
	}
	// The smallest region is 32 MiB of context blocks; Go's own heap may grow by 64 MiB at a time.
	if grown := sizeKiB(t) - size; grown > 512<<10 {
		t.Errorf("address space grows by %d KiB in 50 rounds", grown)
	}
	if n := openFDs(); n != fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if maps := ourMaps(t); maps != "" {
		t.Errorf("mappings after Close:\n%s", maps)
	}
}

func openFDs() int {
	l, _ := filepath.Glob("/proc/self/fd/*")
	return len(l)
}

// ourMaps returns the lines of /proc/self/maps that only this package can have made: of the arena, or of more than 1 GiB in
// the windows' range (where the Go heap may be too, a few 64 MiB at a time).
func ourMaps(t *testing.T) string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, line := range strings.Split(string(maps), "\n") {
		var lo, hi uintptr
		fmt.Sscanf(line, "%x-%x", &lo, &hi)
		window := lo >= firstWindow-target.GuardSize && lo < firstWindow+maxWindows*windowStride && hi-lo > 1<<30
		if window || strings.Contains(line, "ub-btc") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func rssKiB(t *testing.T) int { return statm(t, 1) }

func sizeKiB(t *testing.T) int { return statm(t, 0) }

// statm returns a field of /proc/self/statm in KiB.
func statm(t *testing.T, field int) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[field])
	if err != nil {
		t.Fatal(err)
	}
	return pages * pageSize / 1024
}
