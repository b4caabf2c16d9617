package machine

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync/atomic"

	"ub/btc"
	"ub/sfi"
	"ub/target"
)

// Installed is a blob in the arena. It is immutable.
type Installed struct {
	Blob *btc.Blob

	off, size int     // in the arena
	base      uintptr // address of the first byte
	vec       target.Vec
	dead      atomic.Bool
}

// Code is a place in an installed blob where translated code may be entered. The zero Code is no place. It stays safe to
// use for ever: once its blob is retired, Run returns ExitMiss for it instead of entering.
type Code struct {
	in   *Installed
	addr uint64
}

// Valid reports whether c is a place at all. Its blob may be retired nevertheless.
func (c Code) Valid() bool { return c.in != nil }

// Vec returns the vector level that a run needs to enter c.
func (c Code) Vec() target.Vec {
	if c.in == nil {
		return target.VecNone
	}
	return c.in.vec
}

// Installed returns the blob that c is a place of, or nil.
func (c Code) Installed() *Installed { return c.in }

// Entry returns the place to enter for program address rip, if the blob has one.
func (i *Installed) Entry(rip uint64) (Code, bool) {
	off, ok := i.Blob.EntryAt(rip)
	if !ok {
		return Code{}, false
	}
	return Code{i, uint64(i.base) + uint64(off)}, true
}

// Base returns the native address of the blob's first byte, for diagnostics.
func (i *Installed) Base() uintptr { return i.base }

// Bytes returns a copy of the blob's code as it is in the arena, for diagnostics. i must not be retired.
func (m *Machine) Bytes(i *Installed) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), mapping(m.rw+uintptr(i.off), i.size)...)
}

// Env returns the addresses of this Machine's trampolines, which Install makes blobs jump to.
func (m *Machine) Env() sfi.Env { return m.env }

// Install puts a blob into the arena. The bytes that will run, relocated for where they will run, are verified first:
// the error is an *sfi.Error when that fails, and wraps ErrArenaFull when there is no room. The blob must not be changed
// afterwards.
func (m *Machine) Install(b *btc.Blob) (*Installed, error) {
	if len(b.Code) == 0 {
		return nil, fmt.Errorf("the blob has no code")
	}
	if b.Vec > m.maxVec {
		return nil, fmt.Errorf("the blob needs vector state that this machine does not have: %v", b.Vec)
	}
	off, err := m.allocate(len(b.Code))
	if err != nil {
		return nil, err
	}
	i := &Installed{Blob: b, off: off, size: len(b.Code), base: m.rx + uintptr(off), vec: b.Vec}
	code, err := m.relocate(b, i.base)
	if err == nil {
		entries := make([]uint32, len(b.Entries))
		for k, e := range b.Entries {
			entries[k] = e.Off
		}
		env := m.env
		env.Vec, env.Faults = b.Vec, b.FaultOffsets()
		err = sfi.Verify(code, uint64(i.base), entries, env)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.space.release(off, i.size)
		return nil, err
	}
	// Nothing reaches these addresses yet: no place in them has been handed out. The rest of the last cache line is
	// made INT3, so that every byte of it is defined.
	dst := mapping(m.rw+uintptr(off), roundUp(i.size))
	n := copy(dst, code)
	fillINT3(dst[n:])
	barrier()
	old := *m.installed.Load()
	k := sort.Search(len(old), func(k int) bool { return old[k].off >= off })
	list := make([]*Installed, 0, len(old)+1)
	list = append(append(append(list, old[:k]...), i), old[k:]...)
	m.installed.Store(&list)
	return i, nil
}

// relocate returns the blob's code as it must be at base.
func (m *Machine) relocate(b *btc.Blob, base uintptr) ([]byte, error) {
	code := append([]byte(nil), b.Code...)
	for _, r := range b.Relocs {
		if uint64(r.Off)+4 > uint64(len(code)) || int(r.Sym) >= len(m.env.Syms) {
			return nil, fmt.Errorf("relocation %v at %#x is not inside the blob of %#x bytes", r.Sym, r.Off, len(code))
		}
		next := uint64(base) + uint64(r.Off) + 4
		binary.LittleEndian.PutUint32(code[r.Off:], uint32(m.env.Syms[r.Sym]-next))
	}
	return code, nil
}

func (m *Machine) allocate(size int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	off, ok := m.space.alloc(size)
	if !ok {
		m.reap()
		if off, ok = m.space.alloc(size); !ok {
			return 0, fmt.Errorf("%w: %d bytes wanted, %d of %d in use, %d blobs waiting to be freed",
				ErrArenaFull, size, m.space.used, m.opts.ArenaSize, len(m.retired))
		}
	}
	return off, nil
}

// find returns the blob of list, sorted by address, that contains native address pc, or nil.
func find(list []*Installed, pc uint64) *Installed {
	k := sort.Search(len(list), func(k int) bool { return uint64(list[k].base) > pc })
	if k == 0 {
		return nil
	}
	if i := list[k-1]; pc < uint64(i.base)+uint64(i.size) {
		return i
	}
	return nil
}

func fillINT3(b []byte) {
	for i := range b {
		b[i] = 0xcc
	}
}
