package hostcheck

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes files below a root of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const release = "6.12.1-amd64"

// goodHost is a machine on which all works.
func goodHost() map[string]string {
	return map[string]string{
		"/proc/sys/kernel/osrelease":        release + "\n",
		"/proc/cpuinfo":                     "processor : 0\nflags\t\t: fpu bmi2 fsgsbase smap avx avx2\n\nprocessor : 1\n",
		"/proc/cmdline":                     "quiet ibt=off",
		"/sys/kernel/security/lockdown":     "[none] integrity confidentiality\n",
		"/sys/kernel/btf/vmlinux":           "x",
		"/sys/module/ub/refcnt":             "0",
		"/boot/config-" + release:           "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\nCONFIG_MMU_NOTIFIER=y\nCONFIG_KPROBES=y\n# CONFIG_X is not set\n",
		"/sys/devices/system/cpu/x":         "",
		"/lib/modules/" + release + "/x":    "",
		"/sys/firmware/x":                   "",
		"/proc/sys/kernel/modules_disabled": "0\n",
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  map[string]string // "" removes
		probes  Probes
		sandbox bool
		module  bool
		says    []string
	}{
		{"all is well", nil, Probes{Version: "interface 1"}, true, true, []string{"Looks good.", "AVX2", "loaded, interface 1"}},
		{"no BMI2", map[string]string{"/proc/cpuinfo": "flags : fsgsbase smap\n"}, Probes{}, false, false, []string{"BMI2", "What to do"}},
		{"no SMAP", map[string]string{"/proc/cpuinfo": "flags : bmi2 fsgsbase avx\n"}, Probes{}, true, false, []string{"SMAP"}},
		{"old kernel", map[string]string{"/proc/sys/kernel/osrelease": "5.15.0"}, Probes{}, true, false, []string{"older than 6.1", "Linux 6.1 or later"}},
		{"not loaded", map[string]string{"/sys/module/ub/refcnt": "", "/lib/modules/" + release + "/updates/dkms/ub.ko.xz": "x"}, Probes{Module: errors.New("x")}, true, false, []string{"module: `modprobe ub`"}},
		{"no headers", map[string]string{"/sys/module/ub/refcnt": ""}, Probes{}, true, false, []string{"install linux-headers-" + release}},
		{"Secure Boot", map[string]string{
			"/sys/module/ub/refcnt": "", "/lib/modules/" + release + "/build/Makefile": "x",
			"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01",
		}, Probes{}, true, false, []string{"enrol a key"}},
		{"locked", map[string]string{"/sys/module/ub/refcnt": "", "/proc/sys/kernel/modules_disabled": "1"}, Probes{}, true, false, []string{"restart the machine"}},
		{"lockdown", map[string]string{"/sys/kernel/security/lockdown": "none [integrity] confidentiality"}, Probes{}, true, true, []string{"only signed modules"}},
		{"another version", nil, Probes{Module: errors.New("the module speaks version 2")}, true, false, []string{"the module speaks version 2"}},
		{"kernel without ftrace", map[string]string{"/boot/config-" + release: "CONFIG_MMU_NOTIFIER=y\nCONFIG_KPROBES=y\n"}, Probes{}, true, false, []string{"CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"}},
		{"split locks and IBT", map[string]string{"/proc/cpuinfo": "flags : bmi2 fsgsbase smap avx avx2 split_lock_detect ibt pti fred\n", "/proc/cmdline": "split_lock_detect=fatal"}, Probes{}, true, true, []string{"trapped (fatal)", "ENDBR64", "PTI", "FRED"}},
		{"Retbleed", map[string]string{"/sys/devices/system/cpu/vulnerabilities/retbleed": "Mitigation: untrained return thunk; SMT enabled with STIBP protection\n"}, Probes{}, true, false, []string{"untrains them", "untrained=1"}},
		{"SRSO", map[string]string{"/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow": "Mitigation: Safe RET\n"}, Probes{}, true, false, []string{"untrained=1"}},
		{"IBPB on entry", map[string]string{"/sys/devices/system/cpu/vulnerabilities/retbleed": "Mitigation: IBPB\n"}, Probes{}, true, false, []string{"untrained=1"}},
		{"returns not trained", map[string]string{
			"/sys/devices/system/cpu/vulnerabilities/retbleed":             "Mitigation: Enhanced IBRS\n",
			"/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow": "Mitigation: IBPB on VMEXIT only\n",
		}, Probes{}, true, true, []string{"need not untrain"}},
		{"no sandbox", nil, Probes{Sandbox: errors.New("must be root: run it with sudo")}, false, true, []string{"must be root", "run it with sudo"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := goodHost()
			for k, v := range c.change {
				if files[k] = v; v == "" {
					delete(files, k)
				}
			}
			// What depends on the kernel's name moves with it.
			r := New(Read(tree(t, files)), &c.probes)
			if r.Works[Sandbox] != c.sandbox || r.Works[Module] != c.module {
				t.Errorf("works: %v", r.Works)
			}
			if r.Good(nil) != (c.sandbox || c.module) || r.Good([]string{Module}) != c.module {
				t.Error("good?")
			}
			var b strings.Builder
			if err := r.Text(&b); err != nil {
				t.Fatal(err)
			}
			for _, s := range c.says {
				if !strings.Contains(b.String(), s) {
					t.Errorf("does not say %q:\n%s", s, b.String())
				}
			}
			if strings.Contains(b.String(), "Looks good") != (c.sandbox && c.module) {
				t.Errorf("the last word:\n%s", b.String())
			}
		})
	}
}
