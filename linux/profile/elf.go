package profile

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
)

// binary is what is known of an ELF file.
type binary struct {
	buildID string
	loads   []elf.ProgHeader
	symbols []symbol // by address
}

type symbol struct {
	addr, size uint64
	name       string
}

// openBinary reads the first of files that can be opened.
func openBinary(files []string) (*binary, error) {
	var errs []error
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			continue
		}
		return readBinary(f)
	}
	return nil, errors.Join(errs...)
}

func readBinary(f *os.File) (*binary, error) {
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	b := &binary{}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD {
			b.loads = append(b.loads, p.ProgHeader)
		}
	}
	if s := e.Section(".note.gnu.build-id"); s != nil {
		if d, err := s.Data(); err == nil && len(d) > 16 {
			b.buildID = hex.EncodeToString(d[16:])
		}
	}
	// Either table may be absent: a stripped program has at most the names it shares with others.
	full, _ := e.Symbols()
	dynamic, _ := e.DynamicSymbols()
	for _, s := range append(full, dynamic...) {
		t := elf.ST_TYPE(s.Info)
		if (t == elf.STT_FUNC || t == elf.STT_GNU_IFUNC || t == elf.STT_NOTYPE) && s.Section != elf.SHN_UNDEF && s.Value != 0 && s.Name != "" {
			if t == elf.STT_NOTYPE && s.Size == 0 && strings.HasPrefix(s.Name, "$") {
				continue
			}
			b.symbols = append(b.symbols, symbol{s.Value, s.Size, s.Name})
		}
	}
	sort.SliceStable(b.symbols, func(i, j int) bool {
		x, y := b.symbols[i], b.symbols[j]
		if x.addr != y.addr {
			return x.addr < y.addr
		}
		return better(x.name, y.name)
	})
	return b, nil
}

// better orders the names of one address: read before __read before __GI___read.
func better(a, b string) bool {
	ua, ub := len(a)-len(strings.TrimLeft(a, "_")), len(b)-len(strings.TrimLeft(b, "_"))
	if ua != ub {
		return ua < ub
	}
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// address returns the address in the file's own terms of what is at an offset of the file.
func (b *binary) address(offset uint64) uint64 {
	for _, p := range b.loads {
		if offset >= p.Off && offset < p.Off+p.Filesz {
			return offset - p.Off + p.Vaddr
		}
	}
	return offset
}

// name returns the function that addr is in and how far inside. Between functions there is no name: the one before, of
// code that was stripped, would mislead.
func (b *binary) name(addr uint64) (string, uint64) {
	i := sort.Search(len(b.symbols), func(i int) bool { return b.symbols[i].addr > addr })
	// Functions can be nested in larger ones, so one that ends before addr is not the end of the search.
	for n := 0; i > 0 && n < 16; n++ {
		s := b.symbols[i-1]
		// The first of an address is the best name of it.
		first := sort.Search(i, func(k int) bool { return b.symbols[k].addr >= s.addr })
		for _, c := range b.symbols[first:i] {
			// Assembly code often comes without a size.
			if addr < c.addr+c.size || c.size == 0 && n == 0 && allUnsized(b.symbols[first:i]) {
				return c.name, addr - c.addr
			}
		}
		i = first
	}
	return "", 0
}

func allUnsized(s []symbol) bool {
	for _, c := range s {
		if c.size != 0 {
			return false
		}
	}
	return true
}
