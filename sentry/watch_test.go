package sentry

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	pkgcontext "gvisor.dev/gvisor/pkg/context"

	"ub/sentry/machine"
)

// syscall has the rig's task make a bypassed syscall.
func (r *rig) syscall(nr, rdi, rsi, rdx, r10, r8_ uint64) {
	r.distinct(0x1100)
	r.th.run = func(t *fakeThread, code machine.Code) machine.Exit {
		g := &t.regs.GPR
		g[rax], g[rdi_], g[rsi_], g[rdx_], g[r10_], g[r8__] = nr, rdi, rsi, rdx, r10, r8_
		t.regs.RIP = 0x1100
		return machine.Exit{Reason: machine.ExitSyscall}
	}
	r.doSwitch()
}

// Names for register numbers that parameters hide.
const (
	rdi_ = rdi
	rsi_ = rsi
	rdx_ = rdx
	r10_ = r10
	r8__ = r8
)

// newWatchRig's code comes from file 12; descriptors from 10 on are regular files of their own number.
func newWatchRig(t *testing.T) *rig {
	r := newRig(t)
	b := r.as.sites[0x1100].blob
	r.ids = []fileID{{1, 12}}
	r.e.claimFilesLocked(b, r.ids)
	r.syscall(unix.SYS_GETPID, 0, 0, 0, 0, 0)
	r.take()
	return r
}

// TestWritesToMemory: a write to /proc/PID/mem takes all code away, and keeps new code from being published until it is
// done.
func TestWritesToMemory(t *testing.T) {
	r := newWatchRig(t)
	const fd = 99
	fileOf := r.e.fileOf
	r.e.fileOf = func(ctx pkgcontext.Context, n int32) (fileID, bool) {
		if n == fd {
			return memFile, true
		}
		return fileOf(ctx, n)
	}
	for range 2 {
		r.syscall(unix.SYS_PWRITE64, fd, 0, 4, 0x1000, 0)
		if live(r.as, 0x1100) {
			t.Fatal("code is still there")
		}
		r.e.nominate(r.as, 0x1100, nil)
		r.world.run()
		if live(r.as, 0x1100) {
			t.Fatal("published while the write goes on")
		}
		r.native() // it is over
		r.as.sites[0x1100].retryAt = time.Time{}
		r.e.nominate(r.as, 0x1100, nil)
		r.world.run()
		if !live(r.as, 0x1100) {
			t.Fatal("not translated again after the write")
		}
	}
}

func TestWritesToCodeFiles(t *testing.T) {
	for _, tc := range []struct {
		name                   string
		nr, a0, a1, a2, a3, a4 uint64
		gone                   bool
	}{
		{"write", unix.SYS_WRITE, 12, 0, 0, 0, 0, true},
		{"write to another file", unix.SYS_WRITE, 13, 0, 0, 0, 0, false},
		{"write to what is no file", unix.SYS_WRITE, 2, 0, 0, 0, 0, false},
		{"read", unix.SYS_READ, 12, 0, 0, 0, 0, false},
		{"pwrite64", unix.SYS_PWRITE64, 12, 0, 0, 0, 0, true},
		{"writev", unix.SYS_WRITEV, 12, 0, 0, 0, 0, true},
		{"pwritev2", unix.SYS_PWRITEV2, 12, 0, 0, 0, 0, true},
		{"fallocate", unix.SYS_FALLOCATE, 12, 0, 0, 0, 0, true},
		{"sendfile into it", unix.SYS_SENDFILE, 12, 13, 0, 0, 0, true},
		{"sendfile from it", unix.SYS_SENDFILE, 13, 12, 0, 0, 0, false},
		{"splice into it", unix.SYS_SPLICE, 3, 0, 12, 0, 0, true},
		{"copy_file_range into it", unix.SYS_COPY_FILE_RANGE, 13, 0, 12, 0, 0, true},
		{"mmap shared and writable", unix.SYS_MMAP, 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED, 12, true},
		{"mmap private and writable", unix.SYS_MMAP, 0, 4096, unix.PROT_WRITE, unix.MAP_PRIVATE, 12, false},
		{"mmap shared and readable", unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_SHARED, 12, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newWatchRig(t)
			r.syscall(tc.nr, tc.a0, tc.a1, tc.a2, tc.a3, tc.a4)
			if live(r.as, 0x1100) == tc.gone {
				t.Errorf("code is there: %v, want %v", !tc.gone, !tc.gone)
			}
			if tc.gone {
				r.want("order", "retire 1100", "expel")
				// And it does not come back: the file may be written to again.
				r.e.nominate(r.as, 0x1100, nil)
				r.world.run()
				if live(r.as, 0x1100) {
					t.Error("translated again from a file that is being written")
				}
				if len(r.e.codeFiles) != 0 {
					t.Errorf("code files left: %v", r.e.codeFiles)
				}
			}
		})
	}
}

// A descriptor is looked up once, until descriptors or the files with code change.
func TestDescriptorAnswersAreRemembered(t *testing.T) {
	r := newWatchRig(t)
	write := func(fd uint64) (asked bool) {
		before := r.fileOfCalls
		r.syscall(unix.SYS_WRITE, fd, 0, 0, 0, 0)
		return r.fileOfCalls > before
	}
	if !write(13) || write(13) || write(13) {
		t.Error("an answer is not remembered")
	}
	if !write(13+fdSlots) || !write(13) {
		t.Error("an answer is taken for another descriptor's")
	}
	for _, nr := range []uint64{unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_EXECVE} {
		r.syscall(nr, 13, 0, 0, 0, 0)
		if !write(13) || write(13) {
			t.Errorf("after syscall %d the answer is not asked for again, once", nr)
		}
	}
	// Another file gets code.
	r.ids = []fileID{{1, 13}}
	r.e.nominate(r.as, 0x1300, nil)
	r.world.run()
	if !live(r.as, 0x1300) {
		t.Fatal("no code from file 13")
	}
	if write(13); live(r.as, 0x1300) || !live(r.as, 0x1100) {
		t.Error("writing to file 13 must drop its code and no other")
	}

	// While another task is closing something, no answer is good.
	other := newContext(r.p, &fakeContext{})
	write(14)
	r.distinct(0x1500)
	regs := r.regs()
	regs.Orig_rax = unix.SYS_CLOSE
	other.atSyscall(nil, r.as, regs)
	if !write(14) || !write(14) {
		t.Error("an answer was used while descriptors change")
	}
	other.inner.(*fakeContext).native = nil
	other.Release() // the task dies in close
	if n := r.e.fds.closing.Load(); n != 0 {
		t.Errorf("%d tasks still closing", n)
	}
	if write(14); write(14) {
		t.Error("answers are not remembered any more")
	}
}
