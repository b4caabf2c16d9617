package linux

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ub/btc"
)

// fakeDevice is a module that takes everything, unless it is told what to answer.
type fakeDevice struct {
	t         *testing.T
	version   Version
	errors    []error // of the next installations
	taken     map[uint64]*install
	last      *install
	nextID    uint64
	stats     Stats
	controls  []Control
	events    []Event
	end       bool
	asked     int // for Stats
	windows   []window
	windowErr error
	passes    []Passes // of the next window that ends
}

func (d *fakeDevice) Version() (*Version, error) { return &d.version, nil }
func (d *fakeDevice) Enrol(int) error            { return nil }

func (d *fakeDevice) Install(in *install) (uint64, error) {
	d.last = in
	if len(d.errors) > 0 {
		err := d.errors[0]
		d.errors = d.errors[1:]
		if err != nil {
			return 0, err
		}
	}
	d.nextID++
	d.taken[d.nextID] = in
	in.base = arena + d.nextID<<20
	return d.nextID, nil
}

func (d *fakeDevice) Revoke(id uint64) error {
	if d.taken[id] == nil {
		return unix.ENOENT
	}
	delete(d.taken, id)
	return nil
}

func (d *fakeDevice) Control(_ uint32, c Control) (Control, error) {
	d.controls = append(d.controls, c)
	return c, nil
}

func (d *fakeDevice) Stats() (*Stats, error) {
	d.asked++
	s := d.stats
	return &s, nil
}

func (d *fakeDevice) Read(buf []Event, _ time.Duration) (int, error) {
	n := copy(buf, d.events)
	d.events = d.events[n:]
	if n == 0 && d.end {
		return 0, io.EOF
	}
	return n, nil
}

func (d *fakeDevice) Window(w *window, buf []Passes) (int, error) {
	d.windows = append(d.windows, *w)
	if d.windowErr != nil {
		return 0, d.windowErr
	}
	n := 0
	if buf != nil {
		n = copy(buf, d.passes)
	}
	return n, nil
}

func (d *fakeDevice) Close() error { return nil }

// arena is where the fake module puts blobs.
const arena = 0xffffffffc1000000

// fakeMemory is a program's code.
type fakeMemory struct {
	base uint64
	code []byte
}

func (m *fakeMemory) Code() ([]btc.Range, error) {
	return []btc.Range{{Start: m.base, End: m.base + uint64(len(m.code))}}, nil
}

func (m *fakeMemory) ReadAt(b []byte, addr int64) (int, error) {
	off := uint64(addr) - m.base
	if off >= uint64(len(m.code)) {
		return 0, unix.EIO
	}
	return copy(b, m.code[off:]), nil
}

func (m *fakeMemory) Close() error { return nil }

// The program: a loop that makes a system call, and calls through a pointer; far away, what is called.
const (
	base   = 0x401000
	behind = base + 7    // the system call
	branch = base + 9    // call rdx
	callee = base + 4096 // dec rbx; ret
)

func program() *fakeMemory {
	m := &fakeMemory{base: base, code: make([]byte, 3*pageSize)}
	copy(m.code, []byte{
		0xb8, 0x27, 0, 0, 0, // mov eax, 39
		0x0f, 0x05, // syscall
		0xff, 0xc0, // inc eax
		0xff, 0xd2, // call rdx
		0xeb, 0xf3, // jmp base
	})
	copy(m.code[4096:], []byte{0x48, 0xff, 0xcb, 0xc3})
	return m
}

type world struct {
	*Session
	d     *fakeDevice
	clock time.Time
}

