package hostcheck

import (
	"fmt"
	"io"
	"strings"
)

// Level of an item.
type Level string

const (
	OK   Level = "ok"
	Note Level = "note" // works, but look at this
	Bad  Level = "no"
)

// Item is one thing that was looked at.
type Item struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	// Next is what to do about it.
	Next string `json:"next,omitempty"`
	// For names the parts of ub that it is about, if not all.
	For []string `json:"for"`
}

// The parts of ub.
const (
	Sandbox = "sandbox" // ub run
	Module  = "module"  // ub run --kernel=linux, ub attach
	Profile = "profile" // ub profile
)

// Parts lists them.
var Parts = []string{Sandbox, Module, Profile}

// Report is what works on a machine.
type Report struct {
	Kernel string          `json:"kernel"`
	Works  map[string]bool `json:"works"`
	Items  []Item          `json:"items"`
}

// Probes are what cannot be read from files: each says what is wrong, or nil.
type Probes struct {
	Sandbox error
	Profile error
	Module  error // opening the device, with the version of its interface
	Version string
}

// New judges.
func New(f *Facts, p *Probes) *Report {
	r := &Report{Kernel: f.Release, Works: map[string]bool{}}
	r.cpu(f)
	r.sandbox(p)
	r.module(f, p)
	r.profile(f, p)
	for _, part := range Parts {
		r.Works[part] = true
	}
	for _, it := range r.Items {
		if it.Level == Bad {
			for _, part := range it.For {
				r.Works[part] = false
			}
		}
	}
	return r
}

func (r *Report) add(name string, l Level, detail, next string, parts ...string) {
	r.Items = append(r.Items, Item{name, l, detail, next, parts})
}

// need adds an item that is OK or Bad.
func (r *Report) need(name string, ok bool, good, bad, next string, parts ...string) bool {
	if ok {
		r.add(name, OK, good, "", parts...)
	} else {
		r.add(name, Bad, bad, next, parts...)
	}
	return ok
}

func (r *Report) cpu(f *Facts) {
	const cpu = "use a machine with a newer processor, or a virtual machine that passes the feature on"
	r.need("BMI2", f.Flags["bmi2"], "pdep, pext and shifts without flags", "the processor has no BMI2", cpu, Sandbox, Module)
	r.need("FSGSBASE", f.Flags["fsgsbase"], "segment bases can be set without the kernel", "no FSGSBASE: the processor or the kernel has it off", cpu, Sandbox)
	r.need("SMAP", f.Flags["smap"], "kernel mode cannot touch programs' memory unless it says so", "the processor has no SMAP, or it is off (nosmap)", cpu, Module)
	switch {
	case f.Flags["avx512f"] && f.Flags["avx512vl"] && f.Flags["avx512bw"] && f.Flags["avx512dq"]:
		r.add("vectors", OK, "AVX-512", "", Sandbox, Module)
	case f.Flags["avx2"]:
		r.add("vectors", OK, "AVX2", "", Sandbox, Module)
	case f.Flags["avx"]:
		r.add("vectors", OK, "AVX", "", Sandbox, Module)
	default:
		r.add("vectors", Note, "no AVX: code with vector instructions runs natively", "", Sandbox, Module)
	}
}

func (r *Report) sandbox(p *Probes) {
	if p.Sandbox == nil {
		r.add("sandbox", OK, "gVisor can run here, with bypass", "", Sandbox)
		return
	}
	// What the processor lacks has been said.
	what, next, ok := strings.Cut(p.Sandbox.Error(), ": ")
	if !ok {
		what, next = p.Sandbox.Error(), ""
	}
	r.add("sandbox", Bad, what, next, Sandbox)
}

func (r *Report) module(f *Facts, p *Probes) {
	r.need("kernel", f.atLeast(6, 1), f.Release, f.Release+" is older than 6.1", "the module needs Linux 6.1 or later", Module)
	switch {
	case f.Config == nil:
		r.add("config", Note, "the kernel's configuration is not known: the module itself says what it lacks", "", Module)
	default:
		for _, c := range []string{"CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "CONFIG_MMU_NOTIFIER", "CONFIG_KPROBES"} {
			r.need(c, f.Config[c], "set", "not set", "use a kernel that has it: those of distributions do", Module)
		}
	}
	if f.IBT {
		r.add("IBT", Note, "the kernel tracks indirect branches: translated code is entered at ENDBR64", "", Module)
	} else {
		r.add("IBT", OK, "off", "", Module)
	}
	switch f.SplitLock {
	case "", "off":
		r.add("split locks", OK, "no trap", "", Module)
	default:
		r.add("split locks", Note, "trapped ("+f.SplitLock+"): code with LOCK is not taken, and runs natively", "split_lock_detect=off on the kernel's command line, if that matters", Module)
	}
	if f.PTI {
		r.add("PTI", OK, "on: crossings are dear here, and bypass saves the more", "", Module)
	} else {
		r.add("PTI", OK, "off: crossings are cheap here, so do not expect much of the module", "", Module)
	}
	if f.Fred {
		r.add("FRED", Note, "in use: crossings are cheap here, so do not expect much of the module", "", Module)
	}
	r.need("returns", !f.Untrains, "the kernel need not untrain them", "the kernel untrains them on its way in (Retbleed, SRSO), but cannot for interrupts of translated code",
		"modprobe ub untrained=1, if programs on this machine may read the kernel's memory", Module)
	r.loaded(f, p)
}

