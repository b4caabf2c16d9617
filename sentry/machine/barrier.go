package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// barrier returns after every thread of this process that was running has executed a full memory barrier and has
// serialized its instruction stream. Two uses rest on it:
//   - The entry to translated code sets seq and then reads epoch and the poll with plain instructions. Whoever changes
//     those and calls barrier then knows that each thread either is seen inside or sees the change.
//   - Arena memory that is used a second time: no core goes on executing what it fetched before the new bytes were
//     written (Intel SDM vol. 3 "Handling Self- and Cross-Modifying Code" asks for a serializing instruction there).
//
// The cost, a few microseconds, falls on the rare side only.
func barrier() {
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, MembarrierCommand, 0, 0); e != 0 {
		// Registered in New, so this is a seccomp filter that lacks the rule; going on would be unsafe.
		panic(fmt.Sprintf("membarrier(PRIVATE_EXPEDITED_SYNC_CORE): %v; allow it in the seccomp filter", e))
	}
}

// MembarrierCommand is the only command of membarrier(2) used after New: MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE.
const MembarrierCommand = 1 << 5

const (
	membarrierQuery            = 0
	membarrierRegisterSyncCore = 1 << 6
)

func barrierSupported() error {
	m, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierQuery, 0, 0)
	if e != 0 || m&MembarrierCommand == 0 {
		return fmt.Errorf("the kernel lacks membarrier's PRIVATE_EXPEDITED_SYNC_CORE: Linux 4.16 or later is needed, and no seccomp filter that forbids membarrier")
	}
	return nil
}

func registerBarrier() error {
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterSyncCore, 0, 0); e != 0 {
		return fmt.Errorf("registering for membarrier: %w", e)
	}
	return nil
}

// Prepare does what takes long in New and harms nobody if New is not called: registering the process with the kernel for
// barriers waits until every CPU has passed through the scheduler, 10 ms or more. New is right without it.
func Prepare() {
	// An error will be New's to report.
	_ = registerBarrier()
}
