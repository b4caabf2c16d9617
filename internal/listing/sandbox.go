package listing

import (
	"fmt"

	"ub/path"
	"ub/sentry/statfile"
	"ub/sfi"
	"ub/target"
	"ub/x86"
)

// OfBlob lists a blob from a running sandbox's journal: the very bytes that run, verified again here.
func OfBlob(b *statfile.Blob, offsets [target.NumSyms]int) *Listing {
	l := &Listing{Name: fmt.Sprintf("address space %d", b.Space), Base: b.Base, Code: len(b.Code)}
	var offs []uint32
	entries := make(map[uint32]bool)
	for _, e := range b.Entries {
		l.Entries = append(l.Entries, e.RIP)
		offs = append(offs, e.Off)
		entries[e.Off] = true
	}
	src := sources(b.Sources)
	for _, s := range b.Sources {
		l.Source += len(s.Code)
	}
	arena := arenaOf(b, offsets)
	seen := make(map[uint64]bool)
	for i, line := range b.Lines {
		end := uint32(len(b.Code))
		if i+1 < len(b.Lines) {
			end = b.Lines[i+1].Off
		}
		if line.Off > end || end > uint32(len(b.Code)) {
			break // a damaged record; what could be read is shown
		}
		row := Row{RIP: line.RIP, Text: src.text(line.RIP), Entry: entries[line.Off]}
		if line.RIP != 0 && !seen[line.RIP] {
			seen[line.RIP] = true
			l.Insts++
		}
		row.Native = natives(b, line.Off, end, arena, offsets)
		l.Rows = append(l.Rows, row)
	}
	env := envAt(arena, offsets)
	env.Vec = target.NumVecs - 1 // the record does not say; the level was checked when the blob was installed
	l.judge(sfi.Explain(b.Code, b.Base, offs, env))
	return l
}

// natives disassembles b's code from off to end.
func natives(b *statfile.Blob, off, end uint32, arena uint64, offsets [target.NumSyms]int) []Native {
	var out []Native
	for off < end {
		in, err := x86.Decode(b.Code[off:end], b.Base+uint64(off))
		n, text := uint32(in.Len), in.String()
		if err != nil || n == 0 {
			n, text = end-off, fmt.Sprintf("(%v)", err)
		}
		row := Native{Off: off, Bytes: fmt.Sprintf("%x", b.Code[off:off+n]), Text: text}
		if err == nil && in.Flow == x86.FlowJump {
			for s, o := range offsets {
				if in.Target == arena+uint64(o) {
					row.Note = target.Sym(s).String()
				}
			}
		}
		out = append(out, row)
		off += n
	}
	return out
}

// arenaOf returns the start of the arena that b lies in. Every blob ends in a jump to a trampoline, and each of these is
// at a place of its own from the page-aligned start.
func arenaOf(b *statfile.Blob, offsets [target.NumSyms]int) uint64 {
	for off := 0; off < len(b.Code); {
		in, err := x86.Decode(b.Code[off:], b.Base+uint64(off))
		if err != nil || in.Len == 0 {
			break
		}
		off += in.Len
		if in.Flow != x86.FlowJump || in.Target >= b.Base && in.Target < b.Base+uint64(len(b.Code)) {
			continue
		}
		for _, o := range offsets {
			if a := in.Target - uint64(o); a%4096 == 0 {
				return a
			}
		}
	}
	return 0
}

// sources is the program's code as it was when a blob was made; a path.CodeReader.
type sources []statfile.Source

var _ path.CodeReader = sources(nil)

// ReadCode implements path.CodeReader.
func (s sources) ReadCode(addr uint64, dst []byte) (int, error) {
	for _, r := range s {
		if addr >= r.Addr && addr-r.Addr < uint64(len(r.Code)) {
			return copy(dst, r.Code[addr-r.Addr:]), nil
		}
	}
	return 0, fmt.Errorf("%#x is not among the blob's source", addr)
}

func (s sources) text(rip uint64) string {
	if rip == 0 {
		return ""
	}
	var buf [15]byte
	n, err := s.ReadCode(rip, buf[:])
	if err != nil {
		return "(not translated: the program goes on natively here)"
	}
	in, err := x86.Decode(buf[:n], rip)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return in.String()
}

// FindBlob returns the newest blob that may be entered at addr, or else that translates the instruction at addr.
func FindBlob(blobs []statfile.Blob, addr uint64) *statfile.Blob {
	var inside *statfile.Blob
	for i := len(blobs) - 1; i >= 0; i-- {
		b := &blobs[i]
		for _, e := range b.Entries {
			if e.RIP == addr {
				return b
			}
		}
		for _, l := range b.Lines {
			if l.RIP == addr && inside == nil {
				inside = b
			}
		}
	}
	return inside
}
