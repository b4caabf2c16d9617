package btc_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/target"
)

// The program's memory in the tests. Code and data are at a low and at a high place: the addresses of the first fit 31
// bits, those of the second don't.
const (
	pageSize = 4096

	lowBase    = 0x10000000
	highBase   = 0x200_0000_0000
	dataOffset = 0x100000 // of the data behind the code
	codePages  = 16
	dataPages  = 8 // of which the last is behind the end of the file
	topPage    = 1<<42 - pageSize
)

// dataProt is the access to each page of the data; everything around is unmapped.
var dataProt = [dataPages]uint64{
	0: unix.PROT_READ | unix.PROT_WRITE,
	1: unix.PROT_READ | unix.PROT_WRITE,
	2: unix.PROT_READ,
	3: unix.PROT_NONE,
	4: unix.PROT_READ | unix.PROT_WRITE,
	5: unix.PROT_NONE,
	6: unix.PROT_READ | unix.PROT_WRITE, // at topPage as well
	7: unix.PROT_READ | unix.PROT_WRITE, // SIGBUS
}

const dataSize = 7 * pageSize // the file's

// world is one program in two places: in the traced child that executes it natively, and in a window of the machine.
type world struct {
	m      *machine.Machine
	w      *machine.Window
	th     *machine.Thread
	o      *oracle
	code   []byte // as the program sees it, at both bases
	native []byte // data of the child
	btc    []byte // data in the window
	saved  []byte
	opts   btc.Options

	regions []region // where code is

	linux *linuxRunner // runs what is translated for the kernel Linux, instead of the machine

	// What came out, over all checks.
	runs, spurious, stops int
	spuriousBy            map[string]int
}

func sharedFile(t testing.TB, name string, size int) (*os.File, []byte) {
	t.Helper()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return f, b
}

// region is code of the program.
type region struct {
	addr uint64
	code []byte
}