func newWorld(t *testing.T) *world {
	d := &fakeDevice{t: t, taken: map[uint64]*install{}, version: Version{
		ABI: ABIVersion, Enabled: 1, Vec: 1, MaxCode: 1 << 20, MaxRelocs: 4096, MaxEntries: 4096, MaxFaults: 1 << 16, MaxDirty: 1 << 16,
		MaxRanges: 4096, MaxSource: 1 << 20, MaxBlobs: 1024,
	}}
	s, err := newSession(1, DefaultConfig(), d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.memory = program()
	w := &world{Session: s, d: d, clock: time.Unix(1000, 0)}
	s.now = func() time.Time { return w.clock }
	return w
}

// feed gives the session events and lets it work.
func (w *world) feed(events ...Event) {
	for i := range events {
		w.event(&events[i])
	}
	for w.step() {
	}
}

func hotEvent(rip, count uint64) Event {
	return Event{Type: EventHot, RIP: rip, NR: 39, Count: count, NS: count * 1000}
}

// miss is a transfer from the program's branch at from, as the module tells of it: by the address of the translated branch.
func (w *world) miss(from, to, count uint64) Event {
	w.d.t.Helper()
	b := w.owner(from)
	if b == nil {
		w.d.t.Fatalf("nobody has translated %#x", from)
	}
	for _, l := range slices.Backward(b.code.Lines) {
		if l.RIP == from {
			return missEvent(b.base+uint64(l.Off), to, count)
		}
	}
	w.d.t.Fatalf("%#x is not among the lines", from)
	return Event{}
}

// missEvent has the native address of the transfer.
func missEvent(from, to, count uint64) Event {
	return Event{Type: EventMiss, RIP: to, From: from, Count: count, NS: 1000}
}

func TestHotSiteIsInstalled(t *testing.T) {
	w := newWorld(t)
	slow := hotEvent(behind, 64)
	slow.NS = 1e9
	w.feed(slow)
	if len(w.d.taken) != 0 {
		t.Fatal("a site that is seldom reached was translated")
	}
	w.feed(hotEvent(behind, 64))
	in := w.d.taken[1]
	if in == nil || !slices.Contains(in.rips(), behind) {
		t.Fatalf("taken: %v", w.d.taken)
	}
	if w.entries[behind] == nil || w.sites[behind].state != Live {
		t.Errorf("site %+v", w.sites[behind])
	}
	n := 0
	for _, r := range in.ranges {
		n += int(r.end - r.start)
	}
	if n != len(in.source) || !slices.Equal(in.source, program().code[:13]) {
		t.Errorf("source %x of %v", in.source, in.ranges)
	}
	w.feed(hotEvent(behind, 64))
	if len(w.d.taken) != 1 || w.d.nextID != 1 {
		t.Error("translated again without a reason")
	}
}

func TestMissExtendsThePath(t *testing.T) {
	w := newWorld(t)
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(branch, callee, 1))
	if w.d.nextID != 1 {
		t.Fatal("a single miss is enough")
	}
	w.feed(w.miss(branch, callee, 3))
	if w.d.nextID != 2 || w.d.taken[1] != nil || len(w.d.taken) != 1 {
		t.Fatalf("the path was not made anew: %v", w.d.taken)
	}
	for _, rip := range []uint64{behind, callee} {
		if w.entries[rip] == nil || w.entries[rip].id != 2 {
			t.Errorf("entry %#x: %+v", rip, w.entries[rip])
		}
	}
	if s := w.sites[callee]; s.state != Free || s.queued {
		t.Errorf("the target: %+v", s)
	}
	if w.bytes != len(w.d.taken[2].code) {
		t.Errorf("%d bytes", w.bytes)
	}
}

func TestFullPathHandsOver(t *testing.T) {
	w := newWorld(t)
	w.config.MaxExtensions = 0
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(branch, callee, 4))
	if len(w.d.taken) != 2 || w.sites[callee].state != Live {
		t.Fatalf("taken %v, site %+v", w.d.taken, w.sites[callee])
	}
	// What the first one has in passing does not displace the entry of a path of its own.
	w.config.MaxExtensions = 10
	w.sites[behind].extended = 0
	w.feed(w.miss(branch, callee, 100))
	if w.entries[callee].root != w.sites[callee] {
		t.Error("the entry was displaced")
	}
}

