// Package listing shows a blob to people: the program's instructions, the code that translates each of them, and what the
// verifier established about every instruction of that code, beside each other.
package listing

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"ub/btc"
	"ub/path"
	"ub/sfi"
	"ub/target"
)

// Listing is one blob.
type Listing struct {
	Name     string   `json:"name"`              // what was asked for
	Base     uint64   `json:"base"`              // address of the code: where it runs, or a made-up one
	Entries  []uint64 `json:"entries"`           // program addresses at which it may be entered
	Source   int      `json:"source_bytes"`      // bytes of the program it was made from
	Code     int      `json:"code_bytes"`        // bytes of the blob
	Insts    int      `json:"instructions"`      // instructions of the program
	Natives  int      `json:"code_instructions"` // instructions of the blob
	Accepted bool     `json:"accepted"`
	Refusal  string   `json:"refusal,omitempty"` // the verifier's first error
	Rows     []Row    `json:"rows"`
}

// Row is one instruction of the program and the code for it. One whose way out of the blob is among the exits at the end
// has two rows.
type Row struct {
	RIP    uint64   `json:"rip"`
	Text   string   `json:"text"`
	Entry  bool     `json:"entry,omitempty"`
	Native []Native `json:"code"`
}

// Native is one instruction of the blob.
type Native struct {
	Off     uint32 `json:"off"`
	Bytes   string `json:"bytes"` // hexadecimal
	Text    string `json:"text"`
	Note    string `json:"note,omitempty"` // why it may fault, where registers are then; which symbol it jumps to
	Verdict string `json:"verdict"`        // what the verifier knows there
	Refused bool   `json:"refused,omitempty"`
}

// fileBase is where the code of a blob that runs nowhere is taken to be, with the trampolines in front of it as in an arena.
const fileBase = 0x10000000 + 1<<16

// envAt returns the trampolines of an arena.
func envAt(arena uint64, offsets [target.NumSyms]int) sfi.Env {
	var env sfi.Env
	for s, off := range offsets {
		env.Syms[s] = arena + uint64(off)
	}
	return env
}

// Of translates p and lists the result, with the trampolines at the given offsets from the start of the arena
// (machine.SymOffsets).
func Of(name string, p *path.Path, o btc.Options, offsets [target.NumSyms]int) (*Listing, error) {
	b, err := btc.Translate(p, o)
	if err != nil {
		return nil, err
	}
	env := envAt(fileBase-1<<16, offsets)
	code := append([]byte(nil), b.Code...)
	for _, r := range b.Relocs {
		d := int64(env.Syms[r.Sym]) - (fileBase + int64(r.Off) + 4)
		binary.LittleEndian.PutUint32(code[r.Off:], uint32(int32(d)))
	}
	l := &Listing{Name: name, Base: fileBase, Code: len(code), Insts: p.NumInsts()}
	for _, r := range b.Source {
		l.Source += int(r.End - r.Start)
	}
	var offs []uint32
	for _, e := range b.Entries {
		l.Entries = append(l.Entries, e.RIP)
		offs = append(offs, e.Off)
	}
	for _, r := range btc.Listing(b, p) {
		row := Row{RIP: r.RIP, Text: r.Program, Entry: r.Entry}
		for _, n := range r.Native {
			row.Native = append(row.Native, Native{Off: n.Off, Bytes: fmt.Sprintf("%x", code[n.Off:n.Off+uint32(len(n.Bytes))]), Text: n.Text, Note: n.Note})
		}
		l.Rows = append(l.Rows, row)
	}
	env.Vec = b.Vec
	l.judge(sfi.Explain(code, fileBase, offs, env))
	return l, nil
}

// judge puts the verifier's lines beside the instructions they are about.
func (l *Listing) judge(lines []sfi.Line) {
	l.Accepted = true
	at := make(map[uint32]*Native)
	for i := range l.Rows {
		for j := range l.Rows[i].Native {
			n := &l.Rows[i].Native[j]
			at[n.Off] = n
			l.Natives++
		}
	}
	for _, v := range lines {
		n := at[v.Off]
		if v.Err != nil {
			l.Accepted = false
			if l.Refusal == "" {
				l.Refusal = v.Err.Error()
			}
			if n != nil {
				n.Verdict, n.Refused = "REFUSED: "+v.Err.Rule.String()+": "+v.Err.Detail, true
			}
			continue
		}
		if n != nil && !n.Refused {
			n.Verdict = v.Text
		}
	}
}

// Write prints the listing as text: program, code, verdict, from left to right.
func (l *Listing) Write(w io.Writer) error {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %d instructions (%d bytes) -> %d instructions (%d bytes), %d entries\n",
		l.Name, l.Insts, l.Source, l.Natives, l.Code, len(l.Entries))
	fmt.Fprintf(&s, "%-44s %-52s %s\n", "PROGRAM", "TRANSLATION", "VERIFIER")
	for _, r := range l.Rows {
		if r.Entry {
			fmt.Fprintf(&s, "entry %#x:\n", r.RIP)
		}
		left := "(exits)"
		if r.RIP != 0 {
			left = fmt.Sprintf("%#x: %s", r.RIP, r.Text)
		}
		if len(r.Native) == 0 {
			fmt.Fprintf(&s, "%-44s (nothing to do)\n", left)
			continue
		}
		for _, n := range r.Native {
			code := fmt.Sprintf("%04x: %s", n.Off, n.Text)
			if n.Note != "" {
				code += " ; " + n.Note
			}
			fmt.Fprintf(&s, "%-44s %-52s %s\n", left, code, n.Verdict)
			left = ""
		}
	}
	if l.Accepted {
		fmt.Fprintln(&s, "verifier: accepted")
	} else {
		fmt.Fprintf(&s, "verifier: REFUSED: %s\n", l.Refusal)
	}
	_, err := io.WriteString(w, s.String())
	return err
}
