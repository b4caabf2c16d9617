package btc_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/target"
)

var update = flag.Bool("update", false, "rewrite the golden listings")

// function is machine code at its address.
type function struct {
	addr    uint64
	code    []byte
	entries []uint64
	hints   path.Hints
}

func (f function) ReadCode(addr uint64, dst []byte) (int, error) {
	if addr < f.addr || addr >= f.addr+uint64(len(f.code)) {
		return 0, fmt.Errorf("no code at %#x", addr)
	}
	return copy(dst, f.code[addr-f.addr:]), nil
}

// readFunctions reads testdata/functions.txt: "name address [entry...]", lines of hex with comments, and
// "hint branch target...".
func readFunctions(t testing.TB) map[string]function {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "functions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]function{}
	name := ""
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		num := func(s string) uint64 {
			var v uint64
			if _, err := fmt.Sscanf(s, "0x%x", &v); err != nil {
				t.Fatalf("functions.txt:%d: %q is no address", i+1, s)
			}
			return v
		}
		f := out[name]
		switch {
		case fields[0] == "func":
			name = fields[1]
			f = function{addr: num(fields[2]), hints: path.Hints{}}
			for _, e := range fields[3:] {
				f.entries = append(f.entries, num(e))
			}
			if len(f.entries) == 0 {
				f.entries = []uint64{f.addr}
			}
		case fields[0] == "hint":
			for _, h := range fields[2:] {
				f.hints[num(fields[1])] = append(f.hints[num(fields[1])], num(h))
			}
		default:
			c, err := hex.DecodeString(strings.Join(fields, ""))
			if err != nil {
				t.Fatalf("functions.txt:%d: %v", i+1, err)
			}
			f.code = append(f.code, c...)
		}
		out[name] = f
	}
	return out
}

func (f function) translate(t testing.TB, o btc.Options) (*path.Path, *btc.Blob) {
	t.Helper()
	p, err := path.Discover(f.entries, f, f.hints, path.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := btc.Translate(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, b
}

// TestGolden pins the bytes and text of the translation of a few functions, so that every change of the code that comes
// out is seen and judged.
func TestGolden(t *testing.T) {
	functions := readFunctions(t)
	type golden struct {
		function
		kernel target.Kernel
	}
	all := map[string]golden{}
	for name, f := range functions {
		all[name] = golden{f, target.Sentry}
	}
	for _, name := range []string{"keep", "walk", "switch", "odd", "list"} {
		all[name+"_linux"] = golden{functions[name], target.Linux}
	}
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			p, b := f.translate(t, btc.Options{Kernel: f.kernel})
			if err := btc.CheckAtomicity(b, p); err != nil {
				t.Error(err)
			}
			got := []byte(listing(b, p))
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (made by -update)", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; judge it, then use -update. Now:\n%s", golden, got)
			}
		})
	}
}

// TestDeterministic: same path, same blob.
func TestDeterministic(t *testing.T) {
	for name, f := range readFunctions(t) {
		_, a := f.translate(t, btc.Options{})
		for range 3 {
			if _, b := f.translate(t, btc.Options{}); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: two translations differ", name)
			}
		}
	}
	for seed := range uint64(200) {
		g := newGen(seed)
		f := function{addr: g.base, code: g.program(12), entries: []uint64{g.base}}
		p, err := path.Discover(f.entries, f, nil, path.Limits{})
		if err != nil {
			continue
		}
		a, errA := btc.Translate(p, btc.Options{})
		b, errB := btc.Translate(p, btc.Options{})
		if !reflect.DeepEqual(a, b) || (errA == nil) != (errB == nil) {
			t.Errorf("seed %d: two translations differ", seed)
		}
	}
}

// TestTables checks what the runtime relies on in a blob's tables.
func TestTables(t *testing.T) {
	for name, f := range readFunctions(t) {
		p, b := f.translate(t, btc.Options{})
		sorted := sort.SliceIsSorted(b.Faults, func(i, j int) bool { return b.Faults[i].Off < b.Faults[j].Off }) &&
			sort.SliceIsSorted(b.Lines, func(i, j int) bool { return b.Lines[i].Off < b.Lines[j].Off }) &&
			sort.SliceIsSorted(b.Relocs, func(i, j int) bool { return b.Relocs[i].Off < b.Relocs[j].Off }) &&
			sort.SliceIsSorted(b.Entries, func(i, j int) bool { return b.Entries[i].RIP < b.Entries[j].RIP })
		if !sorted {
			t.Errorf("%s: a table is not sorted", name)
		}
		for _, e := range f.entries {
			if off, ok := b.EntryAt(e); !ok || int(off) >= len(b.Code) {
				t.Errorf("%s: entry %#x is missing", name, e)
			}
		}
		if _, ok := b.EntryAt(1); ok {
			t.Errorf("%s: an entry that is none", name)
		}
		for _, blk := range p.Blocks {
			for i := range blk.Insts {
				in := &blk.Insts[i]
				covered := false
				for _, s := range b.Source {
					covered = covered || s.Start <= in.Addr && in.Addr+uint64(in.Len) <= s.End
				}
				if !covered {
					t.Errorf("%s: the bytes at %#x are not in Source", name, in.Addr)
				}
			}
		}
		for _, fault := range b.Faults {
			if rip, ok := b.RIPAt(fault.Off); !ok || rip != fault.RIP && fault.Kind != btc.FaultPoll {
				t.Errorf("%s: fault at %#x resumes at %#x, but its line is %#x", name, fault.Off, fault.RIP, rip)
			}
		}
	}
}