// newBareWorld has a machine and a window, and nothing mapped yet.
func newBareWorld(t testing.TB) *world {
	t.Helper()
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	w := &world{saved: make([]byte, dataSize), spuriousBy: map[string]int{}}
	m, err := machine.New(machine.Options{Windows: 1, Threads: 2, ArenaSize: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	w.m = m
	if w.w, err = m.NewWindow(); err != nil {
		t.Fatal(err)
	}
	if w.th, err = m.NewThread(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.th.Free)
	t.Cleanup(w.w.Release)
	return w
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := newBareWorld(t)
	var cf, nf, bf *os.File
	cf, w.code = sharedFile(t, "code", codePages*pageSize)
	nf, w.native = sharedFile(t, "native", dataSize)
	bf, w.btc = sharedFile(t, "btc", dataSize)
	w.regions = []region{{lowBase, w.code}, {highBase, w.code}}
	w.o = newOracle(t, cf, nf)

	mapData := func(addr uint64, page int, prot uint64) {
		if prot == unix.PROT_NONE {
			return
		}
		off := int64(page * pageSize)
		w.o.mmap(t, addr, pageSize, 1, off, prot)
		if err := w.w.Map(addr, pageSize, int(bf.Fd()), off, true, prot&unix.PROT_WRITE != 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, base := range []uint64{lowBase, highBase} {
		w.o.mmap(t, base, codePages*pageSize, 0, 0, unix.PROT_READ|unix.PROT_EXEC)
		if err := w.w.Map(base, codePages*pageSize, int(cf.Fd()), 0, true, false); err != nil {
			t.Fatal(err)
		}
		for i, prot := range dataProt {
			mapData(base+dataOffset+uint64(i)*pageSize, i, prot)
		}
	}
	mapData(topPage, 6, dataProt[6])
	return w
}

// eachKernel runs a test in a world of each kernel.
func eachKernel(t *testing.T, f func(*testing.T, *world)) {
	t.Run("sentry", func(t *testing.T) { f(t, newWorld(t)) })
	t.Run("linux", func(t *testing.T) { f(t, newLinuxWorld(t)) })
}

// newLinuxWorld is a world in which programs are translated for the kernel Linux.
func newLinuxWorld(t testing.TB) *world {
	t.Helper()
	w := &world{saved: make([]byte, dataSize), spuriousBy: map[string]int{}}
	w.opts.Kernel = target.Linux
	cf, code := sharedFile(t, "code", codePages*pageSize)
	nf, native := sharedFile(t, "native", dataSize)
	bf, data := sharedFile(t, "btc", dataSize)
	w.code, w.native, w.btc = code, native, data
	w.regions = []region{{lowBase, w.code}, {highBase, w.code}}
	w.o = newOracle(t, cf, nf)
	w.linux = newLinuxRunner(t, cf, bf)
	for _, o := range []*oracle{w.o, w.linux.o} {
		for _, base := range []uint64{lowBase, highBase} {
			o.mmap(t, base, codePages*pageSize, 0, 0, unix.PROT_READ|unix.PROT_EXEC)
			for i, prot := range dataProt {
				if prot != unix.PROT_NONE {
					o.mmap(t, base+dataOffset+uint64(i)*pageSize, pageSize, 1, int64(i*pageSize), prot)
				}
			}
		}
		o.mmap(t, topPage, pageSize, 1, 6*pageSize, dataProt[6])
	}
	return w
}

// ReadCode implements path.CodeReader.
func (w *world) ReadCode(addr uint64, dst []byte) (int, error) {
	for _, r := range w.regions {
		if off := addr - r.addr; off < uint64(len(r.code)) {
			return copy(dst, r.code[off:]), nil
		}
	}
	return 0, fmt.Errorf("no code at %#x", addr)
}

// setCode makes code the program at base and pads with end markers.
func (w *world) setCode(code []byte) {
	n := copy(w.code, code)
	rest := w.code[n:min(len(w.code), n+256)]
	for i := range rest {
		rest[i] = 0xcc
	}
}

// fill gives both sides the same random memory, with some pointers in it.
func (w *world) fill(rng *rand.Rand, base uint64) {
	for i := 0; i < dataSize; i += 8 {
		v := rng.Uint64()
		switch v % 8 {
		case 0:
			v = base + dataOffset + (v>>8)%dataSize
		case 1, 2:
			v = (v >> 8) % 64
		}
		for k := range 8 {
			w.native[i+k] = byte(v >> (8 * k))
		}
	}
	copy(w.btc, w.native)
}

// translate makes and installs the translation for the entry at rip, checked for atomicity.
func (w *world) translate(t testing.TB, entries []uint64, hints path.Hints) (*path.Path, *machine.Installed, error) {
	t.Helper()
	p, err := path.Discover(entries, w, hints, path.Limits{})
	if err != nil {
		return nil, nil, err
	}
	b, err := btc.Translate(p, w.opts)
	if err != nil {
		return p, nil, err
	}
	if err := btc.CheckAtomicity(b, p); err != nil {
		t.Fatalf("%v\n%s", err, listing(b, p))
	}
	in, err := w.m.Install(b)
	if err != nil {
		t.Fatalf("refused: %v\n%s\n%s", err, listing(b, p), explain(b))
	}
	return p, in, nil
}

func listing(b *btc.Blob, p *path.Path) string {
	var s strings.Builder
	for _, r := range btc.Listing(b, p) {
		s.WriteString(r.String())
	}
	return s.String()
}

// enter runs translated code from s until an exit.
func (w *world) enter(code machine.Code, s state) (machine.Exit, state) {
	r := w.th.Regs()
	r.GPR, r.RIP, r.Flags, r.FSBase = s.gpr, s.rip, s.flags&arithFlags|0x202, s.fsBase
	area := s.vec.area()
	if err := w.th.LoadVec(area); err != nil {
		panic(err)
	}
	w.th.SetVec(code.Vec())
	// The Go runtime may ask for the thread at any poll; the program goes on where it was, in BTC if it has an
	// entry there, and natively otherwise, which is the caller's affair.
	x := w.th.Run(w.w, code)
	w.th.StoreVec(area)
	return x, state{gpr: r.GPR, rip: r.RIP, flags: r.Flags & arithFlags, fsBase: r.FSBase, vec: vectorsOf(area)}
}

// check executes the program at s.rip natively and translated, from the same state and memory, and compares what comes
// out. When translated code is left before the program's end, the program is continued natively from there, as in
// production: the result must be the same. codeLen is for messages.
func (w *world) check(t testing.TB, s state, code []byte) {
	t.Helper()
	w.runs++
	copy(w.saved, w.native)
	want := w.o.run(t, s)
	if want.sig == syscall.SIGSTOP {
		t.Logf("runs for ever: % x\nat %v", code, want.state)
		return
	}
	p, blob, x, mid, ok := w.execute(t, s)
	if !ok {
		w.stops++
		return
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s\nprogram: % x\nstart: %v\nexit: %v at %#x (fault address %#x)\n%s", fmt.Sprintf(format, args...),
			code, s, x.Reason, mid.rip, x.FaultAddr, listing(blob, p))
	}
	// Continue natively with the window's memory.
	final := append([]byte(nil), w.native...)
	copy(w.native, w.btc)
	got := w.o.run(t, mid)
	switch {
	case got.sig != want.sig:
		fail("ends with %v, natively with %v", got.sig, want.sig)
	case got.state != want.state:
		fail("state differs:\n%s", diffState(got.state, want.state))
	case !bytes.Equal(w.native, final):
		fail("memory differs at %s", diffBytes(w.native, final))
	}
	// How far it got in BTC: a fault that is not the program's own is right, but slow.
	if x.Reason == machine.ExitFault && !(want.sig != syscall.SIGTRAP && want.rip == mid.rip) {
		w.spurious++
		at := "?"
		if b, i := findInst(p, mid.rip); b != nil {
			at = b.Insts[i].String()
		}
		w.spuriousBy[at]++
	}
}

// execute translates the program at s.rip and runs the translation until it is left; false if there is nothing to enter.
func (w *world) execute(t testing.TB, s state) (p *path.Path, b *btc.Blob, x machine.Exit, out state, ok bool) {
	t.Helper()
	if w.linux != nil {
		return w.executeLinux(t, s)
	}
	p, in, err := w.translate(t, []uint64{s.rip}, nil)
	if err != nil {
		return
	}
	defer w.m.Retire(in)
	c, ok := in.Entry(s.rip)
	if ok {
		x, out = w.enter(c, s)
	}
	return p, in.Blob, x, out, ok
}

func findInst(p *path.Path, rip uint64) (*path.Block, int) {
	for _, b := range p.Blocks {
		for i := range b.Insts {
			if b.Insts[i].Addr == rip {
				return b, i
			}
		}
	}
	return nil, 0
}

var regNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

func (s state) String() string {
	var b strings.Builder
	for i, v := range s.gpr {
		fmt.Fprintf(&b, "%s=%#x ", regNames[i], v)
	}
	fmt.Fprintf(&b, "rip=%#x flags=%#x fs=%#x", s.rip, s.flags, s.fsBase)
	return b.String()
}

func diffState(got, want state) string {
	var b strings.Builder
	for i := range got.gpr {
		if got.gpr[i] != want.gpr[i] {
			fmt.Fprintf(&b, "  %s: %#x, natively %#x\n", regNames[i], got.gpr[i], want.gpr[i])
		}
	}
	if got.rip != want.rip {
		fmt.Fprintf(&b, "  rip: %#x, natively %#x\n", got.rip, want.rip)
	}
	if got.flags != want.flags {
		fmt.Fprintf(&b, "  flags: %#x, natively %#x\n", got.flags, want.flags)
	}
	if got.fsBase != want.fsBase {
		fmt.Fprintf(&b, "  fs: %#x, natively %#x\n", got.fsBase, want.fsBase)
	}
	b.WriteString(got.vec.diff(&want.vec))
	return b.String()
}

func diffBytes(got, want []byte) string {
	for i := range got {
		if got[i] != want[i] {
			j := i &^ 7
			return fmt.Sprintf("data+%#x: % x, natively % x", j, got[j:j+8], want[j:j+8])
		}
	}
	return "nowhere"
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
