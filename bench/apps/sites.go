package apps

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"

	"ub/sentry/statfile"
)

// libcPath is the library that makes nearly all system calls of the servers.
const libcPath = "/lib/x86_64-linux-gnu/libc.so.6"

// Symbols names addresses of a program's C library, whose place in memory nobody tells: it is where most of the sites are
// behind a syscall instruction.
type Symbols struct {
	sites map[uint64]bool // addresses behind syscall instructions, as in the file
	funcs []elf.Symbol    // sorted by Value

	textAt uint64 // the library's code, in the file's addresses
	text   []byte

	program string // the same of the program, if it is known
	progAt  uint64
	prog    []byte
}

// LibcSymbols reads the C library.
func LibcSymbols() (*Symbols, error) {
	f, err := elf.Open(libcPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := f.Section(".text")
	if text == nil {
		return nil, fmt.Errorf("%s has no section .text", libcPath)
	}
	code, err := text.Data()
	if err != nil {
		return nil, err
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	return newSymbols(text.Addr, code, syms), nil
}

func newSymbols(addr uint64, code []byte, syms []elf.Symbol) *Symbols {
	s := &Symbols{sites: map[uint64]bool{}, textAt: addr, text: code}
	for i := 0; ; {
		k := bytes.Index(code[i:], []byte{0x0f, 0x05})
		if k < 0 {
			break
		}
		i += k + 2
		s.sites[addr+uint64(i)] = true
	}
	for _, y := range syms {
		if t := elf.ST_TYPE(y.Info); (t == elf.STT_FUNC || t == elf.STT_GNU_IFUNC) && y.Section != elf.SHN_UNDEF {
			s.funcs = append(s.funcs, y)
		}
	}
	slices.SortStableFunc(s.funcs, func(a, b elf.Symbol) int {
		// Of the names of one function the shortest, which is that of the manual.
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(len(b.Name), len(a.Name)))
	})
	return s
}

// Base guesses where the library is, from addresses of which most are behind system calls in it. 0: nowhere.
func (s *Symbols) Base(addrs []uint64) uint64 {
	votes := map[uint64]int{}
	for _, a := range addrs {
		for site := range s.sites {
			if b := a - site; a > site && b%4096 == 0 {
				votes[b]++
			}
		}
	}
	best, n := uint64(0), 0
	for b, v := range votes {
		if v > n || v == n && b < best {
			best, n = b, v
		}
	}
	return best
}

// Name names an address of a library that is at base.
func (s *Symbols) Name(base, addr uint64) string {
	off := addr - base
	i := sort.Search(len(s.funcs), func(i int) bool { return s.funcs[i].Value > off })
	if base == 0 || addr < base || i == 0 || off >= s.funcs[i-1].Value+max(s.funcs[i-1].Size, 1) {
		return fmt.Sprintf("%#x", addr)
	}
	return fmt.Sprintf("%s+%#x", s.funcs[i-1].Name, off-s.funcs[i-1].Value)
}

// NamedSite is a site with a name, and what it counted in an interval.
type NamedSite struct {
	Name                               string
	Stops                              []Stop // at which the newest translation ends
	State                              string
	Space                              uint32
	Entered, Bypassed, Misses, Stopped uint64
	Translations, CodeBytes            uint64
}

// Sites returns what sites have counted between two looks at them, most often entered first.
func (s *Symbols) Sites(before, after []statfile.Site, blobs []statfile.Blob) []NamedSite {
	type key struct {
		space uint32
		entry uint64
	}
	old := map[key]statfile.Site{}
	for _, v := range before {
		old[key{v.Space, v.Entry}] = v
	}
	bySpace := map[uint32][]uint64{}
	for _, v := range after {
		bySpace[v.Space] = append(bySpace[v.Space], v.Entry)
	}
	base := map[uint32]uint64{}
	for sp, a := range bySpace {
		base[sp] = s.Base(a)
	}
	var out []NamedSite
	for _, v := range after {
		o := old[key{v.Space, v.Entry}]
		out = append(out, NamedSite{
			Name: s.Name(base[v.Space], v.Entry), State: v.State.String(), Space: v.Space,
			Entered: v.Entered - o.Entered, Bypassed: v.Bypassed - o.Bypassed, Misses: v.Misses - o.Misses, Stopped: v.Stops - o.Stops,
			Translations: v.Translations, CodeBytes: v.CodeBytes,
			Stops: s.Stops(blobs, v.Space, v.Entry, base[v.Space]),
		})
	}
	slices.SortStableFunc(out, func(a, b NamedSite) int {
		return cmp.Or(cmp.Compare(b.Entered, a.Entered), cmp.Compare(a.Name, b.Name))
	})
	return out
}
