package statfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func create(t *testing.T, c Config) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stat")
	s, err := Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Unmap() })
	return s, path
}

// A second mapping stands for the other process.
func TestConfigAndCountersAreShared(t *testing.T) {
	c := DefaultConfig()
	c.Bypass = 0
	c.ShortGapNS = 1234
	c.Journal = 0
	a, path := create(t, c)
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unmap()
	if got, err := b.Config(); err != nil || got != c {
		t.Errorf("Config() = %+v, %v; want %+v", got, err, c)
	}
	b.Counters().Add(Bypassed, 7)
	b.Counters().Add(BlobsLive, 3)
	b.Counters().Add(BlobsLive, -1)
	n := a.Snapshot()
	if n[Bypassed] != 7 || n[BlobsLive] != 2 || n.Syscalls() != 7 {
		t.Errorf("snapshot %v", n)
	}
	want := Site{Entry: 0x401000, Space: 3, State: Live, Entered: 5, Bypassed: 4, Misses: 1, Stops: 2, Translations: 6, CodeBytes: 99}
	b.SetSite(NumSites-1, want)
	if got := a.Sites(); len(got) != 1 || got[0] != want {
		t.Errorf("Sites() = %+v, want [%+v]", got, want)
	}
}

func TestGapsAndThreadsAreShared(t *testing.T) {
	a, path := create(t, DefaultConfig())
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unmap()
	g := Gap{
		Site: 0x401000, Caller: 0x402000, Space: 3, State: 2, Why: 1, Level: 2, Pairs: 24, Setbacks: 65535, Extensions: 1 << 30,
		Entered: 1, Bypassed: 2, Misses: 3, Stops: 4, PayoffNS: -5, BaseNS: 6, ActiveNS: 7,
	}
	for i := range g.Hist {
		g.Hist[i] = uint32(i) << 27
	}
	th := Thread{TID: 7, Space: 9, Native: 1, Bypassed: 2, Sampled: 3, SampleEvery: 512, Busy: true}
	for _, i := range []int{0, NumGaps - 1} {
		b.SetGap(i, g)
	}
	for _, i := range []int{0, NumThreads - 1} {
		b.SetThread(i, th)
	}
	if got := a.Gaps(); len(got) != 2 || got[0] != g || got[1] != g {
		t.Errorf("Gaps() = %+v, want %+v twice", got, g)
	}
	if got := a.Threads(); len(got) != 2 || got[0] != th || got[1] != th {
		t.Errorf("Threads() = %+v, want %+v twice", got, th)
	}
	b.SetThread(0, Thread{})
	if n := len(a.Threads()); n != 1 || len(a.Blobs()) != 0 || len(a.Sites()) != 0 {
		t.Errorf("%d threads after one was freed, or another section was written to", n)
	}
}

func TestEveryCounterHasAName(t *testing.T) {
	seen := map[string]bool{}
	for c := Counter(0); c < NumCounters; c++ {
		n := c.Name()
		if n == "" || n == "?" || seen[n] {
			t.Errorf("counter %d has the name %q", c, n)
		}
		seen[n] = true
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tc := range []struct{ path, want string }{
		{write("empty", nil), "cannot read its header"},
		{write("other", make([]byte, Size)), "wrong magic number"},
		{"/dev/zero", "no regular file"},
	} {
		_, err := Open(tc.path)
		if !errors.Is(err, ErrNotStatFile) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Open(%s) = %v, want %q", tc.path, err, tc.want)
		}
	}
	_, path := create(t, DefaultConfig())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(write("short", data[:Size-4096])); !errors.Is(err, ErrNotStatFile) {
		t.Errorf("truncated file: %v", err)
	}
	data[8] = 77
	if _, err := Open(write("version", data)); err == nil || !strings.Contains(err.Error(), "version 77") {
		t.Errorf("other version: %v", err)
	}
	data[8] = Version
	data[configOff] = 9
	s, err := Open(write("config", data))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unmap()
	if _, err := s.Config(); err == nil || !strings.Contains(err.Error(), "Bypass is 9") {
		t.Errorf("bad configuration: %v", err)
	}
}

func blob(i, size int) *Blob {
	return &Blob{
		Space: uint32(i), Base: 0x7000 + uint64(i),
		Entries: []Entry{{RIP: uint64(i) << 4, Off: uint32(i)}, {RIP: 1}},
		Lines:   []Entry{{RIP: uint64(i) * 5, Off: uint32(i)}},
		Sources: []Source{{Addr: uint64(i) * 3, Code: bytes.Repeat([]byte{byte(i)}, size%100)}},
		Code:    bytes.Repeat([]byte{byte(i)}, size),
	}
}

func equal(a, b *Blob) bool { return bytes.Equal(encodeBlob(a), encodeBlob(b)) }

func TestJournalKeepsTheNewest(t *testing.T) {
	s, path := create(t, DefaultConfig())
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Unmap()
	total := 0
	for i := 1; total < 5*JournalSize; i++ {
		size := (i * 7919) % 60000
		total += size
		if !s.AppendBlob(blob(i, size)) {
			t.Fatalf("record %d of %d bytes refused", i, size)
		}
		got := r.Blobs()
		if len(got) == 0 {
			t.Fatalf("no record after %d", i)
		}
		kept := 0
		for k := range got {
			n := i - len(got) + 1 + k
			if !equal(&got[k], blob(n, (n*7919)%60000)) {
				t.Fatalf("after %d: record %d of %d is not number %d", i, k, len(got), n)
			}
			kept += len(got[k].Code)
		}
		if len(got) < i && kept < JournalSize/2 {
			t.Fatalf("after %d: only %d bytes kept", i, kept)
		}
	}
	if s.AppendBlob(blob(1, maxRecord)) {
		t.Error("a record beyond the limit was accepted")
	}
}

// The sandbox may write anything into the journal: the reader must neither crash nor loop.
func TestJournalSurvivesDamage(t *testing.T) {
	s, _ := create(t, DefaultConfig())
	for i := range 40 {
		s.AppendBlob(blob(i, 300))
	}
	if n := len(s.Blobs()); n != 40 {
		t.Fatalf("%d records, want 40", n)
	}
	ring := s.mem[ringOff : ringOff+JournalSize]
	for pos := 0; pos < 4000; pos += 23 {
		old := ring[pos]
		for _, v := range []byte{0, 1, 7, 8, 0x80, 0xff} {
			ring[pos] = v
			s.Blobs()
		}
		ring[pos] = old
	}
	for _, v := range []uint64{1, 8, JournalSize, 1 << 63, ^uint64(0)} {
		for w := range 2 {
			words := s.journalWords()
			old := words[w].Load()
			words[w].Store(v)
			s.Blobs()
			words[w].Store(old)
		}
	}
}
