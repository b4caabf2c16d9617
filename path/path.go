// Package path finds the code that a thread can execute from a set of entries: basic blocks over direct jumps, calls
// and returns, extended by the targets of indirect branches that were seen at run time. It also computes which
// registers and flags are live. It knows x86 but no kernel: what it finds is a plan, a pure function of the program's
// bytes, the hints and the limits.
package path

import (
	"fmt"
	"sort"

	"ub/x86"
)

// CodeReader reads the program's code.
type CodeReader interface {
	// ReadCode fills dst with the bytes at addr and returns how many of them are readable code. A short count means
	// that the byte at addr+count is not; an error adds why.
	ReadCode(addr uint64, dst []byte) (int, error)
}

// Limits bound a path. What does not fit is left out: jumps to it leave the translation through its dispatcher, so that
// it can be another path.
type Limits struct {
	MaxBlocks int // blocks started, before splitting
	MaxInsts  int // instructions
}

// DefaultLimits are generous against the paths worth translating (hundreds of instructions) and keep translation of the
// largest path in the range of milliseconds.
var DefaultLimits = Limits{MaxBlocks: 512, MaxInsts: 4096}

// Hints are the targets of indirect jumps, indirect calls and returns that were seen at run time, by the address of the
// branch, most frequent first.
type Hints map[uint64][]uint64

// End says how a block ends.
type End uint8

const (
	EndBranch End = iota // the last instruction is a branch or a syscall
	EndFall              // runs on into the instruction at Next, which starts another block or is not part of the path
	EndStop              // the instruction at Next is not translatable: leave before it
)

func (e End) String() string {
	switch e {
	case EndBranch:
		return "branch"
	case EndFall:
		return "fall"
	case EndStop:
		return "stop"
	}
	return "?"
}

// Block is a basic block: control enters at its first instruction only.
type Block struct {
	Index int // in Path.Blocks
	Addr  uint64
	Insts []x86.Inst // may be empty when End is EndStop
	End   End
	Next  uint64 // for EndFall and EndStop
	Stop  string // for EndStop: why

	// Targets are the expected targets of an indirect jump, indirect call or return that ends the block, likeliest
	// first. Each is a block of the path.
	Targets []uint64

	// Entry: the runtime may enter here.
	Entry bool
	// Callee: target of a call. RetSite: the instruction after a call.
	Callee, RetSite bool
}

// Last returns the branch that ends the block, or nil.
func (b *Block) Last() *x86.Inst {
	if b.End != EndBranch {
		return nil
	}
	return &b.Insts[len(b.Insts)-1]
}

// Succs appends to dst the addresses at which execution can continue after b, as far as they are known, and returns it.
// Not all need be blocks of the path. The address after a syscall is not among them: there the runtime enters anew.
func (b *Block) Succs(dst []uint64) []uint64 {
	switch b.End {
	case EndFall:
		return append(dst, b.Next)
	case EndStop:
		return dst
	}
	in := b.Last()
	switch in.Flow {
	case x86.FlowJump, x86.FlowCall:
		return append(dst, in.Target)
	case x86.FlowCond:
		return append(dst, in.Target, after(in))
	}
	return append(dst, b.Targets...)
}

// Path is the result of discovery.
type Path struct {
	Blocks  []*Block // in order of discovery: breadth first from the entries, so the nearest code comes first
	Entries []uint64 // where the runtime may enter, sorted
	Full    bool     // it goes on beyond the limits

	byAddr map[uint64]*Block
	live   []Live
}

// BlockAt returns the block that starts at addr, or nil.
func (p *Path) BlockAt(addr uint64) *Block { return p.byAddr[addr] }

// NumInsts returns the number of instructions in the path.
func (p *Path) NumInsts() int {
	n := 0
	for _, b := range p.Blocks {
		n += len(b.Insts)
	}
	return n
}

// Range is a range of program addresses, [Start, End).
type Range struct{ Start, End uint64 }

// Source returns the addresses of the program's bytes that the path was made from, sorted and disjoint.
func (p *Path) Source() []Range {
	var all []Range
	for _, b := range p.Blocks {
		for i := range b.Insts {
			in := &b.Insts[i]
			if n := len(all); n > 0 && all[n-1].End == in.Addr {
				all[n-1].End = after(in)
				continue
			}
			all = append(all, Range{in.Addr, after(in)})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Start < all[j].Start })
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// EntryError says that a requested entry cannot be one.
type EntryError struct {
	Addr   uint64
	Reason string
}

func (e *EntryError) Error() string {
	return fmt.Sprintf("no path from %#x: its first instruction is not translatable: %s", e.Addr, e.Reason)
}

func after(in *x86.Inst) uint64 { return in.Addr + uint64(in.Len) }
