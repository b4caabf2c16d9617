package profile

import (
	"fmt"
	"path/filepath"
)

// Place is an address of a program. It is comparable: the same code in two processes is the same place.
type Place struct {
	// File is the program or library, "[vdso]" and the like, or the name of the program if its mappings could not be read.
	File string `json:"file"`
	// Address is in the file's own terms, as objdump, nm and `ub disasm` show it. If Raw, it is the one in memory, or only
	// its last 12 bits, when the process ended before more could be found out.
	Address uint64 `json:"address"`
	Symbol  string `json:"symbol,omitempty"`
	Offset  uint64 `json:"offset,omitempty"`
	BuildID string `json:"build_id,omitempty"`
	Raw     bool   `json:"raw,omitempty"`
}

// IsZero tells that there is no such place.
func (p Place) IsZero() bool { return p == Place{} }

// String returns symbol+offset (file).
func (p Place) String() string {
	switch {
	case p.IsZero():
		return "-"
	case p.Raw && p.Address < 4096:
		return fmt.Sprintf("...%03x (%s, has ended)", p.Address, p.File)
	case p.Raw:
		return fmt.Sprintf("%#x (%s)", p.Address, p.File)
	case p.Symbol == "":
		return fmt.Sprintf("%s+%#x", filepath.Base(p.File), p.Address)
	}
	return fmt.Sprintf("%s+%#x (%s)", p.Symbol, p.Offset, filepath.Base(p.File))
}

// symbolizer gives addresses names. It must be asked while the processes are there.
type symbolizer struct {
	t        *tracer
	spaces   map[image]*addressSpace // nil: it was too late
	binaries map[string]*binary      // by device, inode and path; nil: no ELF file
}

// maxSpaces bounds what is remembered about processes that have probably ended.
const maxSpaces = 4096

func newSymbolizer(t *tracer) *symbolizer {
	return &symbolizer{t: t, spaces: map[image]*addressSpace{}, binaries: map[string]*binary{}}
}

// site returns the places of a site and of its caller. The first is where the system call returns to, but belongs to the
// function that has the system call, even if that ends there; a caller likewise.
func (s *symbolizer) site(k siteKey, comm string) (site, caller Place) {
	var ok bool
	if site, ok = s.place(k.Image, k.RIP); !ok {
		site = unknown(comm, k.RIP)
	}
	if k.Caller == 0 {
		return site, Place{}
	}
	caller, ok = s.place(k.Image, k.Caller)
	if !ok && site.Raw {
		caller = unknown(comm, k.Caller)
	}
	return site, caller // not in executable memory: no return address
}

// unknown returns a place in a program that has ended before its mappings could be read. Each run is loaded at another
// address, but the position in a page is always the same.
func unknown(comm string, addr uint64) Place {
	return Place{File: comm, Address: addr % 4096, Raw: true}
}

// place finds addr among the mappings.
func (s *symbolizer) place(key image, addr uint64) (Place, bool) {
	space, known := s.spaces[key]
	if !known {
		space = s.read(key)
	}
	if space == nil {
		return Place{}, false
	}
	m, ok := space.find(addr)
	if !ok && known {
		// A library may have been loaded since.
		if space = s.read(key); space != nil {
			m, ok = space.find(addr)
		}
	}
	if !ok {
		return Place{}, false
	}
	if m.path == "" {
		return Place{File: "[anonymous]", Address: addr, Raw: true}, true // made at run time, by a JIT compiler
	}
	p := Place{File: m.path, Address: addr - m.start + m.offset}
	if m.path[0] != '/' {
		return p, true
	}
	id := m.id + " " + m.path
	b, ok := s.binaries[id]
	if !ok {
		b, _ = openBinary(space.files(m)) // whatever the reason, addresses are shown then
		s.binaries[id] = b
	}
	if b != nil {
		p.Address = b.address(p.Address)
		p.Symbol, p.Offset = b.name(p.Address - 1)
		if p.Symbol != "" {
			p.Offset++
		}
		p.BuildID = b.buildID
	}
	return p, true
}

// read reads the mappings of a process that runs the image key.
func (s *symbolizer) read(key image) *addressSpace {
	if len(s.spaces) >= maxSpaces {
		clear(s.spaces)
	}
	space := s.readFrom(key.TGID, key)
	if space == nil {
		// The process has ended or runs something else, but a child may not.
		pids, images, _ := s.t.procs()
		for i, pid := range pids {
			if images[i] == key && space == nil {
				space = s.readFrom(pid, key)
			}
		}
	}
	if space == nil {
		space = s.spaces[key] // what was known before
	}
	s.spaces[key] = space
	return space
}

// readFrom reads the mappings of process pid, unless it runs something else than key.
func (s *symbolizer) readFrom(pid uint32, key image) *addressSpace {
	space, err := readMaps(pid)
	if err != nil || len(space.maps) == 0 || s.t.image(pid) != key {
		return nil
	}
	return space
}
