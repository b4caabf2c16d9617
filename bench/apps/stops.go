package apps

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"path/filepath"
	"slices"

	"ub/sentry/statfile"
	"ub/x86"
)

// Stop is a place at which a translation ends and the program goes on natively.
type Stop struct {
	Name string // of the place
	Text string // the instruction, as far as it is known
}

// Stops returns the places at which the newest translation that begins at entry ends. How often each is reached is not
// known.
func (s *Symbols) Stops(blobs []statfile.Blob, space uint32, entry, base uint64) []Stop {
	var blob *statfile.Blob
	for i := range blobs {
		if b := &blobs[i]; b.Space == space && len(b.Entries) > 0 && slices.ContainsFunc(b.Entries, func(e statfile.Entry) bool { return e.RIP == entry }) {
			blob = b
		}
	}
	if blob == nil {
		return nil
	}
	inSource := func(rip uint64) bool {
		return slices.ContainsFunc(blob.Sources, func(r statfile.Source) bool { return rip >= r.Addr && rip-r.Addr < uint64(len(r.Code)) })
	}
	var out []Stop
	seen := map[uint64]bool{}
	for _, l := range blob.Lines {
		if l.RIP == 0 || seen[l.RIP] || inSource(l.RIP) {
			continue
		}
		seen[l.RIP] = true
		off := l.RIP - base
		if inText(s.textAt, s.text, off) {
			out = append(out, Stop{s.Name(base, l.RIP), instruction(s.textAt, s.text, off)})
			continue
		}
		at, ok := s.inProgram(blob.Sources, l.RIP)
		if !ok {
			out = append(out, Stop{Name: fmt.Sprintf("%#x", l.RIP)})
			continue
		}
		out = append(out, Stop{fmt.Sprintf("%s %#x", s.program, at), instruction(s.progAt, s.prog, at)})
	}
	slices.SortFunc(out, func(a, b Stop) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text)) })
	return out
}

// SetProgram tells of the program itself, so that places in it get names too.
func (s *Symbols) SetProgram(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text := f.Section(".text")
	if text == nil {
		return fmt.Errorf("%s has no section .text", path)
	}
	s.program, s.progAt = filepath.Base(path), text.Addr
	s.prog, err = text.Data()
	return err
}

// minUnique is how many bytes of code are taken for unique in a program.
const minUnique = 12

// inProgram finds the program's address that is at rip in memory, by the code before it, which a translation has.
func (s *Symbols) inProgram(sources []statfile.Source, rip uint64) (uint64, bool) {
	for _, r := range sources {
		if r.Addr+uint64(len(r.Code)) != rip {
			continue
		}
		for n := minUnique; n <= len(r.Code); n++ {
			tail := r.Code[len(r.Code)-n:]
			i := bytes.Index(s.prog, tail)
			if i < 0 {
				return 0, false
			}
			if bytes.Contains(s.prog[i+1:], tail) {
				continue // not unique yet
			}
			return s.progAt + uint64(i+n), true
		}
	}
	return 0, false
}

func inText(at uint64, text []byte, addr uint64) bool {
	return addr >= at && addr-at < uint64(len(text))
}

// instruction reads an instruction from a file's code, which is at address at.
func instruction(at uint64, text []byte, addr uint64) string {
	if !inText(at, text, addr) {
		return ""
	}
	b := text[addr-at:]
	b = b[:min(len(b), 15)]
	in, err := x86.Decode(b, addr)
	if err != nil {
		return fmt.Sprintf("%v: % x", err, b[:min(len(b), 8)])
	}
	return in.String()
}
