package profile

import (
	"os"
	"strings"
	"testing"
)

func TestParseMaps(t *testing.T) {
	const text = `55d0c0000000-55d0c0001000 r--p 00000000 fe:00 77 /usr/bin/a program
55d0c0001000-55d0c0003000 r-xp 00001000 fe:00 77                         /usr/bin/a program (deleted)
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
`
	s := addressSpace{maps: parseMaps([]byte(text))}
	for _, c := range []struct {
		addr uint64
		path string
		ok   bool
	}{
		{0x55d0c0000000, "", false}, // not executable
		{0x55d0c0001000, "/usr/bin/a program", true},
		{0x55d0c0002fff, "/usr/bin/a program", true},
		{0x55d0c0003000, "", false},
		{0x7f0000000800, "", true},
		{0x7ffd00000001, "[vdso]", true},
		{0xffffffffffff, "", false},
	} {
		m, ok := s.find(c.addr)
		if ok != c.ok || m.path != c.path {
			t.Errorf("%#x: %q, %v", c.addr, m.path, ok)
		}
	}
}

func TestSymbols(t *testing.T) {
	b := binary{symbols: []symbol{
		{0x100, 0x80, "outer"}, {0x110, 0x10, "inner"}, {0x200, 0x10, "read"}, {0x200, 0x10, "__read"}, {0x300, 0, "assembly"},
	}}
	for _, c := range []struct {
		addr   uint64
		name   string
		offset uint64
	}{{0xff, "", 0}, {0x100, "outer", 0}, {0x11f, "inner", 0xf}, {0x120, "outer", 0x20}, {0x17f, "outer", 0x7f}, {0x180, "", 0},
		{0x20f, "read", 0xf}, {0x210, "", 0}, {0x310, "assembly", 0x10}} {
		if name, offset := b.name(c.addr); name != c.name || offset != c.offset {
			t.Errorf("%#x: %s+%#x, want %s+%#x", c.addr, name, offset, c.name, c.offset)
		}
	}
	for _, pair := range [][2]string{{"read", "__read"}, {"__read", "___read"}, {"a", "ab"}, {"a", "b"}} {
		if !better(pair[0], pair[1]) || better(pair[1], pair[0]) {
			t.Errorf("%s is the better name for %s", pair[0], pair[1])
		}
	}
}

// TestOwnBinary finds a function of this program by its address.
func TestOwnBinary(t *testing.T) {
	s, err := readMaps(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.maps {
		if !strings.HasPrefix(m.path, "/") {
			continue
		}
		b, err := openBinary(s.files(m))
		if err != nil {
			t.Errorf("%+v: %v", m, err)
			continue
		}
		if len(b.loads) == 0 {
			t.Errorf("%s: %d segments", m.path, len(b.loads))
		}
	}
	if _, err := openBinary([]string{"/no/such/file", "symbolize_test.go"}); err == nil {
		t.Error("this is an ELF file?")
	}
}

func TestSyscallNames(t *testing.T) {
	for nr, want := range map[uint32]string{0: "read", 231: "exit_group", 435: "clone3", 1023: "syscall_1023", ^uint32(0): "(signal)"} {
		if got := syscallName(nr); got != want {
			t.Errorf("%d: %s, want %s", nr, got, want)
		}
	}
}
