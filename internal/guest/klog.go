package guest

import (
	"regexp"
	"strings"
)

// trouble matches lines of a kernel log that say that something is wrong with the kernel.
var trouble = regexp.MustCompile(strings.Join([]string{
	`\bBUG\b`, `WARNING`, `\bOops\b`, `Kernel panic`, `general protection`, `Call Trace`,
	`stall`, `lockup`, `LOCKUP`, `blocked for more than`, `scheduling while atomic`, `bad page`, `Bad page`, `Bad rss`,
	`unable to handle`, `refcount_t`, `list_(add|del) corruption`, `stack guard page`, `double fault`, `#DF`,
	`kernel stack`, `corrupted`, `use-after-free`, `hung`, `[Ii]nvalid opcode`, `alignment check`, `nobody cared`,
	`sleeping function`, `NMI`, `NULL pointer`, `sysfs: cannot create duplicate`, `split lock`, `memory leak`,
	`Unpatched return thunk`, `unexpected #NM`, `x86/fpu: .*[Bb]ad`, `Missing ENDBR`,
}, "|"))

// noTrouble matches lines that trouble would match, but that tell of programs, or of a healthy boot.
var noTrouble = regexp.MustCompile(`traps: \S+\[\d+\]|NMI watchdog: (Enabled|Perf NMI)|rcu: .*(RCU CPU stall warnings|rcu_cpu_stall)` +
	`|Spectre V2 : WARNING|MDS: Vulnerable|lockup_detector|hung_task: |Perf NMI watchdog permanently disabled|NMI: Not|ACPI: .*NMI|hungtask`)

// Trouble returns the lines of a kernel log that say that something is wrong with the kernel.
func Trouble(log string) []string {
	var out []string
	for l := range strings.Lines(log) {
		if trouble.MatchString(l) && !noTrouble.MatchString(l) {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return out
}

// Bits of the kernel's taint mask that tell of trouble: machine check, bad page, died, warned, soft lock-up.
const badTaint = 1<<4 | 1<<5 | 1<<7 | 1<<9 | 1<<14
