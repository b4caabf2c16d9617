package path

import "ub/x86"

// Stacks are what was on the program's stack when an entry was reached once, by the entry: words from RSP upwards. They
// tell where returns lead that leave the function of the entry, all the way up: what would else be learned one miss at a
// time. They are hints, no more: a wrong one is a target that is compared with in vain.
type Stacks map[uint64][]uint64

// frame says where RSP is in a stack that was seen.
type frame struct {
	words []uint64
	off   int64 // RSP's distance from the first word, in bytes
	top   int64 // the largest that off has been: what is below has been popped, and may be overwritten since
}

// known reports whether f is any.
func (f *frame) known() bool { return f.words != nil }

// step moves f over an instruction that falls through.
func (f *frame) step(in *x86.Inst) {
	if in.Writes&(1<<x86.RSP) == 0 || f.words == nil {
		return
	}
	d, ok := stackStep(in)
	if !ok {
		*f = frame{}
		return
	}
	*f = f.moved(d)
}

// moved is f with RSP moved by d.
func (f frame) moved(d int64) frame {
	f.off += d
	f.top = max(f.top, f.off)
	return f
}

// stackStep is what an instruction adds to RSP, if that is a constant.
func stackStep(in *x86.Inst) (int64, bool) {
	toRSP := in.Width == 8 && in.NumOps > 1 && in.Ops[0].Kind == x86.KindReg && in.Ops[0].Reg == x86.RSP
	switch {
	case in.Class == x86.ClassPush && in.Width == 8:
		return -8, true
	case in.Class == x86.ClassPop && in.Width == 8:
		return 8, in.NumOps > 0 && (in.Ops[0].Kind != x86.KindReg || in.Ops[0].Reg != x86.RSP)
	case in.Op == x86.OpADD && toRSP && in.Ops[1].Kind == x86.KindImm:
		return in.Imm, true
	case in.Op == x86.OpSUB && toRSP && in.Ops[1].Kind == x86.KindImm:
		return -in.Imm, true
	case in.Op == x86.OpLEA && toRSP && in.Mem.Base == x86.RSP && in.Mem.Index == x86.NoReg:
		return int64(in.Mem.Disp), true
	}
	return 0, false
}

// returnTo returns where a return at f leads, if that is a word that was seen and looks like a return address.
func (d *discovery) returnTo(f frame) (uint64, bool) {
	if !f.known() || f.off < f.top || f.off%8 != 0 || f.off/8 >= int64(len(f.words)) {
		return 0, false
	}
	to := f.words[f.off/8]
	return to, d.behindCall(to)
}

// behindCall reports whether the instruction before addr may be a call. Code is not decoded backwards: this only keeps
// out what is certainly no return address.
func (d *discovery) behindCall(addr uint64) bool {
	var buf [7]byte
	for _, n := range []uint64{7, 5, 2} { // fewer where code begins
		b := buf[:n]
		if addr < n {
			continue
		}
		if got, _ := d.code.r.ReadCode(addr-n, b); uint64(got) < n {
			continue
		}
		if n >= 5 && b[n-5] == 0xe8 { // CALL rel32
			return true
		}
		// CALL r/m64: FF /2, of 2 to 7 bytes.
		for i := range b[:n-1] {
			if b[i] == 0xff && b[i+1]>>3&7 == 2 {
				return true
			}
		}
		return false
	}
	return false
}
