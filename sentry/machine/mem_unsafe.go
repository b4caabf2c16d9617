package machine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/safecopy"
)

// pointer turns the address of memory mapped by this package into a pointer. None of it belongs to the Go heap, so the
// garbage collector ignores such pointers and the rules about converting addresses of Go objects do not apply; each
// caller keeps the mapping alive for as long as the pointer is used.
func pointer(addr uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&addr))
}

// mapping returns mapped memory as bytes.
func mapping(addr uintptr, size int) []byte { return unsafe.Slice((*byte)(pointer(addr)), size) }

func mmap(addr, size uintptr, prot, flags, fd int, off int64) (uintptr, error) {
	p, _, e := unix.Syscall6(unix.SYS_MMAP, addr, size, uintptr(prot), uintptr(flags), uintptr(fd), uintptr(off))
	if e != 0 {
		return 0, e
	}
	return p, nil
}

func munmap(addr, size uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_MUNMAP, addr, size, 0); e != 0 {
		return e
	}
	return nil
}

func mprotect(addr, size uintptr, prot int) error {
	if _, _, e := unix.Syscall(unix.SYS_MPROTECT, addr, size, uintptr(prot)); e != 0 {
		return e
	}
	return nil
}

func madvise(addr, size uintptr, advice int) error {
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, addr, size, uintptr(advice)); e != 0 {
		return e
	}
	return nil
}

// reserveAt takes the address range [addr, addr+size) if nothing is there yet.
func reserveAt(addr, size uintptr) bool {
	p, err := mmap(addr, size, unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE, -1, 0)
	if err != nil {
		return false
	}
	if p != addr {
		// A kernel before 4.17 takes MAP_FIXED_NOREPLACE as a hint.
		munmap(p, size)
		return false
	}
	return true
}

// newArena makes size bytes of shared memory and maps them twice: readable and writable, and readable and executable.
// The descriptor is closed: nobody can map it a third time.
func newArena(size uintptr) (rw, rx uintptr, err error) {
	fd, err := unix.MemfdCreate("ub-btc", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, 0, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return 0, 0, fmt.Errorf("sizing the arena: %w", err)
	}
	rw, err = mmap(0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, fd, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("mapping the arena writable: %w", err)
	}
	rx, err = mmap(0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED, fd, 0)
	if err != nil {
		munmap(rw, size)
		return 0, 0, fmt.Errorf("mapping the arena executable (is shared memory mounted noexec?): %w", err)
	}
	return rw, rx, nil
}

// readFaultSafe copies from host address addr until dst is full or memory is not readable.
func readFaultSafe(dst []byte, addr uintptr) (int, error) {
	return safecopy.CopyIn(dst, pointer(addr))
}

func blockAt(addr uintptr) *block { return (*block)(pointer(addr)) }

func addrOfBlock(b *block) uintptr { return uintptr(unsafe.Pointer(b)) }

func tableAt(addr uintptr) *table { return (*table)(pointer(addr)) }

func addrOfTable(t *table) uintptr { return uintptr(unsafe.Pointer(t)) }
