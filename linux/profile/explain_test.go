package profile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	good := host{caps: capBPF, btf: true, initPID: true, release: "Linux 6.1"}
	with := func(change func(*host)) host {
		h := good
		change(&h)
		return h
	}
	wrapped := fmt.Errorf("loading: %w", unix.EPERM)
	for _, c := range []struct {
		name string
		h    host
		err  error
		want string
	}{
		{"not root", with(func(h *host) { h.caps = 0 }), wrapped, "run it as root"},
		{"half of the capabilities", with(func(h *host) { h.caps = 1 << unix.CAP_BPF }), wrapped, "CAP_PERFMON"},
		{"lockdown", with(func(h *host) { h.lockdown = "confidentiality" }), wrapped, "locked down (confidentiality)"},
		{"seccomp", with(func(h *host) { h.seccomp = true }), wrapped, "seccomp"},
		{"old kernel", good, fmt.Errorf("loading: %w", unix.ENOSYS), "CONFIG_BPF_SYSCALL"},
		{"no BTF", with(func(h *host) { h.btf = false }), errors.New("not found"), "CONFIG_DEBUG_INFO_BTF"},
		{"who knows", good, errors.New("something else"), ""},
		{"who knows about EPERM", good, wrapped, ""},
		{"gone", with(func(h *host) { h.caps = 0 }), fmt.Errorf("process 1: %w", errGone), ""},
	} {
		got := c.h.explain(c.err)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if strings.Contains(got, "\n") {
			t.Errorf("%s: more than a line: %q", c.name, got)
		}
	}
	if got := chosen("none integrity [confidentiality]\n"); got != "confidentiality" {
		t.Errorf("lockdown: %q", got)
	}
}
