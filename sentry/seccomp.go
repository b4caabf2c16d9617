package sentry

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
)

// membarrierSyncCore is MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, which package machine uses.
const membarrierSyncCore = 1 << 5

// seccompInfo is systrap's, plus the system calls of package machine (see its documentation). The Sentry's own filter,
// which all platforms share, allows the others of them already; none can make memory executable, here or there.
type seccompInfo struct {
	platform.SeccompInfo
}

// ConfigKey implements platform.SeccompInfo.ConfigKey. It differs from systrap's, so that gVisor does not use the filter
// that it has precompiled for systrap.
func (s seccompInfo) ConfigKey() string {
	return s.SeccompInfo.ConfigKey() + "+" + Name
}

// SyscallFilters implements platform.SeccompInfo.SyscallFilters.
func (s seccompInfo) SyscallFilters(vars precompiledseccomp.Values) seccomp.SyscallRules {
	return s.SeccompInfo.SyscallFilters(vars).Merge(seccomp.MakeSyscallRules(map[uintptr]seccomp.SyscallRule{
		// Window.Unmap and Window.Release: back to nothing.
		unix.SYS_MMAP: seccomp.PerArg{
			seccomp.AnyValue{},
			seccomp.AnyValue{},
			seccomp.EqualTo(unix.PROT_NONE),
			seccomp.EqualTo(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | unix.MAP_FIXED),
		},
		unix.SYS_MEMBARRIER: seccomp.PerArg{
			seccomp.EqualTo(membarrierSyncCore),
			seccomp.EqualTo(0),
		},
	}))
}
