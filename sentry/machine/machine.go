package machine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ub/sfi"
	"ub/target"
)

// Options are the sizes of what New reserves. Zero means the default. Only address space is taken at first; memory is
// used as blobs, threads and bindings come.
type Options struct {
	ArenaSize int // bytes for translated code, a multiple of 4096, at most 1 GiB; default 64 MiB
	Windows   int // address spaces at the same time, at most 24; default 24; fewer where other mappings are in the way
	Threads   int // threads at the same time; default 4096
}

const (
	defaultArenaSize = 64 << 20
	maxArenaSize     = 1 << 30 // trampolines must be in reach of a rel32 from everywhere
	defaultThreads   = 4096
)

func (o *Options) setDefaults() error {
	if o.ArenaSize == 0 {
		o.ArenaSize = defaultArenaSize
	}
	if o.Windows == 0 {
		o.Windows = maxWindows
	}
	if o.Threads == 0 {
		o.Threads = defaultThreads
	}
	if o.ArenaSize < 2*pageSize || o.ArenaSize > maxArenaSize || o.ArenaSize%pageSize != 0 {
		return fmt.Errorf("arena size %d: must be a multiple of %d from %d to %d", o.ArenaSize, pageSize, 2*pageSize, maxArenaSize)
	}
	if o.Windows < 0 || o.Windows > maxWindows {
		return fmt.Errorf("%d windows: must be 1 to %d", o.Windows, maxWindows)
	}
	if o.Threads < 0 || o.Threads > 1<<20 {
		return fmt.Errorf("%d threads: must be 1 to %d", o.Threads, 1<<20)
	}
	return nil
}

// Machine is the process's BTC machine. All its methods may be called concurrently, but for Close.
type Machine struct {
	opts Options

	rw, rx uintptr // the two mappings of the arena
	tramp  trampolines
	env    sfi.Env

	blocks uintptr // context blocks: guard page, then block and guard page alternating
	tables uintptr // dispatch tables
	maxVec target.Vec

	windows []reservation

	// epoch changes when a thread must look again, before it enters, at what it is about to enter: blobs retired,
	// windows released. retires counts the former. Both change before the barrier, see enter_amd64.s.
	epoch   atomic.Uint64
	retires atomic.Uint64

	// installed is all blobs in the arena, sorted by address; replaced, never changed.
	installed atomic.Pointer[[]*Installed]

	_ [64]byte // every Run reads the fields above: keep writers of the ones below off their cache line

	mu         sync.Mutex // guards all below, and writers of installed
	space      spans
	retired    []retired
	threads    map[*Thread]struct{}
	freeBlocks []int
	usedBlocks int
	freeSlots  []int
}

// open is the process's Machine, as the signal handlers know one only.
var open atomic.Pointer[Machine]

// New reserves the arena, the windows and the context blocks, and installs the signal handlers. There can be one Machine
// in a process at a time. The error wraps ErrUnsupported when the CPU or the kernel lacks something.
func New(opts Options) (m *Machine, err error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	if err := Supported(); err != nil {
		return nil, err
	}
	m = &Machine{opts: opts, threads: map[*Thread]struct{}{}, tramp: makeTrampolines(), maxVec: hostVec()}
	if !open.CompareAndSwap(nil, m) {
		return nil, errors.New("this process has a BTC machine already: close it first")
	}
	defer func() {
		if err != nil {
			m.unmapAll()
			open.Store(nil)
			m = nil
		}
	}()
	if err := registerBarrier(); err != nil {
		return nil, err
	}
	if err := installHandlers(); err != nil {
		return nil, err
	}
	if m.rw, m.rx, err = newArena(uintptr(opts.ArenaSize)); err != nil {
		return nil, err
	}
	copy(mapping(m.rw, opts.ArenaSize), m.tramp.code)
	head := roundUp(len(m.tramp.code))
	m.space.free = []span{{head, opts.ArenaSize - head}}
	for s, off := range m.tramp.syms {
		m.env.Syms[s] = uint64(m.rx) + uint64(off)
	}
	const anon = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	if m.blocks, err = mmap(0, m.blocksLen(), unix.PROT_NONE, anon, -1, 0); err != nil {
		return nil, fmt.Errorf("reserving context blocks: %w", err)
	}
	if m.tables, err = mmap(0, m.tablesLen(), unix.PROT_READ|unix.PROT_WRITE, anon, -1, 0); err != nil {
		return nil, fmt.Errorf("reserving dispatch tables: %w", err)
	}
	m.freeSlots, m.windows = reserveWindows(opts.Windows)
	if len(m.freeSlots) == 0 {
		return nil, fmt.Errorf("no room for a window of %d TiB at %#x: see /proc/self/maps for what is there, and whether RLIMIT_AS (ulimit -v) is set",
			target.WindowSize>>40, uint64(firstWindow))
	}
	m.installed.Store(new([]*Installed))

	landing = m.rx + uintptr(m.tramp.landing)
	blocksLo, blocksSize = m.blocks, m.blocksLen()
	arenaLo, arenaSize = m.rx, uintptr(opts.ArenaSize)
	return m, nil
}

func (m *Machine) blocksLen() uintptr { return pageSize + uintptr(m.opts.Threads)*blockStride }
func (m *Machine) tablesLen() uintptr { return uintptr(m.opts.Threads) * tablesSize }

// Stats is what is in use at one moment.
type Stats struct {
	ArenaSize, ArenaUsed int // bytes; used by blobs, installed or retired
	Blobs                int // installed or retired
	Retired              int // of these, waiting for threads to leave
	Threads              int
	FreeWindows          int
}

// Stats returns what is in use.
func (m *Machine) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		ArenaSize:   m.opts.ArenaSize,
		ArenaUsed:   m.space.used,
		Blobs:       len(*m.installed.Load()),
		Retired:     len(m.retired),
		Threads:     len(m.threads),
		FreeWindows: len(m.freeSlots),
	}
}

// Close gives everything back to the system. All threads must have been freed; windows and blobs need not.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.threads); n > 0 {
		return fmt.Errorf("%d threads are not freed", n)
	}
	if open.Load() != m {
		return errors.New("machine is closed already")
	}
	arenaLo, arenaSize, blocksLo, blocksSize, landing = 0, 0, 0, 0, 0
	m.freeSlots = nil
	err := m.unmapAll()
	open.Store(nil)
	return err
}

func (m *Machine) unmapAll() error {
	var errs []error
	unmap := func(addr, size uintptr) {
		if addr != 0 {
			errs = append(errs, munmap(addr, size))
		}
	}
	for _, r := range m.windows {
		unmap(r.addr, r.size)
	}
	unmap(m.tables, m.tablesLen())
	unmap(m.blocks, m.blocksLen())
	unmap(m.rx, uintptr(m.opts.ArenaSize))
	unmap(m.rw, uintptr(m.opts.ArenaSize))
	m.windows, m.tables, m.blocks, m.rx, m.rw = nil, 0, 0, 0, 0
	return errors.Join(errs...)
}
