package btc

import (
	"fmt"
	"sort"

	"ub/path"
	"ub/target"
	"ub/x86"
)

// access is one access to program memory.
type access struct {
	size        int
	read, write bool
	atomic      bool
	rep         bool
}

func (a access) String() string {
	s := fmt.Sprintf("%d bytes", a.size)
	if a.read {
		s += " read"
	}
	if a.write {
		s += " written"
	}
	if a.atomic {
		s += " atomically"
	}
	if a.rep {
		s += " repeatedly"
	}
	return s
}

// CheckAtomicity decodes the blob again and checks, for every instruction of p, that its translation accesses program
// memory just as the instruction does: as many accesses, each of the same width, direction and atomicity, in the
// same order, and no effect on the program's registers or flags before the last of them, so that a fault leaves the
// program's state as it was. Probes do not count: a byte that is read and not looked at. An instruction at which the
// translation leaves the blob must not access memory at all.
func CheckAtomicity(b *Blob, p *path.Path) error {
	k := &kernels[b.Kernel]
	code := make(map[uint64][]x86.Inst) // native instructions by program instruction
	stops := make(map[uint64]bool)
	for i, l := range b.Lines {
		end := uint32(len(b.Code))
		if i+1 < len(b.Lines) {
			end = b.Lines[i+1].Off
		}
		for off := l.Off; off < end; {
			in, err := x86.Decode(b.Code[off:end], uint64(off))
			if err != nil {
				return fmt.Errorf("translation of %#x, offset %#x: %w", l.RIP, off, err)
			}
			code[l.RIP] = append(code[l.RIP], in)
			off += uint32(in.Len)
			if r := sort.Search(len(b.Relocs), func(r int) bool { return b.Relocs[r].Off >= off-4 }); r < len(b.Relocs) &&
				b.Relocs[r].Off == off-4 && b.Relocs[r].Sym == target.SymStop {
				stops[l.RIP] = true
			}
		}
	}
	for _, blk := range p.Blocks {
		for i := range blk.Insts {
			in := &blk.Insts[i]
			native := code[in.Addr]
			got, err := nativeAccesses(k, native)
			if err != nil {
				return fmt.Errorf("translation of %#x (%s): %w", in.Addr, in, err)
			}
			if stops[in.Addr] && len(got) == 0 {
				// The processor executes it, and what follows it in this block.
				break
			}
			want := programAccesses(in)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("translation of %#x (%s) accesses memory as %v, the instruction as %v", in.Addr, in, got, want)
			}
		}
	}
	for rip, native := range code {
		if got, _ := nativeAccesses(k, native); rip == 0 && len(got) != 0 {
			return fmt.Errorf("code that translates no instruction accesses program memory: %v", got)
		}
	}
	return nil
}

// programAccesses lists the accesses of a program instruction, in the order in which the processor makes them as far as
// that is defined: what is read to be stored comes first.
func programAccesses(in *x86.Inst) []access {
	var out []access
	explicit, has := explicitAccess(in)
	stack := access{size: in.Width}
	switch {
	case in.Class == x86.ClassString:
		a := access{size: in.Width, rep: in.Rep || in.RepNE}
		r, w := a, a
		r.read, w.write = true, true
		switch in.Op {
		case x86.OpLODS, x86.OpSCAS:
			return []access{r}
		case x86.OpSTOS:
			return []access{w}
		case x86.OpMOVS:
			return []access{r, w}
		case x86.OpCMPS:
			return []access{r, r}
		}
	case in.Class == x86.ClassPush, in.Flow == x86.FlowCall, in.Flow == x86.FlowIndCall:
		stack.write = true
		if has {
			out = append(out, explicit)
		}
		return append(out, stack)
	case in.Class == x86.ClassPop, in.Class == x86.ClassLeave, in.Flow == x86.FlowRet:
		stack.read = true
		out = append(out, stack)
	}
	if has {
		out = append(out, explicit)
	}
	return out
}

