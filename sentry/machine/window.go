package machine

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"ub/target"
)

// ErrNoWindow: all windows are taken.
var ErrNoWindow = errors.New("no free window")

// Where windows are: slot i starts at firstWindow + i*windowStride, so that there is GuardSize of nothing on both sides
// of each. maxWindows of them end below 0x7040_0000_0000, beyond which the kernel puts mappings by itself; so a window
// plus the largest sanitized canonical address never wraps nor reaches what is not the program's.
const (
	firstWindow  = 0x1000_0000_0000
	windowStride = target.WindowSize + target.GuardSize
	maxWindows   = 24
)

// Window is the mirror of one address space: the program's address a appears at Base()+a.
type Window struct {
	m        *Machine
	slot     int
	base     uintptr
	released atomic.Bool
}

// reserveWindows takes the address space of n windows, or of as many as there is room for, and returns their slots. A slot
// is usable when all of it and the guards on both sides could be reserved; something else may be in the way of some: Go's
// heap, whose base is random unless the program is built with GOEXPERIMENT=norandomizedheapbase64, a PIE executable, a
// sanitizer's shadow memory.
func reserveWindows(n int) (slots []int, ranges []reservation) {
	reserve := func(addr, size uintptr) bool {
		if !reserveAt(addr, size) {
			return false
		}
		ranges = append(ranges, reservation{addr, size})
		return true
	}
	guard := reserve(firstWindow-target.GuardSize, target.GuardSize)
	for i := 0; i < maxWindows && len(slots) < n; i++ {
		base := uintptr(firstWindow + i*windowStride)
		own := reserve(base, windowStride)
		if own && guard {
			slots = append(slots, i)
		}
		guard = own || reserve(base+target.WindowSize, target.GuardSize)
	}
	return slots, ranges
}

type reservation struct{ addr, size uintptr }

// NewWindow takes a window with nothing mapped in it. It returns ErrNoWindow when all are taken.
func (m *Machine) NewWindow() (*Window, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.freeSlots) == 0 {
		return nil, ErrNoWindow
	}
	slot := m.freeSlots[len(m.freeSlots)-1]
	m.freeSlots = m.freeSlots[:len(m.freeSlots)-1]
	return &Window{m: m, slot: slot, base: uintptr(firstWindow + slot*windowStride)}, nil
}

// Base returns the host address at which the program's address 0 appears.
func (w *Window) Base() uintptr { return w.base }

// check refuses ranges that are not whole pages of the window: with MAP_FIXED they would overwrite something else.
func (w *Window) check(addr, length uint64) error {
	if addr%pageSize != 0 || length%pageSize != 0 || length == 0 {
		return fmt.Errorf("window range %#x+%#x is not whole pages", addr, length)
	}
	if length > target.WindowSize || addr > target.WindowSize-length {
		return fmt.Errorf("window range %#x+%#x is beyond the window of %#x bytes", addr, length, uint64(target.WindowSize))
	}
	if w.released.Load() {
		return errors.New("window is released")
	}
	return nil
}

// Map makes program addresses [addr, addr+length) show file fd from off on, in place of what was there. addr, length and
// off are multiples of 4096. The mapping is shared and never executable; write implies read, as on the CPU. The caller
// keeps fd; it may be closed afterwards. Threads may be running in the window: they see the old mapping, the new one,
// or fault. It must not be called concurrently with Release.
func (w *Window) Map(addr, length uint64, fd int, off int64, read, write bool) error {
	if err := w.check(addr, length); err != nil {
		return err
	}
	prot := unix.PROT_NONE
	if read || write {
		prot |= unix.PROT_READ
	}
	if write {
		prot |= unix.PROT_WRITE
	}
	if _, err := mmap(w.base+uintptr(addr), uintptr(length), prot, unix.MAP_SHARED|unix.MAP_FIXED, fd, off); err != nil {
		return fmt.Errorf("mapping %#x+%#x into the window: %w", addr, length, err)
	}
	return nil
}

// Unmap makes program addresses [addr, addr+length) inaccessible. It must not be called concurrently with Release.
func (w *Window) Unmap(addr, length uint64) error {
	if err := w.check(addr, length); err != nil {
		return err
	}
	return w.unmap(addr, length)
}

func (w *Window) unmap(addr, length uint64) error {
	_, err := mmap(w.base+uintptr(addr), uintptr(length), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED, -1, 0)
	if err != nil {
		return fmt.Errorf("unmapping %#x+%#x from the window: %w", addr, length, err)
	}
	return nil
}

// Read copies program memory from addr on into dst. It returns the number of bytes copied, and an error when that is
// less than len(dst), because memory there is not mapped readable.
func (w *Window) Read(addr uint64, dst []byte) (int, error) {
	if w.released.Load() {
		return 0, errors.New("window is released")
	}
	want := len(dst)
	if addr >= target.WindowSize {
		return 0, fmt.Errorf("program address %#x is beyond the window of %#x bytes", addr, uint64(target.WindowSize))
	}
	if left := target.WindowSize - addr; uint64(want) > left {
		dst = dst[:left]
	}
	n, err := readFaultSafe(dst, w.base+uintptr(addr))
	if err == nil && n < want {
		err = fmt.Errorf("program address %#x is beyond the window", addr+uint64(n))
	}
	return n, err
}

// Expel makes the threads that are inside translated code with this window leave once, and returns when they have. Called
// after Retire it means: no thread executes the retired code any more. The caller must not be one of those in Run.
func (w *Window) Expel() {
	w.m.expel(func(b *block) bool { return uintptr(b.loadBase()) == w.base })
}

// Release empties the window and gives it back. Threads still running in it are made to leave first, and any Run that is
// later given w returns ExitStop. Nothing else may use w at the same time or afterwards. Releasing twice does nothing.
func (w *Window) Release() {
	if w.released.Swap(true) {
		return
	}
	m := w.m
	m.epoch.Add(1)
	m.expel(func(b *block) bool { return uintptr(b.loadBase()) == w.base })
	if err := w.unmap(0, target.WindowSize); err != nil {
		// Out of mappings (vm.max_map_count): the slot may still show this program's memory, so nobody gets it again.
		return
	}
	m.mu.Lock()
	m.freeSlots = append(m.freeSlots, w.slot)
	m.mu.Unlock()
}
