package x86

import (
	"debug/elf"
	"path/filepath"
	"regexp"
	"testing"
)

// corpora are the programs whose code both decoders must agree on.
var corpora = []string{
	"/usr/bin/redis-server",
	"/usr/sbin/nginx",
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/usr/bin/python3.11",
}

type section struct {
	name string
	addr uint64
	data []byte
}

// codeOf returns the executable sections of an ELF file, or skips the test.
func codeOf(t testing.TB, path string) []section {
	f, err := elf.Open(path)
	if err != nil {
		t.Skipf("%v (Debian packages redis-server nginx-core libssl3 python3.11-minimal)", err)
	}
	defer f.Close()
	var out []section
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 || s.Type != elf.SHT_PROGBITS {
			continue
		}
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, section{s.Name, s.Addr, data})
	}
	return out
}

// tally counts differences by what they say, numbers aside, so that one cause is not reported a thousand times.
type tally struct {
	seen  map[string]int
	total int
}

var operands = regexp.MustCompile(` / .*?:`)

var numbers = regexp.MustCompile(`0x[0-9a-f]+|\b[0-9]+\b`)

func (y *tally) add(t *testing.T, code []byte, diff string) {
	key := numbers.ReplaceAllString(operands.ReplaceAllString(diff, ":"), "#")
	if y.seen == nil {
		y.seen = make(map[string]int)
	}
	y.total++
	if y.seen[key]++; y.seen[key] == 1 && len(y.seen) <= 50 {
		t.Errorf("% x: %s", code[:min(len(code), MaxLen)], diff)
	}
}

// TestCorpora compares both decoders over all code of some large programs. The sections are swept linearly: where Zydis
// fails (data between functions), the sweep goes on at the next byte.
func TestCorpora(t *testing.T) {
	z := needZydis(t)
	for _, path := range corpora {
		t.Run(filepath.Base(path), func(t *testing.T) {
			insts, known, failed := 0, 0, 0
			var diffs tally
			for _, s := range codeOf(t, path) {
				for off := 0; off < len(s.data); {
					code := s.data[off:]
					in, err := Decode(code, s.addr+uint64(off))
					diff, ok := z.difference(code, &in, err)
					if diff != "" {
						diffs.add(t, code, diff)
					}
					insts++
					if in.Known {
						known++
					}
					if ok {
						off += int(z.inst.length)
					} else {
						failed++
						off++
					}
				}
			}
			t.Logf("%d instructions, %d known, %d not instructions, %d differences", insts, known, failed, diffs.total)
		})
	}
}