// TestStack has a path follow a return that only the stack knows.
func TestStack(t *testing.T) {
	w := newWorld(t)
	m := program()
	// A system call in a function; its return address is on the stack, which is where the third page is.
	copy(m.code[4096:], []byte{0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3})
	const site, stack = callee + 7, base + 2*4096
	m.code[2*4096], m.code[2*4096+1], m.code[2*4096+2] = 0x0b, 0x10, 0x40 // behind the call
	w.memory = m
	e := hotEvent(site, 64)
	e.From = stack
	w.feed(e)
	if w.entries[branch+2] == nil {
		t.Errorf("the return was not followed: %v", w.d.last.rips())
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		errors []error
		live   bool
		tried  int
	}{
		{"writable", []error{&InstallError{Errno: unix.EACCES}}, false, 1},
		{"verifier", []error{&InstallError{Errno: unix.ENOEXEC}}, false, 1},
		{"changing", []error{&InstallError{Errno: unix.EAGAIN}, &InstallError{Errno: unix.ESTALE}}, true, 3},
		{"changing for long", []error{&InstallError{Errno: unix.EAGAIN}, &InstallError{Errno: unix.EAGAIN}, &InstallError{Errno: unix.EAGAIN}}, false, 3},
		{"full", []error{&InstallError{Errno: unix.ENOSPC}}, true, 2},
		{"too big", []error{&InstallError{Errno: unix.E2BIG}}, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.d.errors = c.errors
			w.feed(hotEvent(behind, 64))
			s := w.sites[behind]
			if (s.state == Live) != c.live || int(w.counts.Translations) != c.tried {
				t.Fatalf("%+v, %d translations", s, w.counts.Translations)
			}
			if c.live {
				return
			}
			if s.state != Refused || s.why == "" {
				t.Errorf("%+v", s)
			}
			w.feed(hotEvent(behind, 64))
			if int(w.counts.Translations) != c.tried {
				t.Error("tried again at once")
			}
			w.clock = w.clock.Add(w.config.Retry)
			w.feed(hotEvent(behind, 64))
			if s.state != Live {
				t.Error("not tried again")
			}
		})
	}
}

func TestTooBigForTheModule(t *testing.T) {
	w := newWorld(t)
	w.version.MaxSource = 8
	w.feed(hotEvent(behind, 64))
	if s := w.sites[behind]; s.state != Refused || s.shift == 0 || w.d.last != nil {
		t.Errorf("%+v", s)
	}
}

func TestInvalidated(t *testing.T) {
	w := newWorld(t)
	w.feed(hotEvent(behind, 64))
	w.feed(Event{Type: EventInvalid, RIP: 1}, Event{Type: EventInvalid, RIP: 99})
	s := w.sites[behind]
	if s.state != Dropped || w.entries[behind] != nil || len(w.blobs) != 0 || w.bytes != 0 {
		t.Fatalf("%+v", s)
	}
	w.feed(hotEvent(behind, 64))
	if s.state != Dropped {
		t.Error("tried again at once")
	}
	w.clock = w.clock.Add(time.Hour)
	w.feed(hotEvent(behind, 64))
	if s.state != Live {
		t.Error("not tried again")
	}
}

func TestRetired(t *testing.T) {
	w := newWorld(t)
	w.feed(hotEvent(behind, 64))
	w.judge()
	w.d.stats = Stats{Entries: 10000, ExitSyscall: 9000}
	w.feed(Event{Type: EventFault, RIP: behind, Count: 1000})
	w.judge()
	if w.sites[behind].state != Live {
		t.Fatal("code that pays was given up")
	}
	w.d.stats = Stats{Entries: 20000, ExitSyscall: 9500}
	w.feed(Event{Type: EventFault, RIP: behind, Count: 9500})
	w.judge()
	if s := w.sites[behind]; s.state != Retired || len(w.d.taken) != 0 {
		t.Fatalf("code that does not pay was kept: %+v", s)
	}
	if st := w.Status(); len(st.Sites) != 1 || st.Sites[0].State != Retired || st.Counts.Retired != 1 {
		t.Errorf("%+v", st)
	}
}

// TestVectors has a path made with vector instructions only when the program comes to one.
func TestVectors(t *testing.T) {
	w := newWorld(t)
	m := program()
	copy(m.code[9:], []byte{0x66, 0x0f, 0xef, 0xc0, 0xeb, 0xf1}) // pxor xmm0, xmm0; jmp base
	w.memory = m
	w.feed(hotEvent(behind, 64))
	if w.d.last.vec != 0 {
		t.Fatalf("vector level %d", w.d.last.vec)
	}
	w.feed(Event{Type: EventStop, RIP: base + 9, Count: 1})
	if w.d.last.vec != 1 || len(w.d.taken) != 1 || w.sites[behind].exits != 0 {
		t.Errorf("vector level %d, %d blobs", w.d.last.vec, len(w.d.taken))
	}
	// Whoever begins with one.
	w.feed(hotEvent(base+9, 64))
	w.clock = w.clock.Add(time.Hour)
	w.feed(Event{Type: EventInvalid, RIP: w.blobs[0].id}, hotEvent(base+9, 64))
	if s := w.sites[base+9]; s.state != Live {
		t.Errorf("%+v", s)
	}
}

