package sfi

import (
	"debug/elf"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// systemBinaries finds real code: the C library, the interpreters, the compiler, as far as they are installed.
func systemBinaries() (paths []string) {
	for _, pattern := range []string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libm.so.6", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/bin/python3", "/usr/bin/perl", "/usr/bin/bash", "/usr/bin/git", "/usr/bin/gcc",
	} {
		found, _ := filepath.Glob(pattern)
		paths = append(paths, found...)
	}
	if goTool, err := exec.LookPath("gofmt"); err == nil {
		paths = append(paths, goTool)
	}
	return paths
}

// TestSystemBinaries decodes the text of whole programs with Zydis. Whatever the verifier's decoder accepts of it must have
// the same length, operands, registers; and what it refuses must be refused for a reason that is known here.
func TestSystemBinaries(t *testing.T) {
	c := newCensus(t)
	limit := 400_000 // instructions of each file
	if testing.Short() {
		limit = 50_000
	}
	refused := map[string]int{}
	example := map[string]string{}
	files := 0
	for _, path := range systemBinaries() {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		section := f.Section(".text")
		if section == nil {
			continue
		}
		text, err := section.Data()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		files++
		pure := true // no data between the code, as far as that can be seen
		fileRefused := map[string]int{}
		for off, n := 0, 0; off < len(text) && n < limit; n++ {
			if !c.z.decode(text[off:]) {
				pure = false
				off++
				continue
			}
			length := int(c.z.inst.length)
			mnemonic := c.z.mnemonic()
			var in inst
			if err := c.table.decode(text, uint32(off), &in); err != nil {
				if c.z.allowed() {
					k := fmt.Sprintf("%s %v: %s", mnemonic, err.Rule, err.Detail)
					fileRefused[k]++
					example[k] = hex.EncodeToString(text[off : off+length])
				}
			} else {
				c.try(text[off:])
			}
			off += length
		}
		for k, n := range fileRefused {
			if pure {
				refused[k] += n
			}
		}
	}
	if files == 0 {
		t.Skip("none of the usual programs is installed")
	}
	c.report()
	t.Logf("%d files, %d instructions compared", files, c.accepted)
	// Forms of allowed mnemonics that the verifier refuses in real code, and why that is right.
	known := []string{
		"rsp:",                     // the program's RSP is a slot
		"segment:",                 // FS, CS in padding
		"indirect:",                // jmp through a register
		"nop form:",                // padding of the program is not copied
		"nop prefix",               // the same
		"vector:",                  // mov names that Zydis shares with SSE: movsd
		"truncated:",               // the section ends in the middle
		"bits:",                    // bt with memory and a register offset
		"lea prefix",               // padding of TLS sequences (66 48 8D); 67 where only 32 bits are wanted
		"mov prefix: 66: a second", // padding of TLS sequences
	}
	for _, k := range slices.Sorted(maps.Keys(refused)) {
		if !slices.ContainsFunc(known, func(s string) bool { return strings.Contains(k, s) }) {
			t.Errorf("%d times refused in real code: %s (%s)", refused[k], k, example[k])
		}
	}
	if os.Getenv("SFI_VERBOSE") != "" {
		for _, k := range slices.Sorted(maps.Keys(refused)) {
			t.Logf("%d %s (%s)", refused[k], k, example[k])
		}
	}
}
