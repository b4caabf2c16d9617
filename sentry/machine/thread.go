package machine

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ub/target"
)

// ErrNoThread: all context blocks are taken (Options.Threads).
var ErrNoThread = errors.New("no free context block")

// blockStride: a page that polls read, a context block, and a guard page behind it.
const blockStride = 3 * pageSize

// Thread is what one thread of the program needs to run translated code: a context block and dispatch tables. Run,
// Regs, Bind, Flush and Free belong to one goroutine at a time; Stop, ClearStop and Running may be called by any.
type Thread struct {
	m     *Machine
	index int
	b     *block
	vec   target.Vec // level of the runs to come
	ran   target.Vec // highest level since LoadVec
	wide  bool       // LoadVec has seen bits above the 255th in use

	// tables[v] is the dispatch table of runs at level v: it leads only to blobs that these may enter.
	tables [target.NumVecs]*table

	stop    atomic.Bool
	retires uint64 // Machine.retires as of the last flush

	boundSets []uint16 // first indices of the table's sets that are in use
	bound     [1 << tableSetBits]bool
}

// NewThread returns a thread with zero registers. It returns ErrNoThread when Options.Threads exist already.
func (m *Machine) NewThread() (*Thread, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &Thread{m: m}
	switch n := len(m.freeBlocks); {
	case n > 0:
		t.index = m.freeBlocks[n-1]
		m.freeBlocks = m.freeBlocks[:n-1]
	case m.usedBlocks < m.opts.Threads:
		t.index = m.usedBlocks
		if err := mprotect(m.blockAddr(t.index), pageSize, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return nil, fmt.Errorf("opening a context block: %w", err)
		}
		m.usedBlocks++
	default:
		return nil, ErrNoThread
	}
	addr := m.blockAddr(t.index)
	if err := mprotect(addr-pageSize, pageSize, unix.PROT_READ); err != nil {
		m.freeBlocks = append(m.freeBlocks, t.index)
		return nil, fmt.Errorf("opening the page that polls read: %w", err)
	}
	t.b = blockAt(addr + blockOffset)
	for v := range t.tables {
		t.tables[v] = tableAt(m.tablesAddr(t.index) + uintptr(v)*tableSize)
		t.tables[v].clear(0)
	}
	t.retires = m.retires.Load()
	b := t.b
	*b = block{
		addrMask: target.AddrMask,
		poll:     1,
		seq:      b.seq, // continues: somebody may wait for the previous owner to have left
		epoch:    m.epoch.Load(),
		table:    uint64(m.tablesAddr(t.index)),
		hashMask: tableHashMask,

		hostMXCSR: defaultMXCSR,
	}
	b.regs.Flags = flag1 | flagIF
	m.threads[t] = struct{}{}
	return t, nil
}

// tablesAddr is where the tables of the thread with index i are.
func (m *Machine) tablesAddr(i int) uintptr { return m.tables + uintptr(i)*tablesSize }

// blockAddr is the page of the context block with index i.
func (m *Machine) blockAddr(i int) uintptr { return m.blocks + pageSize + uintptr(i)*blockStride }

// Free gives the thread's memory back. It must not be running, and must not be used afterwards.
func (t *Thread) Free() {
	m := t.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.threads[t]; !ok {
		return
	}
	if t.b.inside() {
		panic("BUG: Thread.Free while in Run")
	}
	delete(m.threads, t)
	// Back to zero pages: both less memory and the empty tables that NewThread expects.
	if err := madvise(m.tablesAddr(t.index), tablesSize, unix.MADV_DONTNEED); err != nil {
		for _, tb := range t.tables {
			*tb = table{}
		}
	}
	m.freeBlocks = append(m.freeBlocks, t.index)
}

// Regs returns the registers that Run loads and stores. The memory is valid until Free.
func (t *Thread) Regs() *Regs { return &t.b.regs }

// Stop makes Run return with ExitFuel at the thread's next poll, and every later Run return at once, until ClearStop.
// Translated code polls at least once per loop iteration or indirect transfer.
func (t *Thread) Stop() {
	t.stop.Store(true)
	t.b.disarm()
}

// disarm makes the thread leave at its next poll, if it is inside translated code. Polls of blobs read the page below the
// block: it is one load, with nothing to wait for, where reading through a pointer is two, in every loop. Protecting a page
// costs a microsecond or two, but is seldom done.
//
// Anybody may call it, at any time. A thread that makes polls pass again meanwhile (rearm) may end with poll set and the
// page protected: then it leaves at its first poll, which clears poll (see fault), and starts over.
func (b *block) disarm() {
	atomic.StoreUint64(&b.poll, 0)
	if err := mprotect(b.pollPage(), pageSize, unix.PROT_NONE); err != nil {
		// The page between two that are not accessible: this makes one mapping of three, and cannot fail.
		panic(fmt.Sprintf("BUG: closing the page that polls read: %v", err))
	}
}

// pollPage is the page that polls read: the one below the block's.
func (b *block) pollPage() uintptr { return addrOfBlock(b) - blockOffset - pageSize }

// ClearStop ends the effect of Stop.
func (t *Thread) ClearStop() { t.stop.Store(false) }

// Running reports whether the thread is inside translated code. To know that a thread has left and stays out, use
// StopAndWait: Running alone may miss one that is just entering.
func (t *Thread) Running() bool { return t.b.inside() }

// StopAndWait calls Stop for all threads and returns when none of them is inside translated code. Each stays out until
// its ClearStop. The caller must not be one of the goroutines in Run.
func (m *Machine) StopAndWait(threads ...*Thread) {
	for _, t := range threads {
		t.Stop()
	}
	barrier() // each either is seen inside now, or sees the poll cleared when it enters
	for _, t := range threads {
		waitOutside(t.b, atomic.LoadUint64(&t.b.seq))
	}
}

// expel makes the threads inside translated code that match leave once. The caller has changed epoch, and whatever Run
// checks when it has changed, so those that enter afterwards are not concerned.
func (m *Machine) expel(match func(*block) bool) {
	barrier()
	m.mu.Lock()
	var inside []waiter
	for t := range m.threads {
		if seq := atomic.LoadUint64(&t.b.seq); seq&1 != 0 && match(t.b) {
			inside = append(inside, waiter{t.b, seq})
			t.b.disarm()
		}
	}
	m.mu.Unlock()
	for _, w := range inside {
		waitOutside(w.b, w.seq)
	}
}

// waiter is a stay of a thread inside translated code: over when the block's seq is another one.
type waiter struct {
	b   *block
	seq uint64
}

func (w waiter) over() bool { return atomic.LoadUint64(&w.b.seq) != w.seq }

// waitOutside returns when the stay seq is over (at once when seq is even: outside). A stay ends at the next poll, so
// this takes microseconds, unless the host's scheduler has taken the CPU from that thread.
func waitOutside(b *block, seq uint64) {
	for i := 0; seq&1 != 0 && atomic.LoadUint64(&b.seq) == seq; i++ {
		if i < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
		// A poll restored by a Run that began before our store would be lost: ask again.
		if i%16 == 15 {
			b.disarm()
		}
	}
}

func (b *block) inside() bool { return atomic.LoadUint64(&b.seq)&1 != 0 }

func (b *block) loadBase() uint64 { return atomic.LoadUint64(&b.base) }