// A target that is missed, and begins with a vector instruction, gets a path of its own that has them: no code would ever stop there, and tell of it.
func TestMissedTargetBeginsWithVectors(t *testing.T) {
	w := newWorld(t)
	m := program()
	copy(m.code[callee-base:], []byte{0x66, 0x0f, 0xef, 0xc0, 0xc3}) // pxor xmm0, xmm0; ret
	w.memory = m
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(branch, callee, 4))
	if w.entries[callee] == nil || w.sites[callee].state != Live || w.d.last.vec != 1 {
		t.Errorf("%+v, vector level %d", w.sites[callee], w.d.last.vec)
	}
	if b := w.sites[behind].blob; b == nil || w.d.taken[b.id] == nil || w.d.taken[b.id].vec != 0 {
		t.Errorf("what calls it: %+v", b)
	}
}

func TestEviction(t *testing.T) {
	w := newWorld(t)
	w.config.MaxBlobs = 1
	w.config.MaxExtensions = 0
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(branch, callee, 4))
	if len(w.d.taken) != 1 || len(w.blobs) != 1 || w.sites[behind].state != Free || w.sites[callee].state != Live {
		t.Errorf("taken %v, sites %+v %+v", w.d.taken, w.sites[behind], w.sites[callee])
	}
}

func TestRunEnds(t *testing.T) {
	w := newWorld(t)
	w.d.events = []Event{hotEvent(behind, 64), {Type: EventGone}}
	w.d.end = true
	if err := w.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(w.d.taken) != 1 {
		t.Error("events before the end were not served")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.d.end = false
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestCodeRanges(t *testing.T) {
	got := codeRanges([]byte(`00400000-00401000 r--p 00000000 08:01 1 /bin/with space
00401000-00402000 r-xp 00001000 08:01 1 /bin/with space
00402000-00403000 r-xp 00002000 08:01 1 /bin/with space
00500000-00501000 rwxp 00000000 00:00 0
00600000-00601000 r-xs 00000000 08:01 2 /dev/shm/x
00700000-00701000 r-xp 00000000 00:00 0
7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
`))
	want := []btc.Range{{Start: 0x401000, End: 0x403000}, {Start: 0x700000, End: 0x701000}, {Start: 0x7ffff7fc1000, End: 0x7ffff7fc3000}}
	if !slices.Equal(got, want) {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestTune(t *testing.T) {
	c := DefaultConfig()
	for _, s := range []string{"hot-count=7", "min-rate=12", "max-path-insts=99", "retry-ms=250", "max-loss-percent=40", "guard=0"} {
		if err := c.Tune(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	if c.HotCount != 7 || c.MinRate != 12 || c.Limits.MaxInsts != 99 || c.Retry != 250*time.Millisecond || c.MaxLossPercent != 40 || c.Guard {
		t.Errorf("%+v", c)
	}
	for s, want := range map[string]string{
		"hot-count":            "NAME=NUMBER",
		"hot-count=4294967296": "is no number from 0 to",
		"hot-count=1x":         "is no number",
		"hot-count=0":          "must be at least 1",
		"max-loss-percent=101": "percentage",
		"speed=1":              "no parameter",
	} {
		c := DefaultConfig()
		if err := c.Tune(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
}

// While there is much to translate, counters are read and judged all the same.
func TestRunJudgesWhileItTranslates(t *testing.T) {
	const sites = 40
	w := newWorld(t)
	w.config.MinRate = 0
	m := program()
	for i := range uint64(sites) {
		copy(m.code[4096+32*i:], []byte{0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xff, 0xc0, 0xc3}) // mov eax, 39; syscall; inc eax; ret
		w.d.events = append(w.d.events, hotEvent(callee+32*i+7, 64))
	}
	w.memory = m
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := 0 // how often they had been read when half of it was done
	w.now = func() time.Time {
		if w.d.nextID == sites/2 && first == 0 {
			first = w.d.asked
		}
		if w.clock = w.clock.Add(20 * time.Millisecond); w.d.nextID == sites || w.clock.Year() > 1970 {
			cancel()
		}
		return w.clock
	}
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if w.d.nextID != sites || first < 3 || w.d.asked < 2*first {
		t.Errorf("%d blobs; the counters were read %d times, %d when half of them were there", w.d.nextID, w.d.asked, first)
	}
}
