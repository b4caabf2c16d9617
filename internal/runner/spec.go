package runner

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/specutils"

	"ub/internal/launch"
)

// programSpec describes the sandbox to gVisor in the language of OCI: the host's file system as it is, with the kernel's
// own file systems replaced by the sandbox's.
func programSpec(req *launch.Request) *specs.Spec {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "ub"
	}
	spec := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: req.Root},
		Hostname: hostname,
		Process: &specs.Process{
			Terminal:     req.Terminal,
			User:         currentUser(),
			Args:         req.Args,
			Env:          req.Env,
			Cwd:          req.Cwd,
			Capabilities: specutils.AllCapabilities(),
			Rlimits:      currentLimits(),
		},
		Mounts: []specs.Mount{{
			// glibc's shm_open and tests of tmpfs want it; the sandbox's /dev has an empty directory there.
			Type: "tmpfs", Source: "tmpfs", Destination: "/dev/shm", Options: []string{"mode=01777"},
		}},
		Linux: &specs.Linux{},
	}
	if req.Network == launch.NetworkNone {
		spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}
	}
	for _, p := range req.RW {
		spec.Mounts = append(spec.Mounts, specs.Mount{Type: "bind", Source: p, Destination: p, Options: []string{"rbind", "rw"}})
	}
	return spec
}

func currentUser() specs.User {
	u := specs.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	groups, _ := os.Getgroups()
	for _, g := range groups {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	u.Umask = ptr(uint32(mask))
	return u
}

// currentLimits returns the resource limits that a program would inherit, but for RLIMIT_NOFILE, which the Go runtime has
// raised for its own use.
func currentLimits() []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, l := range []struct {
		name string
		res  int
	}{
		{"RLIMIT_CPU", unix.RLIMIT_CPU},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE},
		{"RLIMIT_DATA", unix.RLIMIT_DATA},
		{"RLIMIT_STACK", unix.RLIMIT_STACK},
		{"RLIMIT_CORE", unix.RLIMIT_CORE},
		{"RLIMIT_AS", unix.RLIMIT_AS},
	} {
		var r unix.Rlimit
		if unix.Getrlimit(l.res, &r) == nil {
			out = append(out, specs.POSIXRlimit{Type: l.name, Soft: r.Cur, Hard: r.Max})
		}
	}
	return out
}
