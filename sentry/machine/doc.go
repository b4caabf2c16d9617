// Package machine is the BTC machine inside one process: the arena that holds translated code, the windows through which
// that code sees program memory, the way in and out, dispatch between blobs, and faults. docs/btc-machine.md is the
// contract that translated code is written and verified against. Nothing here knows gVisor's Sentry.
//
// # Use
//
//	m, err := machine.New(machine.Options{})
//	w, err := m.NewWindow()              // one per address space
//	err = w.Map(addr, length, fd, off, true, true)
//	in, err := m.Install(blob)           // verified here, always
//	t, err := m.NewThread()              // one per thread of the program
//	*t.Regs() = ...
//	code, ok := in.Entry(t.Regs().RIP)
//	exit := t.Run(w, code)               // t.Regs() is the program's state at an instruction boundary
//
// # Safety against stale code
//
// A Code names its blob, and a blob that is retired is never entered again, whoever still holds a Code for it or has
// bound it. Arena space is used again only when no thread can be inside. Neither needs the caller's care.
//
// # System calls
//
// For a seccomp filter: New may be called before the filter is in force. After New, these are the system calls that the
// methods of this package make, beside those of the Go runtime:
//
//	Window.Map             mmap(addr, len, PROT_NONE or PROT_READ or PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, fd, off)
//	Window.Unmap, Release  mmap(addr, len, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE|MAP_FIXED, -1, 0)
//	NewThread              mprotect(addr, 4096, PROT_READ|PROT_WRITE)
//	Free                   madvise(addr, len, MADV_DONTNEED)
//	Install, Retire,       membarrier(MembarrierCommand, 0, 0)
//	Release, StopAndWait
//	Close                  munmap(addr, len)
//
// None of them maps anything executable. addr is inside what New reserved, with MAP_FIXED too.
package machine
