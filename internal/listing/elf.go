package listing

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Program is an ELF file's code, as a path.CodeReader at the file's own (link-time) addresses.
type Program struct {
	f    *elf.File
	segs []*elf.Prog
}

// OpenProgram opens an x86-64 ELF executable or shared library.
func OpenProgram(name string) (*Program, error) {
	f, err := elf.Open(name)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) {
			return nil, fmt.Errorf("%s is not an ELF file (%w): give a program or a shared library", name, err)
		}
		return nil, err
	}
	if f.Machine != elf.EM_X86_64 {
		f.Close()
		return nil, fmt.Errorf("%s is for %v, not for x86-64", name, f.Machine)
	}
	p := &Program{f: f}
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD && s.Flags&elf.PF_X != 0 {
			p.segs = append(p.segs, s)
		}
	}
	return p, nil
}

// Close closes the file.
func (p *Program) Close() error { return p.f.Close() }

// ReadCode implements path.CodeReader.
func (p *Program) ReadCode(addr uint64, dst []byte) (int, error) {
	for _, s := range p.segs {
		if addr >= s.Vaddr && addr < s.Vaddr+s.Filesz {
			n := min(uint64(len(dst)), s.Vaddr+s.Filesz-addr)
			return s.ReadAt(dst[:n], int64(addr-s.Vaddr))
		}
	}
	return 0, io.EOF
}

// Resolve turns an address (0x..., or decimal), a symbol or symbol+offset into an address in executable code.
func (p *Program) Resolve(what string) (uint64, error) {
	addr, err := p.resolve(what)
	if err != nil {
		return 0, err
	}
	var b [1]byte
	if n, _ := p.ReadCode(addr, b[:]); n == 0 {
		return 0, fmt.Errorf("%s is %#x, where there is no executable code in the file", what, addr)
	}
	return addr, nil
}

func (p *Program) resolve(what string) (uint64, error) {
	if a, err := strconv.ParseUint(what, 0, 64); err == nil {
		return a, nil
	}
	name, off := what, uint64(0)
	if i := strings.LastIndexByte(what, '+'); i > 0 {
		if o, err := strconv.ParseUint(what[i+1:], 0, 64); err == nil {
			name, off = what[:i], o
		}
	}
	if name == "_start" {
		return p.f.Entry + off, nil
	}
	static, err1 := p.f.Symbols()
	dynamic, err2 := p.f.DynamicSymbols()
	for _, s := range append(static, dynamic...) {
		if s.Name == name && s.Section != elf.SHN_UNDEF {
			return s.Value + off, nil
		}
	}
	if err1 != nil && err2 != nil {
		return 0, fmt.Errorf("the file has no symbols, so %q is unknown: give an address, or _start", what)
	}
	return 0, fmt.Errorf("no symbol %q in the file: give an address, or a name that `nm` or `nm -D` lists", name)
}
