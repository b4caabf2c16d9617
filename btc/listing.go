package btc

import (
	"fmt"
	"sort"
	"strings"

	"ub/path"
	"ub/x86"
)

// Native is one instruction of a blob.
type Native struct {
	Off   uint32
	Bytes []byte
	Text  string
	Note  string // what the runtime knows about it: why it may fault and where the program's registers then are; symbol
}

// Row is one piece of a listing: an instruction of the program beside the code that translates it. An instruction has
// more than one row when its way out of the blob is among the exits at the end.
type Row struct {
	RIP     uint64 // 0: code that belongs to no instruction
	Entry   bool   // the blob may be entered here
	Program string // its text
	Block   *path.Block
	Live    path.Live // before the instruction
	Native  []Native
}

// Listing returns b's code in order, each piece with the instruction of p that it translates.
func Listing(b *Blob, p *path.Path) []Row {
	type source struct {
		b *path.Block
		i int
	}
	insts := make(map[uint64]source)
	for _, blk := range p.Blocks {
		for i := range blk.Insts {
			insts[blk.Insts[i].Addr] = source{blk, i}
		}
	}
	live := make(map[*path.Block][]path.Live)
	entries := make(map[uint32]bool)
	for _, e := range b.Entries {
		entries[e.Off] = true
	}
	var rows []Row
	for i, l := range b.Lines {
		end := uint32(len(b.Code))
		if i+1 < len(b.Lines) {
			end = b.Lines[i+1].Off
		}
		r := Row{RIP: l.RIP, Entry: entries[l.Off], Native: b.disassemble(l.Off, end)}
		if s, ok := insts[l.RIP]; ok {
			in := &s.b.Insts[s.i]
			r.Block = s.b
			r.Program = in.String()
			if live[s.b] == nil {
				live[s.b] = p.LiveBefore(s.b)
			}
			r.Live = live[s.b][s.i]
		} else if blk := stoppedAt(p, l.RIP); blk != nil {
			r.Block, r.Program = blk, "("+blk.Stop+")"
		}
		rows = append(rows, r)
	}
	return rows
}

func stoppedAt(p *path.Path, rip uint64) *path.Block {
	for _, b := range p.Blocks {
		if b.End == path.EndStop && b.Next == rip {
			return b
		}
	}
	return nil
}

// disassemble returns the instructions of the code from offset off to end.
func (b *Blob) disassemble(off, end uint32) []Native {
	var out []Native
	for off < end {
		in, err := x86.Decode(b.Code[off:end], uint64(off))
		n := uint32(in.Len)
		text := in.String()
		if err != nil || n == 0 {
			n, text = end-off, fmt.Sprintf("(%v)", err)
		}
		out = append(out, Native{Off: off, Bytes: b.Code[off : off+n], Text: text, Note: b.note(off, off+n)})
		off += n
	}
	return out
}

// note describes what the blob's tables say about the instruction at [off, end).
func (b *Blob) note(off, end uint32) string {
	var notes []string
	if f, ok := b.FaultAt(off); ok {
		s := f.Kind.String()
		for _, d := range f.Dirty {
			s += fmt.Sprintf(" %s=%s", x86.Reg(d.Virtual), x86.Reg(d.Native))
			if d.Delta != 0 {
				s += fmt.Sprintf("%+d", d.Delta)
			}
		}
		notes = append(notes, s)
	}
	if i := sort.Search(len(b.Relocs), func(i int) bool { return b.Relocs[i].Off >= off }); i < len(b.Relocs) && b.Relocs[i].Off < end {
		notes = append(notes, b.Relocs[i].Sym.String())
	}
	return strings.Join(notes, ", ")
}

func (k FaultKind) String() string {
	switch k {
	case FaultAccess:
		return "access"
	case FaultTouch:
		return "touch"
	case FaultPoll:
		return "poll"
	case FaultDivide:
		return "divide"
	case FaultString:
		return "string"
	}
	return "?"
}

// String formats the row as lines of text: the instruction first, the native ones indented below it.
func (r Row) String() string {
	var s strings.Builder
	if r.RIP == 0 {
		s.WriteString("exits\n")
	} else {
		if r.Entry {
			s.WriteString("entry\n")
		}
		fmt.Fprintf(&s, "%#x: %s\n", r.RIP, r.Program)
	}
	for _, n := range r.Native {
		fmt.Fprintf(&s, "    %04x: %-36s %s", n.Off, fmt.Sprintf("% x", n.Bytes), n.Text)
		if n.Note != "" {
			fmt.Fprintf(&s, "  ; %s", n.Note)
		}
		s.WriteByte('\n')
	}
	return s.String()
}