// loaded is about the module: whether it is there, and what could keep it from being loaded.
func (r *Report) loaded(f *Facts, p *Probes) {
	if f.Lockdown == "integrity" || f.Lockdown == "confidentiality" {
		r.add("lockdown", Note, f.Lockdown+": only signed modules can be loaded", "", Module)
	} else {
		r.add("lockdown", OK, orWord(f.Lockdown, "unknown"), "", Module)
	}
	strict := f.SecureBoot == "on" || f.SigEnforce || f.Lockdown == "integrity" || f.Lockdown == "confidentiality"
	switch {
	case f.SecureBoot == "on":
		r.add("Secure Boot", Note, "on: the module must be signed with a key that the firmware knows", "", Module)
	case f.SecureBoot == "none":
		r.add("Secure Boot", OK, "no EFI firmware", "", Module)
	default:
		r.add("Secure Boot", OK, "off", "", Module)
	}
	if f.Loaded {
		r.need("module", p.Module == nil, "loaded, "+p.Version, errorText(p.Module), "", Module)
		return
	}
	next := "docs/install-module.md: `make -C linux/module install`, then `modprobe ub`"
	what := "not loaded"
	switch {
	case f.Locked:
		what, next = "not loaded, and the kernel takes no modules any more (kernel.modules_disabled)", "restart the machine, and load it before that is set"
	case f.Installed && strict:
		next = "`modprobe ub`; if the key is rejected: docs/install-module.md, Secure Boot"
	case f.Installed:
		next = "`modprobe ub`"
	case !f.Headers:
		what = "not installed, and there are no headers of this kernel to build it"
		next = fmt.Sprintf("install linux-headers-%s, then see docs/install-module.md", f.Release)
	case strict:
		next = "docs/install-module.md: install it, and enrol a key for Secure Boot"
	}
	r.add("module", Bad, what, next, Module)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

func (r *Report) profile(f *Facts, p *Probes) {
	r.need("BTF", f.BTF, "the kernel knows its own types", "there is no /sys/kernel/btf/vmlinux", "use a kernel with CONFIG_DEBUG_INFO_BTF: those of distributions have it", Profile)
	if p.Profile != nil && f.BTF {
		r.add("eBPF", Bad, p.Profile.Error(), "", Profile)
	}
}

// Text prints the report for people.
func (r *Report) Text(w io.Writer) error {
	for _, it := range r.Items {
		fmt.Fprintf(w, "%-4s  %-*s  %s\n", it.Level, 12, it.Name, it.Detail)
	}
	fmt.Fprintln(w)
	for _, p := range []struct{ part, what string }{
		{Sandbox, "ub run"}, {Module, "ub run --kernel=linux, ub attach"}, {Profile, "ub profile"},
	} {
		word := "works here"
		if !r.Works[p.part] {
			word = "does not work here"
		}
		fmt.Fprintf(w, "%-33s %s\n", p.what, word)
	}
	todo := r.todo()
	if len(todo) == 0 {
		_, err := fmt.Fprintln(w, "\nLooks good.")
		return err
	}
	fmt.Fprintln(w, "\nWhat to do about it:")
	for _, t := range todo {
		fmt.Fprintf(w, "  %s\n", t)
	}
	return nil
}

// todo lists what to do, each once.
func (r *Report) todo() []string {
	var out []string
	seen := map[string]bool{}
	for _, it := range r.Items {
		if it.Level != Bad {
			continue
		}
		t := it.Name + ": " + it.Detail
		if it.Next != "" {
			t = it.Name + ": " + it.Next
		}
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// Good tells whether all of the parts work, or, when none is named, at least one of the two kernels.
func (r *Report) Good(parts []string) bool {
	if len(parts) == 0 {
		return r.Works[Sandbox] || r.Works[Module]
	}
	for _, p := range parts {
		if !r.Works[p] {
			return false
		}
	}
	return true
}
