package sentry

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/hot"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/target"
)

// addressSpace wraps systrap's address space. It keeps track of what is mapped, and keeps the mirror, if there is one,
// equal to it or poorer: the mirror never shows what the program cannot access, and shows nothing that systrap's address
// space has stopped showing. Poorer is always right, since BTC then faults and the program goes on natively.
//
// gVisor serializes MapFile, Unmap and Release of one address space (mm.activeMu).
type addressSpace struct {
	platform.NoAddressSpaceIO
	inner platform.AddressSpace
	e     *engine
	id    uint32 // from 1, for the site table

	// entries is what Switch reads. nil: there are none.
	entries atomic.Pointer[table]

	// window is the mirror for Run: set and reset with mapMu held, read by anybody. A released window is harmless.
	window atomic.Pointer[machine.Window]

	// traced: a task of this address space has had a tracer, which may write code where no mapping changes. No
	// bypass from then on.
	traced atomic.Bool

	owner atomic.Pointer[owner]

	mapMu  sync.Mutex
	mirror window // the same as window, as the interface that tests can stand in for; nil: none

	// Below: protected by engine.mu.
	maps     mapSet
	blobs    []*blob // live ones, in order of installation
	sites    map[uint64]*site
	gaps     map[gapKey]*gap
	group    hot.Group
	hints    map[uint64]*path.Branch
	released bool
	noMirror time.Time // no attempt to get a mirror before this
}

// window is what the mirror needs of a *machine.Window.
type window interface {
	Map(addr, length uint64, fd int, off int64, read, write bool) error
	Unmap(addr, length uint64) error
	Read(addr uint64, dst []byte) (int, error)
	Expel()
	Release()
}

// MapFile implements platform.AddressSpace.MapFile.
//
// Order: first what the range showed until now goes from the mirror, and code made from it from the tables; then systrap
// maps; then the mirror maps. So the mirror never shows a page that has been replaced for the program.
func (as *addressSpace) MapFile(addr hostarch.Addr, f memmap.File, fr memmap.FileRange, at hostarch.AccessType, precommit bool) error {
	m := mapping{
		start: uint64(addr), end: uint64(addr) + fr.Length(), file: f, off: fr.Start,
		read: at.Read, write: at.Write, exec: at.Execute,
	}
	as.mapMu.Lock()
	defer as.mapMu.Unlock()
	replaced := as.e.track(as, m)
	if replaced {
		as.unmirror(m.start, m.end)
	}
	if err := as.inner.MapFile(addr, f, fr, at, precommit); err != nil {
		// The range may show the old mapping, the new one, or nothing.
		as.unmirror(m.start, m.end)
		as.e.untrack(as, m.start, m.end)
		return err
	}
	if as.mirror != nil {
		as.mirrorMapping(&m)
	}
	return nil
}

// Unmap implements platform.AddressSpace.Unmap.
func (as *addressSpace) Unmap(addr hostarch.Addr, length uint64) {
	as.mapMu.Lock()
	defer as.mapMu.Unlock()
	start, end := uint64(addr), uint64(addr)+length
	if as.e.untrack(as, start, end) {
		as.unmirror(start, end)
	}
	as.inner.Unmap(addr, length)
}

// Release implements platform.AddressSpace.Release. No task runs in the address space any more.
func (as *addressSpace) Release() {
	as.mapMu.Lock()
	defer as.mapMu.Unlock()
	as.e.dropSpace(as)
	as.dropMirror()
	as.inner.Release()
}

// PreFork implements platform.AddressSpace.PreFork.
func (as *addressSpace) PreFork() { as.inner.PreFork() }

// PostFork implements platform.AddressSpace.PostFork.
func (as *addressSpace) PostFork() { as.inner.PostFork() }

// mirrorMapping shows m in the mirror. What cannot be shown stays inaccessible there. mapMu is held.
func (as *addressSpace) mirrorMapping(m *mapping) {
	if m.end > target.WindowSize {
		return
	}
	if !as.e.reserveMirrorMapping() {
		as.dropMirror()
		return
	}
	fd, err := m.file.DataFD(memmap.FileRange{Start: m.off, End: m.off + (m.end - m.start)})
	if err == nil {
		err = as.mirror.Map(m.start, m.end-m.start, fd, int64(m.off), m.read, m.write)
	}
	if err != nil {
		as.e.counters.Add(statfile.MirrorMapFailed, 1)
		log.Debugf("Platform %s: not mirrored: %v", Name, err)
		return
	}
	as.e.counters.Add(statfile.MirrorMaps, 1)
}

// unmirror makes [start, end) inaccessible in the mirror. When that fails, the mirror as a whole goes. mapMu is held.
func (as *addressSpace) unmirror(start, end uint64) {
	if as.mirror == nil {
		return
	}
	end = min(end, target.WindowSize)
	if start >= end {
		return
	}
	if err := as.mirror.Unmap(start, end-start); err != nil {
		log.Warningf("Platform %s: giving up the mirror of address space %d: %v", Name, as.id, err)
		as.dropMirror()
	}
}

// takeMirror gives the address space a mirror with everything that is mapped, if it has none. It reports whether there is
// one now.
func (as *addressSpace) takeMirror() bool {
	as.mapMu.Lock()
	defer as.mapMu.Unlock()
	if as.mirror != nil {
		return true
	}
	all, ok := as.e.wantsMirror(as)
	if !ok {
		return false
	}
	w, mw, err := as.e.arena.NewWindow()
	if err != nil {
		as.e.noWindow(as)
		return false
	}
	as.mirror = w
	as.e.counters.Add(statfile.SpacesMirrored, 1)
	for i := range all {
		if as.mirrorMapping(&all[i]); as.mirror == nil {
			return false // too many mappings
		}
	}
	as.window.Store(mw)
	return true
}

// dropMirror gives the mirror up, for good: its code goes first. mapMu is held.
func (as *addressSpace) dropMirror() {
	if as.mirror == nil {
		return
	}
	as.e.dropCode(as)
	as.window.Store(nil)
	as.mirror.Release()
	as.mirror = nil
	as.e.counters.Add(statfile.SpacesMirrored, -1)
	as.e.mirrorDropped(as)
}

// readCode copies code that can be translated: up to len(dst) bytes at addr, within one page, of a mapping that is
// executable and not writable. It also returns where in which file they are.
func (as *addressSpace) readCode(addr uint64, dst []byte) (int, fileRange) {
	as.mapMu.Lock()
	defer as.mapMu.Unlock()
	if as.mirror == nil {
		return 0, fileRange{}
	}
	r, ok := as.e.codeAt(as, addr, addr+uint64(len(dst)))
	if !ok {
		return 0, fileRange{}
	}
	n, _ := as.mirror.Read(addr, dst)
	return n, r
}
