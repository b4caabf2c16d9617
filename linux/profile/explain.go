package profile

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// host is what a failure can come from.
type host struct {
	caps     uint64 // effective capabilities
	seccomp  bool   // a filter is on this process
	btf      bool
	initPID  bool   // process ids are those of the kernel
	lockdown string // none, integrity or confidentiality; "" if there is no such thing
	release  string
}

// Explain returns an error that says what is missing for profiling and what to do about it, if it can be told.
func Explain(err error) error {
	if why := thisHost().explain(err); why != "" {
		return fmt.Errorf("%s (%w)", why, short(err))
	}
	return err
}

// Check says beforehand what will not work.
func Check() error {
	h := thisHost()
	switch {
	case !h.capable():
		return errors.New(noCapability)
	case !h.initPID:
		return errors.New(noPIDNamespace)
	case !h.btf:
		return errors.New(noBTF(h.release))
	}
	return nil
}

// The bits of CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF.
const (
	capAdmin = 1 << unix.CAP_SYS_ADMIN
	capBPF   = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
)

const (
	noCapability   = "profiling needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: run it as root, in a container with --privileged"
	noPIDNamespace = "profiling needs the machine's own process ids, and this is a PID namespace: run it outside of the container, or start that with --pid=host"
)

func noBTF(release string) string {
	return fmt.Sprintf("the kernel (%s) has no type information, /sys/kernel/btf/vmlinux: use a kernel with CONFIG_DEBUG_INFO_BTF, as distributions have it since about 2020", release)
}

func (h *host) capable() bool { return h.caps&capAdmin != 0 || h.caps&capBPF == capBPF }

// explain returns why err has come, "" if it does not know.
func (h *host) explain(err error) string {
	switch {
	case errors.Is(err, errGone):
		return "" // says it all
	case errors.Is(err, unix.ENOSYS):
		return "the kernel (" + h.release + ") has no bpf system call: use one with CONFIG_BPF_SYSCALL"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		switch {
		case !h.capable():
			return noCapability
		case h.lockdown == "integrity" || h.lockdown == "confidentiality":
			return "the kernel is locked down (" + h.lockdown + "), which can forbid eBPF: boot without lockdown= or Secure Boot"
		case h.seccomp:
			return "a seccomp filter on this process forbids bpf or perf_event_open: run it outside of the container, or start that with --privileged"
		}
	case !h.btf:
		return noBTF(h.release)
	}
	return ""
}

// short is the first line of an error: the verifier's have a thousand.
func short(err error) error {
	line, _, more := strings.Cut(err.Error(), "\n")
	if !more {
		return err
	}
	return errors.New(line)
}

// thisHost looks around.
func thisHost() *host {
	h := &host{}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		for _, l := range strings.Split(string(b), "\n") {
			key, value, _ := strings.Cut(l, ":")
			switch key {
			case "CapEff":
				_, _ = fmt.Sscanf(strings.TrimSpace(value), "%x", &h.caps)
			case "Seccomp":
				h.seccomp = strings.TrimSpace(value) == "2"
			}
		}
	}
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	h.btf = err == nil
	// The first namespace has a fixed number.
	ns, err := os.Readlink("/proc/self/ns/pid")
	h.initPID = err != nil || ns == "pid:[4026531836]"
	if b, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil {
		h.lockdown = chosen(string(b))
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.release = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	return h
}

// chosen returns the word in brackets of a file like "none [integrity] confidentiality".
func chosen(s string) string {
	_, s, _ = strings.Cut(s, "[")
	s, _, _ = strings.Cut(s, "]")
	return s
}
