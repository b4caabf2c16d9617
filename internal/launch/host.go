package launch

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ub/sentry/machine"
)

// CheckHost says what this machine or user lacks, and what to do, before gVisor fails in some longer way.
func CheckHost(bypass bool) error {
	if os.Geteuid() != 0 {
		return errors.New("must be root, to make namespaces and to trace the sandbox's processes: run it with sudo")
	}
	if err := checkCapabilities(); err != nil {
		return err
	}
	if b, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail"); err != nil || !strings.Contains(string(b), "trap") {
		return errors.New("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), which gVisor needs: use a kernel that has")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) == "3" {
		return errors.New("ptrace is forbidden for everyone (kernel.yama.ptrace_scope is 3), and gVisor needs it: set it to 2 or less, which takes a reboot")
	}
	if bypass {
		if err := machine.Supported(); err != nil {
			return fmt.Errorf("no bypass: %w; use --bypass=off", err)
		}
	}
	return nil
}

// checkCapabilities finds out whether root is root: in most containers it is not.
func checkCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}, {unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_SETUID, "CAP_SETUID"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("root here lacks %s: in a container, start that one with --privileged", strings.Join(missing, ", "))
	}
	return nil
}
