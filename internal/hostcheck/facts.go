// Package hostcheck finds out what of ub works on a machine, and what to do about the rest.
package hostcheck

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Facts are what the files of /proc, /sys and the like say of a machine.
type Facts struct {
	Release string // of the kernel
	Flags   map[string]bool

	// Module.
	Loaded     bool
	Installed  bool // in /lib/modules
	Headers    bool
	Locked     bool   // by sysctl: no module can be loaded any more
	Lockdown   string // none, integrity, confidentiality, "" if unknown
	SigEnforce bool   // unsigned modules are refused
	SecureBoot string // on, off, none (no EFI)
	IBT        bool
	SplitLock  string // off, warn, fatal; "" if the processor cannot
	PTI        bool
	Fred       bool
	Config     map[string]bool // of the kernel; nil if unknown
	BTF        bool
	Untrains   bool // the kernel undoes, on its way in, what a program has taught the processor about returns
}

// Read reads the facts below root, which is / but in tests.
func Read(root string) *Facts {
	at := func(p string) string { return filepath.Join(root, p) }
	text := func(p string) string {
		b, _ := os.ReadFile(at(p))
		return strings.TrimSpace(string(b))
	}
	exists := func(p string) bool {
		_, err := os.Stat(at(p))
		return err == nil
	}
	f := &Facts{Release: text("/proc/sys/kernel/osrelease"), Flags: map[string]bool{}}
	for l := range strings.Lines(text("/proc/cpuinfo")) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "flags" {
			for _, w := range strings.Fields(v) {
				f.Flags[w] = true
			}
			break
		}
	}
	cmdline := strings.Fields(text("/proc/cmdline"))
	option := func(name string) string {
		v := ""
		for _, w := range cmdline {
			if s, ok := strings.CutPrefix(w, name+"="); ok {
				v = s
			}
		}
		return v
	}
	f.Loaded = exists("/sys/module/ub")
	modules := "/lib/modules/" + f.Release
	f.Headers = exists(modules + "/build/Makefile")
	for _, d := range []string{"extra", "updates", "updates/dkms", "kernel/extra"} {
		m, _ := filepath.Glob(at(modules + "/" + d + "/ub.ko*"))
		f.Installed = f.Installed || len(m) > 0
	}
	f.Locked = text("/proc/sys/kernel/modules_disabled") == "1"
	if m := regexp.MustCompile(`\[(\w+)\]`).FindStringSubmatch(text("/sys/kernel/security/lockdown")); m != nil {
		f.Lockdown = m[1]
	}
	f.SigEnforce = text("/sys/module/module/parameters/sig_enforce") == "Y"
	f.SecureBoot = secureBoot(root)
	f.IBT = f.Flags["ibt"] && option("ibt") != "off"
	if f.Flags["split_lock_detect"] {
		f.SplitLock = "warn"
		if v := option("split_lock_detect"); v == "off" || v == "fatal" {
			f.SplitLock = v
		}
	}
	f.PTI = strings.Contains(text("/sys/devices/system/cpu/vulnerabilities/meltdown"), "PTI") || f.Flags["pti"]
	f.Fred = f.Flags["fred"]
	for _, v := range []string{"retbleed", "spec_rstack_overflow"} {
		how, _, _ := strings.Cut(text("/sys/devices/system/cpu/vulnerabilities/"+v), ";")
		switch how {
		case "Mitigation: untrained return thunk", "Mitigation: Safe RET", "Mitigation: IBPB":
			f.Untrains = true
		}
	}
	f.BTF = exists("/sys/kernel/btf/vmlinux")
	f.Config = readConfig(text("/boot/config-"+f.Release), text(modules+"/build/.config"))
	return f
}

// secureBoot reads the firmware's variable: four bytes of attributes, then 1 or 0.
func secureBoot(root string) string {
	dir := filepath.Join(root, "/sys/firmware/efi")
	if _, err := os.Stat(dir); err != nil {
		return "none"
	}
	b, err := os.ReadFile(filepath.Join(dir, "efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	if err == nil && len(b) == 5 && b[4] == 1 {
		return "on"
	}
	return "off"
}

// readConfig takes the first text that is the configuration of a kernel.
func readConfig(texts ...string) map[string]bool {
	for _, t := range texts {
		if !strings.Contains(t, "CONFIG_") {
			continue
		}
		c := map[string]bool{}
		for l := range strings.Lines(t) {
			if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok && v == "y" {
				c[k] = true
			}
		}
		return c
	}
	return nil
}

// atLeast tells whether the kernel is of a version or later.
func (f *Facts) atLeast(major, minor int) bool {
	m := regexp.MustCompile(`^(\d+)\.(\d+)`).FindStringSubmatch(f.Release)
	if m == nil {
		return false
	}
	a, _ := strconv.Atoi(m[1])
	b, _ := strconv.Atoi(m[2])
	return a > major || a == major && b >= minor
}
