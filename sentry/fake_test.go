package sentry

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/cpuid"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
)

func TestMain(m *testing.M) {
	cpuid.Initialize()
	os.Exit(m.Run())
}

// world is an engine with everything around it faked: it logs what is done to the mirror, to systrap's address spaces and
// to the arena, in order.
type world struct {
	t *testing.T
	e *engine
	p *Platform

	mu          sync.Mutex
	log         []string
	memory      map[uint64]byte // what every program sees, by address
	windows     int             // free ones
	mapErr      error           // of window.Map
	unmapErr    error           // of window.Unmap
	installErr  error
	source      []btc.Range // of the next blobs
	entries     []uint64    // further entries of the next blobs
	beforeRead  func()      // called once, before a read of the mirror that follows translation
	translated  int
	bad         uint64   // an entry that cannot be translated
	full        bool     // the next blobs go on beyond their limits
	ids         []fileID // files of the next blobs' sources
	fileOfCalls int
	hints       path.Hints // given to the last translation
	stacks      path.Stacks
	order       path.Order // of the last translation
}

func newWorld(t *testing.T, change func(*statfile.Config)) *world {
	t.Helper()
	c := statfile.DefaultConfig()
	c.MinShort, c.SampleEvery, c.SampleMax, c.MinRate, c.Controller = 4, 1, 1, 0, 0
	if change != nil {
		change(&c)
	}
	stats, err := statfile.Private(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stats.Unmap() })
	w := &world{t: t, windows: 24, memory: map[uint64]byte{}}
	w.e = newEngine(w, c, stats)
	w.e.translate = w.translate
	w.e.fileOf = func(_ pkgcontext.Context, fd int32) (fileID, bool) {
		w.fileOfCalls++
		return fileID{1, uint64(fd)}, fd >= 10
	}
	w.e.sourceFiles = func(*blob) ([]fileID, bool) { return w.ids, true }
	w.p = &Platform{config: c, stats: stats, counters: stats.Counters(), engine: w.e}
	w.e.policy.TranslatePercent = 0
	w.e.policy.Short, w.e.policy.Window = 1<<60, 1<<60 // whatever the machine's load
	return w
}

func (w *world) logf(f string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(f, a...))
}

// take returns the log so far and empties it.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.log
	w.log = nil
	return l
}

