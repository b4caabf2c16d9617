package sentry

import (
	"reflect"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/mm"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// Some syscalls can change code without any mapping being changed, because the Sentry does the writing. Switch looks at
// them on their way from the program to the Sentry, by number, and so before they take effect:
//
//   - mprotect that adds write access: engine.protect.
//   - a write to /proc/PID/mem, which debuggers and some run-time patchers use: it changes code that no mapping makes
//     writable. Which is not said before the Sentry has parsed it, so all code goes, and none is published meanwhile.
//   - write(2) and its kin to a file whose pages are mapped and translated. Linux refuses that for running executables
//     (ETXTBSY), but not for libraries, and programs that write code to a file and map it do it in either order.
//
// For the latter a file must be recognised behind a descriptor, without slowing down every write. A descriptor's answer
// ("not code") is remembered per context. It holds until some task closes or replaces a descriptor, which is watched too,
// or until a file is added to those with translated code.

// fileID names a file as stat(2) does.
type fileID struct {
	dev uint64
	ino uint64
}

// memFile is what fileOf calls every /proc/PID/mem.
var memFile = fileID{^uint64(0), ^uint64(0)}

// watched says what is looked at, by syscall number.
type watched uint8

const (
	notWatched     watched = iota
	watchProtect           // mprotect
	watchMap               // mmap
	watchWriteArg0         // writes to the descriptor in the first argument
	watchWriteArg2         // in the third
	watchClose             // closes or replaces descriptors
)

const numWatched = 512

var watchedSyscalls = [numWatched]watched{
	unix.SYS_MPROTECT:        watchProtect,
	unix.SYS_PKEY_MPROTECT:   watchProtect,
	unix.SYS_MMAP:            watchMap,
	unix.SYS_WRITE:           watchWriteArg0,
	unix.SYS_PWRITE64:        watchWriteArg0,
	unix.SYS_WRITEV:          watchWriteArg0,
	unix.SYS_PWRITEV:         watchWriteArg0,
	unix.SYS_PWRITEV2:        watchWriteArg0,
	unix.SYS_FALLOCATE:       watchWriteArg0,
	unix.SYS_SENDFILE:        watchWriteArg0,
	unix.SYS_SPLICE:          watchWriteArg2,
	unix.SYS_COPY_FILE_RANGE: watchWriteArg2,
	unix.SYS_CLOSE:           watchClose,
	unix.SYS_CLOSE_RANGE:     watchClose,
	unix.SYS_DUP2:            watchClose,
	unix.SYS_DUP3:            watchClose,
	unix.SYS_EXECVE:          watchClose,
	unix.SYS_EXECVEAT:        watchClose,
}

// fdWatch is the engine's part: what the answers of all contexts depend on.
type fdWatch struct {
	// descriptors changes when a descriptor may have come to mean something else; closing is the number of tasks in
	// a syscall that does that, during which no answer is good.
	descriptors atomic.Uint64
	closing     atomic.Int64
	// codeFiles changes when a file is added to those that translated code comes from.
	codeFiles atomic.Uint64
	// patching is the number of tasks that are writing to some process's memory through a file. While it is not 0 no
	// blob is published: what it was made from may be changing.
	patching atomic.Int64
}

// fdAnswers are a context's remembered answers: descriptors that are no code.
type fdAnswers struct {
	closing  bool // this context's task is in a watched close
	patching bool // it writes to some process's memory
	slots    [fdSlots]fdAnswer
}

const fdSlots = 8

type fdAnswer struct {
	fd                     int32
	valid                  bool
	descriptors, codeFiles uint64
}

// atSyscall looks at the syscall that Switch is about to return to the Sentry.
func (c *threadContext) atSyscall(ctx pkgcontext.Context, as *addressSpace, regs *arch.Registers) {
	if regs.Orig_rax >= numWatched {
		return
	}
	switch watchedSyscalls[regs.Orig_rax] {
	case notWatched:
	case watchProtect:
		as.e.protect(as, regs.Rdi, regs.Rsi, regs.Rdx)
	case watchMap:
		if regs.Rdx&linux.PROT_WRITE != 0 && regs.R10&linux.MAP_SHARED != 0 && regs.R10&linux.MAP_ANONYMOUS == 0 {
			c.atWrite(ctx, as.e, int32(regs.R8))
		}
	case watchWriteArg0:
		c.atWrite(ctx, as.e, int32(regs.Rdi))
	case watchWriteArg2:
		c.atWrite(ctx, as.e, int32(regs.Rdx))
	case watchClose:
		c.fds.closing = true
		as.e.fds.closing.Add(1)
		as.e.fds.descriptors.Add(1)
	}
}

// afterWatched ends what atSyscall began. The task has come back from the Sentry, or is exiting.
func (c *threadContext) afterWatched() {
	w := &c.p.engine.fds
	if c.fds.closing {
		c.fds.closing = false
		w.descriptors.Add(1)
		w.closing.Add(-1)
	}
	if c.fds.patching {
		c.fds.patching = false
		w.patching.Add(-1)
	}
}

// atWrite makes sure that there is no code translated from the file of descriptor fd, now and from now on.
func (c *threadContext) atWrite(ctx pkgcontext.Context, e *engine, fd int32) {
	a := &c.fds.slots[uint32(fd)%fdSlots]
	descriptors, codeFiles := e.fds.descriptors.Load(), e.fds.codeFiles.Load()
	if a.fd == fd && a.valid && a.descriptors == descriptors && a.codeFiles == codeFiles && e.fds.closing.Load() == 0 {
		return
	}
	// The two were read before the file is looked at, so an answer that is out of date is known to be.
	id, ok := e.fileOf(ctx, fd)
	if ok && id == memFile {
		c.fds.patching = true
		e.fds.patching.Add(1)
		e.memoryWritten()
		return
	}
	if ok {
		e.written(id)
	}
	*a = fdAnswer{fd, e.fds.closing.Load() == 0, descriptors, codeFiles}
}

// fileOf returns which regular file the task's descriptor is.
func fileOf(ctx pkgcontext.Context, fd int32) (fileID, bool) {
	task, ok := ctx.(*kernel.Task)
	if !ok {
		return fileID{}, false
	}
	file := task.GetFile(fd)
	if file == nil {
		return fileID{}, false
	}
	defer file.DecRef(task)
	if reflect.TypeOf(file.Impl()).String() == "*proc.memFD" { // gVisor does not export it
		return memFile, true
	}
	st, err := file.Stat(task, vfs.StatOptions{Mask: linux.STATX_TYPE | linux.STATX_INO, Sync: linux.AT_STATX_DONT_SYNC})
	if err != nil || st.Mode&linux.S_IFMT != linux.S_IFREG {
		return fileID{}, false
	}
	return fileID{uint64(linux.MakeDeviceID(uint16(st.DevMajor), st.DevMinor)), st.Ino}, true
}

// written takes note that file id may be written from now on: its blobs go, and there will be none again. Few programs
// write to what they execute, and those do it again.
func (e *engine) written(id fileID) {
	e.mu.Lock()
	var gone []*blob
	if e.codeFiles[id] > 0 {
		e.tainted[id] = struct{}{}
		var hit []*blob
		for _, b := range e.blobs {
			for _, f := range b.ids {
				if f == id {
					hit = append(hit, b)
					break
				}
			}
		}
		for _, b := range hit {
			gone = append(gone, e.dropLocked(b)...)
		}
	}
	e.mu.Unlock()
	e.invalidated(gone)
}

// memoryWritten is called when a task is about to write to some process's memory.
func (e *engine) memoryWritten() {
	e.mu.Lock()
	var gone []*blob
	for _, b := range slices.Clone(e.blobs) {
		gone = append(gone, e.dropLocked(b)...)
	}
	e.mu.Unlock()
	e.invalidated(gone)
}

// claimFilesLocked notes that b, which is registered, comes from the files ids. It reports false when one of them has been
// written to while there was code from it.
func (e *engine) claimFilesLocked(b *blob, ids []fileID) bool {
	for _, id := range ids {
		if _, ok := e.tainted[id]; ok {
			return false
		}
	}
	for _, id := range ids {
		if e.codeFiles[id]++; e.codeFiles[id] == 1 {
			e.fds.codeFiles.Add(1)
		}
	}
	b.ids = ids
	return true
}

// disclaimFilesLocked undoes claimFilesLocked.
func (e *engine) disclaimFilesLocked(b *blob) {
	for _, id := range b.ids {
		if e.codeFiles[id]--; e.codeFiles[id] == 0 {
			delete(e.codeFiles, id)
		}
	}
	b.ids = nil
}

// owner is what an address space remembers of the Sentry's side of it.
type owner struct {
	mm     *mm.MemoryManager
	kernel *kernel.Kernel
}

// remember keeps the memory manager for sourceFiles. It is called on the task's goroutine, before a site is nominated.
func (as *addressSpace) remember(ctx pkgcontext.Context, m any) {
	if as.owner.Load() != nil {
		return
	}
	task, ok := ctx.(*kernel.Task)
	if !ok {
		return
	}
	if m, ok := m.(*mm.MemoryManager); ok {
		as.owner.Store(&owner{m, task.Kernel()})
	}
}

// noRoot is a context without a root directory. The supervisor's is that of the sandbox's first process, which may be
// gone by now, and asking for it would then crash the Sentry; names are not wanted here.
type noRoot struct{ pkgcontext.Context }

// Value implements context.Context.Value.
func (c noRoot) Value(key any) any {
	if key == vfs.CtxRoot {
		return nil
	}
	return c.Context.Value(key)
}

// sourceFiles returns the files that b's source is mapped from, and false when they cannot be had. b is registered, so it
// is dropped if that changes; no lock is held, since gVisor's own come before ours.
func sourceFiles(b *blob) ([]fileID, bool) {
	o := b.as.owner.Load()
	if o == nil || !o.mm.IncUsers() {
		return nil, false
	}
	ctx := noRoot{o.kernel.SupervisorContext()}
	defer o.mm.DecUsers(ctx)
	var ids []fileID
	o.mm.ReadMapsDataInto(ctx, func(start, end hostarch.Addr, _ hostarch.AccessType, _ string, _ uint64, major, minor uint32, ino uint64, _ string) {
		if ino == 0 {
			return // anonymous
		}
		for _, s := range b.source {
			if s.Start < uint64(end) && uint64(start) < s.End {
				// gVisor splits the encoded number at bit 20, which is not how it is made; joined, it is
				// what fileOf gets.
				ids = append(ids, fileID{uint64(major)<<20 | uint64(minor), ino})
				return
			}
		}
	})
	return ids, true
}
