package apps

import (
	"cmp"
	"fmt"
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
		out = append(out, Stop{s.Name(base, l.RIP), s.instruction(l.RIP - base)})
	}
	slices.SortFunc(out, func(a, b Stop) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text)) })
	return out
}

// instruction reads an instruction from the library's file.
func (s *Symbols) instruction(off uint64) string {
	if off < s.textAt || off-s.textAt >= uint64(len(s.text)) {
		return ""
	}
	b := s.text[off-s.textAt:]
	b = b[:min(len(b), 15)]
	in, err := x86.Decode(b, off)
	if err != nil {
		return fmt.Sprintf("%v: % x", err, b[:min(len(b), 8)])
	}
	return in.String()
}