func (w *world) want(what string, want ...string) {
	w.t.Helper()
	got := w.take()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func (w *world) count(c statfile.Counter) int { return int(w.e.counters[c].Load()) }

func (w *world) wantCount(c statfile.Counter, want int) {
	w.t.Helper()
	if got := w.count(c); got != want {
		w.t.Errorf("counter %s is %d, want %d", c.Name(), got, want)
	}
}

// run lets the worker serve what is queued.
func (w *world) run() {
	for w.e.step() {
	}
}

func (w *world) space() *addressSpace { return w.e.newSpace(&fakeSpace{w: w}) }

// translate makes a one-byte blob of entries, after reading the source as the real translator does.
func (w *world) translate(r path.CodeReader, o path.Order) (*btc.Blob, bool, error) {
	entries := o.Entries
	w.translated++
	if w.bad != 0 && slices.Contains(entries, w.bad) {
		return nil, false, errors.New("not translatable")
	}
	w.hints, w.stacks, w.order = o.Hints, o.Stacks, o
	source := w.source
	if source == nil {
		source = []btc.Range{{Start: entries[0], End: entries[0] + 16}}
	}
	b := &btc.Blob{Code: []byte{0xcc}, Source: source}
	for _, s := range source {
		buf := make([]byte, s.End-s.Start)
		if n, _ := r.ReadCode(s.Start, buf); n < len(buf) {
			return nil, false, errors.New("source is not readable code")
		}
	}
	for _, rip := range append(append([]uint64{}, entries...), w.entries...) {
		b.Entries = append(b.Entries, btc.Entry{RIP: rip})
	}
	for i := range b.Entries { // sorted, as the contract says
		for j := i; j > 0 && b.Entries[j-1].RIP > b.Entries[j].RIP; j-- {
			b.Entries[j-1], b.Entries[j] = b.Entries[j], b.Entries[j-1]
		}
	}
	if w.beforeRead != nil {
		defer func() { w.beforeRead(); w.beforeRead = nil }()
	}
	return b, w.full, nil
}

// world is an arena.

func (w *world) NewWindow() (window, *machine.Window, error) {
	if w.windows == 0 {
		return nil, nil, machine.ErrNoWindow
	}
	w.windows--
	return &fakeWindow{w: w}, new(machine.Window), nil
}

func (w *world) Install(b *btc.Blob) (*machine.Installed, error) {
	if w.installErr != nil {
		err := w.installErr
		w.installErr = nil
		return nil, err
	}
	return &machine.Installed{Blob: b}, nil
}

func (w *world) Retire(in ...*machine.Installed) {
	for _, i := range in {
		w.logf("retire %x", i.Blob.Entries[0].RIP)
	}
}

func (w *world) Bytes(i *machine.Installed) []byte { return i.Blob.Code }

type fakeWindow struct{ w *world }

func (f *fakeWindow) Map(addr, length uint64, fd int, off int64, read, write bool) error {
	if f.w.mapErr != nil {
		return f.w.mapErr
	}
	f.w.logf("mirror %x+%x", addr, length)
	return nil
}

func (f *fakeWindow) Unmap(addr, length uint64) error {
	if f.w.unmapErr != nil {
		return f.w.unmapErr
	}
	f.w.logf("unmirror %x+%x", addr, length)
	return nil
}

func (f *fakeWindow) Read(addr uint64, dst []byte) (int, error) {
	for i := range dst {
		dst[i] = f.w.memory[addr+uint64(i)]
	}
	return len(dst), nil
}

func (f *fakeWindow) Expel() { f.w.logf("expel") }

func (f *fakeWindow) Release() {
	f.w.logf("release window")
	f.w.windows++
}

// fakeSpace is systrap's address space.
type fakeSpace struct {
	platform.NoAddressSpaceIO
	w   *world
	err error
}

func (s *fakeSpace) MapFile(addr hostarch.Addr, f memmap.File, fr memmap.FileRange, at hostarch.AccessType, precommit bool) error {
	s.w.logf("map %x+%x", uint64(addr), fr.Length())
	return s.err
}
func (s *fakeSpace) Unmap(addr hostarch.Addr, length uint64) {
	s.w.logf("unmap %x+%x", uint64(addr), length)
}
func (s *fakeSpace) Release()  { s.w.logf("release space") }
func (s *fakeSpace) PreFork()  { s.w.logf("prefork") }
func (s *fakeSpace) PostFork() { s.w.logf("postfork") }

func (f *fakeFile) DataFD(memmap.FileRange) (int, error) { return 7, nil }

var (
	rx = hostarch.AccessType{Read: true, Execute: true}
	ro = hostarch.AccessType{Read: true}
	rw = hostarch.AccessType{Read: true, Write: true}
)

// mapAt maps length bytes of f from offset off at addr.
func mapAt(t *testing.T, as *addressSpace, addr, length uint64, f memmap.File, off uint64, at hostarch.AccessType) {
	t.Helper()
	if err := as.MapFile(hostarch.Addr(addr), f, memmap.FileRange{Start: off, End: off + length}, at, false); err != nil {
		t.Fatal(err)
	}
}

// hotSite makes an address space with code at 0x1000 to 0x3000, from offset 0x10000 of a file, whose entry 0x1100 is live.
func hotSite(t *testing.T, w *world) (*addressSpace, *fakeFile) {
	t.Helper()
	as, f := w.space(), &fakeFile{name: "text"}
	mapAt(t, as, 0x1000, 0x2000, f, 0x10000, rx)
	w.e.nominate(as, 0x1100, nil)
	w.run()
	if !live(as, 0x1100) {
		t.Fatal("the site did not become live")
	}
	w.take()
	return as, f
}

func live(as *addressSpace, rip uint64) bool {
	t := as.entries.Load()
	if t == nil {
		return false
	}
	_, ok := t.entries[rip]
	return ok
}

func (w *world) poke(addr uint64, code []byte) {
	for i, b := range code {
		w.memory[addr+uint64(i)] = b
	}
}

func noStack() []uint64 { return nil }