// explicitAccess is the access to the ModRM memory operand, if the instruction accesses it.
func explicitAccess(in *x86.Inst) (access, bool) {
	for i := range in.Ops[:in.NumOps] {
		o := &in.Ops[i]
		if o.Kind == x86.KindMem && o.Access != 0 && o.Size != 0 && in.Class != x86.ClassNop && !isPrefetch(in.Op) {
			return access{
				size:   int(o.Size),
				read:   o.Access&x86.Read != 0,
				write:  o.Access&(x86.Write|x86.CondWrite) != 0,
				atomic: in.Atomic,
			}, true
		}
	}
	return access{}, false
}

// ofProgram reports whether a native instruction's memory operand is in program memory.
func (k *rules) ofProgram(in *x86.Inst) bool {
	if k.seg != x86.SegNone {
		return in.Mem.Seg == k.seg
	}
	return in.Op != x86.OpLEA && in.Mem.Base != x86.RSP && in.Mem.Base != x86.RBP && in.Mem.Base != x86.RIP
}

// nativeAccesses lists the accesses to program memory in a piece of native code, and checks that nothing of the program's
// state is changed before the last of them.
func nativeAccesses(k *rules, code []x86.Inst) ([]access, error) {
	var out []access
	var changed x86.RegSet // the program's registers that are not what they were
	var by *x86.Inst       // the last to change one of them, or the flags
	saved := x86.NoReg     // holds the program's RCX
	for i := range code {
		in := &code[i]
		d, s, move := regMove(in)
		switch {
		case move && s == x86.RCX && changed&(1<<x86.RCX) == 0:
			saved = d
		case move && d == x86.RCX && s == saved: // RCX was lent, and is restored
			if changed &^= 1 << x86.RCX; changed == 0 && by != nil && by.FlagsWritten == 0 {
				by = nil
			}
			continue
		case saved != x86.NoReg && in.Writes&(1<<saved) != 0:
			saved = x86.NoReg
		}
		var as []access
		switch {
		case in.Class == x86.ClassString && (in.Rep || in.RepNE):
			// The pointers are rebased and restored; the fault record undoes that.
			as, by = programAccesses(in), nil
		case in.HasMem && k.ofProgram(in):
			a, ok := explicitAccess(in)
			if !ok {
				return nil, fmt.Errorf("%s names program memory and does not access it", in)
			}
			if !k.isProbe(in, code[i+1:]) {
				as = append(as, a)
			}
		case in.Class == x86.ClassString:
			return nil, fmt.Errorf("%s without REP", in)
		}
		if len(as) > 0 && by != nil {
			return nil, fmt.Errorf("%s changes the program's state before the access of %s", by, in)
		}
		out = append(out, as...)
		if in.Writes&^k.virtual != 0 || in.FlagsWritten != 0 {
			changed |= in.Writes &^ k.virtual
			if by == nil || by.FlagsWritten == 0 {
				by = in
			}
		}
	}
	return out, nil
}

// isProbe tells whether in reads a byte in front of the accesses proper, into a reserved register that the code behind it does not
// read.
func (k *rules) isProbe(in *x86.Inst, behind []x86.Inst) bool {
	if in.Op != x86.OpMOVZX || in.Ops[1].Size != 1 || in.Ops[0].Reg < firstReserved {
		return false
	}
	more, lost := false, false
	for i := range behind {
		next := &behind[i]
		if !lost && next.Reads&in.Writes != 0 {
			return false
		}
		lost = lost || next.Writes&in.Writes != 0
		more = more || next.HasMem && k.ofProgram(next)
	}
	return more
}

// regMove returns the registers of a move of 8 bytes.
func regMove(in *x86.Inst) (d, s x86.Reg, ok bool) {
	if in.Op != x86.OpMOV || in.Width != 8 || in.HasMem || in.Ops[1].Kind != x86.KindReg {
		return 0, 0, false
	}
	return in.Ops[0].Reg, in.Ops[1].Reg, true
}
