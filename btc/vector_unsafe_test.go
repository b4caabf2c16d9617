package btc_test

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const ntX86XState = 0x202

// regset reads or writes the child's vector state as the kernel has it: an XSAVE area.
func (o *oracle) regset(t testing.TB, request int, b []byte) {
	t.Helper()
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(o.pid), ntX86XState, uintptr(unsafe.Pointer(&iov)), 0, 0); e != 0 {
		t.Fatalf("vector state of the child: %v", e)
	}
}
