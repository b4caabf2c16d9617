package programs

import (
	"strings"
	"testing"
)

// cCase is a C program of testdata, with arguments, linked in one or two ways.
type cCase struct {
	source string
	args   string // separated by spaces
	link   string // "static", "dynamic", or both by default
	expect
}

var cCases = []cCase{
	{source: "loops.c", expect: expect{minShare: 90}},
	{source: "regs.c", link: "static", expect: expect{minShare: 90}},
	{source: "redzone.c", expect: expect{minShare: 80}},
	{source: "fpu.c", link: "static", expect: expect{minShare: 70}},
	{source: "vectors.c", expect: expect{minShare: 95}},
	{source: "strings.c", link: "static", expect: expect{minShare: 25}},
	{source: "futex.c", expect: expect{minBypassed: 2000}},
	{source: "timer.c", link: "static", expect: expect{minBypassed: 20000}},
	{source: "storm.c", expect: expect{minBypassed: 1000}},
	{source: "killstop.c", link: "static", expect: expect{minBypassed: 10000}},
	{source: "eintr.c", expect: expect{minBypassed: 1000}},
	{source: "trees.c", expect: expect{minBypassed: 1000}},
	{source: "faults.c", args: "skip", link: "static", expect: expect{minBypassed: 1000}},
	{source: "faults.c", args: "fix", link: "static", expect: expect{minBypassed: 1000}},
	{source: "faults.c", args: "jump", link: "static", expect: expect{minBypassed: 1000}},
	{source: "flags.c", link: "static", expect: expect{minBypassed: 1000}},
	{source: "flags.c", args: "trap", link: "static", expect: expect{minBypassed: 1000, noPatching: "replaced calls change TF"}},
	{source: "bases.c", expect: expect{minBypassed: 1000, noPatching: "replaced calls lose the FS base"}},
	{source: "contexts.c", expect: expect{minBypassed: 1000}},
	{source: "vdso.c", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "flip", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "patch", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "rwx", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "child", link: "dynamic", expect: expect{minBypassed: 300}},
	{source: "smc.c", args: "over", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "moved", link: "dynamic", expect: expect{minBypassed: 1000, noPatching: "replaced calls jump relative to where they were"}},
	{source: "smc.c", args: "gone", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "zeroed", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "fork", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "calls", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "procmem", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "filewrite", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "self", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "dl", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "twice", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "smc.c", args: "sometimes", link: "dynamic", expect: expect{minBypassed: 1000}},
	{source: "races.c", args: "munmap", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "mprotect", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "dontneed", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "mremap", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "truncate", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "fork", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "codeunmap", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "codeprotect", link: "static", expect: expect{minBypassed: 500}},
	{source: "races.c", args: "codewrite", link: "static", expect: expect{minBypassed: 500}},
	{source: "memory.c", args: "cow", link: "static", expect: expect{minBypassed: 1000}},
	{source: "memory.c", args: "shm", link: "static", expect: expect{minBypassed: 1000}},
	{source: "memory.c", args: "remap", link: "static", expect: expect{minBypassed: 1000}},
	{source: "memory.c", args: "files", link: "static", expect: expect{minBypassed: 1000}},
	{source: "memory.c", args: "edges", link: "static", expect: expect{minBypassed: 1000}},
}

func TestC(t *testing.T) {
	needSandbox(t)
	for _, c := range cCases {
		links := []string{c.link}
		if c.link == "" {
			links = []string{"static", "dynamic"}
		}
		for _, link := range links {
			name := strings.TrimSuffix(c.source, ".c")
			if c.args != "" {
				name += " " + c.args
			}
			t.Run(name+" "+link, func(t *testing.T) {
				t.Parallel()
				var flags []string
				if link == "static" {
					flags = []string{"-static"}
				}
				bin, err := compile(c.source, flags...)
				if err != nil {
					t.Fatal(err)
				}
				compareRuns(t, c.expect, "", append([]string{bin}, strings.Fields(c.args)...)...)
			})
		}
	}
}
