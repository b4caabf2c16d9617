package codebench

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"ub/btc"
	"ub/sentry/machine"
	"ub/target"
	"ub/x86"
)

// Taking rules of the policy out of code that is installed: in this process, whose arena is mapped writable a second
// time. What is left out becomes no-operations of the same length, so nothing else moves; they take a little time to
// decode, so a rule's real cost is rather higher. What runs then is not what was verified: for measuring only, on code that is
// known to behave.

// Rule is a part of the policy that can be left out.
type Rule uint8

const (
	Tags  Rule = 1 << iota // check of address bits 59 to 63; left out by the translator
	Masks                  // sanitizing of addresses: PDEP becomes MOV, and so do the two shifts that do for it
	Jumps                  // check of the target of indirect branches and returns that have only one
	Fuel                   // polls

	AllRules = Tags | Masks | Jumps | Fuel
)

func (r Rule) String() string {
	var s []string
	for i, name := range []string{"tags", "masks", "jumps", "fuel"} {
		if r&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, "+")
}

// options returns those that leave rules out when translating.
func (r Rule) options() btc.Options { return btc.Options{NoTagCheck: r&Tags != 0} }

// Opcodes that patterns begin with, and slots of the context block that are read.
const (
	opJRCXZ = 0xe3
	opJMP8  = 0xeb
	opPDEP  = 0xf5
	opShift = 0xf7
)

var nops = [...]string{"", "\x90", "\x66\x90", "\x0f\x1f\x00", "\x0f\x1f\x40\x00", "\x0f\x1f\x44\x00\x00", "\x66\x0f\x1f\x44\x00\x00",
	"\x0f\x1f\x80\x00\x00\x00\x00", "\x0f\x1f\x84\x00\x00\x00\x00\x00", "\x66\x0f\x1f\x84\x00\x00\x00\x00\x00"}

func putNops(b []byte) {
	for len(b) > 0 {
		n := min(len(b), len(nops)-1)
		copy(b, nops[n])
		b = b[n:]
	}
}

// patched returns code, that of blob, without rules, and how many places it has changed.
func patched(code []byte, blob *btc.Blob, rules Rule) ([]byte, int, error) {
	out := append([]byte(nil), code...)
	n := 0
	if rules&Fuel != 0 {
		for _, f := range blob.Faults {
			if f.Kind != btc.FaultPoll {
				continue
			}
			in, err := x86.Decode(code[f.Off:], uint64(f.Off))
			if err != nil {
				return nil, 0, fmt.Errorf("poll at %#x: %w", f.Off, err)
			}
			if in.Mem.Base != x86.RSP || in.Mem.Disp != target.PollDisp {
				return nil, 0, fmt.Errorf("no poll at %#x: %v", f.Off, &in)
			}
			putNops(out[f.Off : f.Off+uint32(in.Len)])
			n++
		}
	}
	// The checks of one branch of the program follow each other: a comparison with each target that is known, and one of
	// the target's size.
	type check struct {
		off  int
		line uint64
	}
	var checks []check
	for off := 0; off < len(code); {
		in, err := x86.Decode(code[off:], uint64(off))
		if err != nil || in.Len == 0 {
			return nil, 0, fmt.Errorf("code at %#x: %v", off, err)
		}
		b := code[off : off+in.Len]
		switch {
		case rules&Masks != 0 && len(b) == 7 && b[0] == 0xc4 && b[3] == opPDEP && b[4]&0xc7 == 0x44 && b[5] == 0x24 && b[6] == 0x48:
			putMov(out[off:off+7], b[4]>>3&7|(^b[1]>>7)<<3&8, ^b[2]>>3&15)
			n++
		case rules&Masks != 0 && isShift(&in) && off+10 <= len(code) && code[off+8] == opShift:
			putMov(out[off:off+10], uint8(in.Ops[0].Reg), uint8(in.Ops[1].Reg))
			n++
		case rules&Jumps != 0 && b[0] == opJRCXZ:
			line, _ := blob.RIPAt(uint32(off))
			checks = append(checks, check{off, line})
		}
		off += in.Len
	}
	for i := 0; i < len(checks); {
		k := i
		for k < len(checks) && checks[k].line == checks[i].line {
			k++
		}
		if k-i <= 2 && checks[i].line != 0 && !isRep(blob, checks[i].line, code, checks[i].off) {
			out[checks[i].off] = opJMP8
			n++
		}
		i = k
	}
	return out, n, nil
}

// putMov makes code a MOV of 64 bits between registers, and no-operations.
func putMov(code []byte, dst, src uint8) {
	copy(code, []byte{0x48 | src>>3<<2 | dst>>3, 0x89, 0xc0 | src&7<<3 | dst&7})
	putNops(code[3:])
}

// isShift tells whether in is the first of two shifts that sanitize: those have reserved registers as result and count.
func isShift(in *x86.Inst) bool {
	return in.Op == x86.OpSHLX && in.Width == 8 && !in.HasMem && in.Ops[0].Reg >= x86.R12 && in.Ops[2].Reg >= x86.R12
}

// isRep tells whether the JRCXZ at off belongs to a string instruction or to one of the program's own: these decide
// something.
func isRep(blob *btc.Blob, line uint64, code []byte, off int) bool {
	for _, f := range blob.Faults {
		if f.RIP == line && f.Kind == btc.FaultString {
			return true
		}
	}
	// A check's value has been computed by the instruction before, SHRX or LEA to RCX.
	return !(off >= 5 && (code[off-5] == 0xc4 && code[off-2] == 0xf7 || isLEAtoRCX(code[max(0, off-8):off])))
}

// isLEAtoRCX tells whether code ends in an LEA with destination RCX.
func isLEAtoRCX(code []byte) bool {
	for i := range code {
		in, err := x86.Decode(code[i:], 0)
		if err == nil && in.Len == len(code)-i && strings.HasPrefix(in.String(), "lea rcx,") {
			return true
		}
	}
	return false
}

// arena is this process's writable mapping of translated code.
type arena struct{ rx, rw, size uintptr }

// findArena finds the two mappings of the file that holds address rx.
func findArena(rx uintptr) (arena, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return arena{}, err
	}
	return parseArena(string(text), rx)
}

func parseArena(text string, rx uintptr) (arena, error) {
	type m struct {
		start, end, off uintptr
		prot, dev       string
		inode           uint64
	}
	var all []m
	var code *m
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		var x m
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x %s %x %s %d", &x.start, &x.end, &x.prot, &x.off, &x.dev, &x.inode); n != 6 {
			continue
		}
		all = append(all, x)
		if x.start <= rx && rx < x.end {
			code = &all[len(all)-1]
		}
	}
	if code == nil || code.inode == 0 {
		return arena{}, fmt.Errorf("no mapping of a file at %#x", rx)
	}
	want := *code
	for _, x := range all {
		if x.inode == want.inode && x.dev == want.dev && x.off == want.off && strings.HasPrefix(x.prot, "rw") {
			return arena{want.start, x.start, min(want.end-want.start, x.end-x.start)}, nil
		}
	}
	return arena{}, fmt.Errorf("the arena at %#x is not mapped writable", want.start)
}

// write replaces the code of an installed blob.
func (a arena) write(in *machine.Installed, code []byte) error {
	off := in.Base() - a.rx
	if off >= a.size || uintptr(len(code)) > a.size-off {
		return fmt.Errorf("the blob at %#x is not in the arena", in.Base())
	}
	copy(bytesAt(a.rw+off, len(code)), code)
	return nil
}
