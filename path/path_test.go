package path

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"ub/x86"
)

// program is code for tests, assembled by hand: pieces at addresses.
type program map[uint64][]byte

func (p program) ReadCode(addr uint64, dst []byte) (int, error) {
	for a, code := range p {
		if addr >= a && addr < a+uint64(len(code)) {
			return copy(dst, code[addr-a:]), nil
		}
	}
	return 0, errors.New("nothing mapped")
}

// rel32 is an instruction with a 32-bit displacement that leads from the address of its first byte to target.
func rel32(at, target uint64, op ...byte) []byte {
	return binary.LittleEndian.AppendUint32(op, uint32(target-at-uint64(len(op))-4))
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

var (
	nop     = []byte{0x90}
	ret     = []byte{0xc3}
	syscall = []byte{0x0f, 0x05}
	cpuid   = []byte{0x0f, 0xa2}
	xorEAX  = []byte{0x31, 0xc0}
	jmpRAX  = []byte{0xff, 0xe0}
	callRAX = []byte{0xff, 0xd0}
)

// describe is the path as text, a block a line.
func describe(p *Path) string {
	var s strings.Builder
	for _, b := range p.Blocks {
		fmt.Fprintf(&s, "%#x", b.Addr)
		if b.Entry {
			s.WriteString(" entry")
		}
		if b.Callee {
			s.WriteString(" callee")
		}
		if b.RetSite {
			s.WriteString(" retsite")
		}
		fmt.Fprintf(&s, " %d", len(b.Insts))
		switch b.End {
		case EndBranch:
			fmt.Fprintf(&s, " %s", b.Last().Op)
		default:
			fmt.Fprintf(&s, " %v %#x", b.End, b.Next)
		}
		if len(b.Targets) > 0 {
			fmt.Fprintf(&s, " to %#x", b.Targets)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

func discover(t *testing.T, code program, hints Hints, l Limits, entries ...uint64) *Path {
	t.Helper()
	p, err := Discover(entries, code, hints, l)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Discover(entries, code, hints, l)
	if err != nil || !reflect.DeepEqual(p, again) {
		t.Fatalf("a second discovery differs: %v\n%s\n%s", err, describe(p), describe(again))
	}
	check(t, p)
	return p
}

// check verifies what every path must satisfy.
func check(t *testing.T, p *Path) {
	t.Helper()
	seen := map[uint64]bool{}
	for i, b := range p.Blocks {
		if b.Index != i || p.BlockAt(b.Addr) != b {
			t.Errorf("block %#x is not where it says", b.Addr)
		}
		at := b.Addr
		for k := range b.Insts {
			in := &b.Insts[k]
			if in.Addr != at {
				t.Errorf("block %#x: instruction %d is at %#x, not at %#x", b.Addr, k, in.Addr, at)
			}
			if seen[at] {
				t.Errorf("instruction at %#x is in two blocks", at)
			}
			seen[at] = true
			at += uint64(in.Len)
			if k > 0 && p.BlockAt(in.Addr) != nil {
				t.Errorf("block %#x contains the start of another, %#x", b.Addr, in.Addr)
			}
			if (in.Flow != x86.FlowNext) != (b.End == EndBranch && k == len(b.Insts)-1) {
				t.Errorf("block %#x: branch at %#x is not its end", b.Addr, in.Addr)
			}
		}
		if b.End != EndBranch && b.Next != at {
			t.Errorf("block %#x ends at %#x but runs on at %#x", b.Addr, at, b.Next)
		}
		for _, a := range b.Targets {
			if p.BlockAt(a) == nil {
				t.Errorf("block %#x: target %#x is no block", b.Addr, a)
			}
		}
	}
}

func TestDiscover(t *testing.T) {
	tests := []struct {
		name    string
		code    program
		entries []uint64
		hints   Hints
		limits  Limits
		want    string
	}{
		{
			name: "straight line to a syscall, whose return is an entry",
			code: program{0x1000: cat(xorEAX, syscall, nop, ret)},
			want: "0x1000 entry 2 syscall\n" +
				"0x1004 entry 2 ret\n",
		},
		{
			name: "a syscall before something untranslatable makes no entry",
			code: program{0x1000: cat(syscall, cpuid)},
			want: "0x1000 entry 1 syscall\n" +
				"0x1002 0 stop 0x1002\n",
		},
		{
			name: "conditional jump, both ways",
			code: program{0x1000: cat([]byte{0x74, 0x02}, xorEAX, ret)},
			want: "0x1000 entry 1 j\n" +
				"0x1002 1 fall 0x1004\n" +
				"0x1004 1 ret\n",
		},
		{
			name: "a jump back splits its own block",
			code: program{0x1000: cat(nop, xorEAX, []byte{0x75, 0xfc}, ret)},
			want: "0x1000 entry 1 fall 0x1001\n" +
				"0x1005 1 ret\n" +
				"0x1001 2 j\n",
		},
		{
			name: "a jump into the middle of an instruction is decoded separately until the two meet",
			// 1000: jz 1003 (into the immediate of mov eax, imm32); 1002: b8 90 90 90 90 = mov; 1007: ret
			code: program{0x1000: cat([]byte{0x74, 0x01, 0xb8, 0x90, 0x90, 0x90, 0x90}, ret)},
			want: "0x1000 entry 1 j\n" +
				"0x1002 1 fall 0x1007\n" +
				"0x1003 4 fall 0x1007\n" +
				"0x1007 1 ret\n",
		},
		{
			name: "a call, and its return to every site",
			code: program{
				0x1000: cat(rel32(0x1000, 0x2000, 0xe8), rel32(0x1005, 0x2000, 0xe8), ret),
				0x2000: cat(nop, ret),
			},
			want: "0x1000 entry 1 call\n" +
				"0x2000 callee 2 ret to [0x1005 0x100a]\n" +
				"0x1005 entry retsite 1 call\n" +
				"0x100a entry retsite 1 ret\n",
		},
		{
			name: "a tail call returns to the first caller, and past syscalls and inner calls",
			code: program{
				0x1000: cat(rel32(0x1000, 0x2000, 0xe8), ret),
				0x2000: cat(syscall, rel32(0x2002, 0x3000, 0xe9)),
				0x3000: cat(rel32(0x3000, 0x4000, 0xe8), ret),
				0x4000: ret,
			},
			want: "0x1000 entry 1 call\n" +
				"0x2000 callee 1 syscall\n" +
				"0x1005 entry retsite 1 ret\n" +
				"0x2002 entry 1 jmp\n" +
				"0x3000 1 call\n" +
				"0x4000 callee 1 ret to [0x3005]\n" +
				"0x3005 entry retsite 1 ret to [0x1005]\n",
		},
		{
			name: "hints come first, each is an entry",
			code: program{
				0x1000: callRAX,
				0x1002: jmpRAX,
				0x2000: nop, 0x2001: ret,
				0x3000: ret,
			},
			hints: Hints{0x1000: {0x3000, 0x2000}, 0x1002: {0x2000, 0x9000}},
			want: "0x1000 entry 1 call to [0x3000 0x2000]\n" +
				"0x3000 entry callee 1 ret to [0x1002]\n" +
				"0x2000 entry callee 2 ret to [0x1002]\n" +
				"0x1002 entry retsite 1 jmp to [0x2000 0x9000]\n" +
				"0x9000 0 stop 0x9000\n",
		},
		{
			name: "unreadable code",
			code: program{0x1000: cat(nop, []byte{0x48})},
			want: "0x1000 entry 1 stop 0x1001\n",
		},
		{
			name:   "block limit: breadth first",
			code:   program{0x1000: cat([]byte{0x74, 0x10}, nop, ret), 0x1012: ret},
			limits: Limits{MaxBlocks: 2},
			want: "0x1000 entry 1 j\n" +
				"0x1002 2 ret\n",
		},
		{
			name:   "instruction limit cuts a block",
			code:   program{0x1000: cat(nop, nop, nop, nop, ret)},
			limits: Limits{MaxInsts: 3},
			want:   "0x1000 entry 3 fall 0x1003\n",
		},
		{
			name:    "two entries, one inside the other's block",
			code:    program{0x1000: cat(nop, nop, ret)},
			entries: []uint64{0x1000, 0x1001},
			want: "0x1000 entry 1 fall 0x1001\n" +
				"0x1001 entry 2 ret\n",
		},
		{
			name:    "two entries, the later address first",
			code:    program{0x1000: cat(nop, nop, ret)},
			entries: []uint64{0x1001, 0x1000},
			want: "0x1001 entry 2 ret\n" +
				"0x1000 entry 1 fall 0x1001\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries := tt.entries
			if entries == nil {
				entries = []uint64{0x1000}
			}
			p := discover(t, tt.code, tt.hints, tt.limits, entries...)
			if got := describe(p); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestEntryErrors(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		code       program
		entries    []uint64
	}{
		{"untranslatable", "no path from 0x1000: its first instruction is not translatable: cpuid is left to the processor",
			program{0x1000: cpuid}, []uint64{0x1000}},
		{"unreadable", "no path from 0x5000: its first instruction is not translatable: unreadable code: nothing mapped",
			program{0x1000: ret}, []uint64{0x1000, 0x5000}},
		{"none", "no path without an entry: give at least one", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Discover(tt.entries, tt.code, nil, Limits{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestSource(t *testing.T) {
	p := discover(t, program{
		0x1000: cat([]byte{0x74, 0x01, 0xb8, 0x90, 0x90, 0x90, 0x90}, ret), // overlapping
		0x1008: cat(nop, nop),                                              // not reached
	}, nil, Limits{}, 0x1000)
	if got, want := p.Source(), []Range{{0x1000, 0x1008}}; !reflect.DeepEqual(got, want) {
		t.Errorf("source %#x, want %#x", got, want)
	}
}

func TestLiveness(t *testing.T) {
	// A loop whose flags are dead at its start, whose RCX is live around it, and whose RDX is set before use.
	p := discover(t, program{0x1000: cat(
		[]byte{0xb9, 1, 0, 0, 0},       // 1000: mov ecx, 1
		[]byte{0x89, 0xca},             // 1005: mov edx, ecx   <- loop
		[]byte{0x01, 0xd0},             // 1007: add eax, edx
		[]byte{0xff, 0xc9},             // 1009: dec ecx
		[]byte{0x75, 0xf8},             // 100b: jne 1005
		[]byte{0x31, 0xd2, 0x31, 0xc9}, // 100d: xor edx, edx; xor ecx, ecx
		rel32(0x1011, 0x1016, 0xe9),    // 1011: jmp 1016
		syscall,                        // 1016
	)}, nil, Limits{}, 0x1000)
	const rcx, rdx, rax = 1 << x86.RCX, 1 << x86.RDX, 1 << x86.RAX
	for _, tt := range []struct {
		addr       uint64
		live, dead x86.RegSet
		flags      x86.Flags
	}{
		{0x1000, rax, rcx | rdx, 0},
		{0x1005, rax | rcx, rdx, 0},
		{0x100d, rax, rcx | rdx, 0},
		{0x1016, rax | rcx | rdx, 0, x86.AllArith},
	} {
		b := p.BlockAt(tt.addr)
		if b == nil {
			t.Fatalf("no block at %#x:\n%s", tt.addr, describe(p))
		}
		l := p.LiveIn(b)
		if l.Regs&tt.live != tt.live || l.Regs&tt.dead != 0 || l.Flags&x86.AllArith != tt.flags {
			t.Errorf("live at %#x: registers %b flags %b", tt.addr, l.Regs, l.Flags)
		}
	}
	b := p.BlockAt(0x1005)
	lives := p.LiveBefore(b)
	if lives[0] != p.LiveIn(b) {
		t.Errorf("before the first instruction %v, at the block's start %v", lives[0], p.LiveIn(b))
	}
	if lives[3].Flags&x86.ZF == 0 || lives[2].Flags&x86.ZF != 0 {
		t.Errorf("ZF is live before dec (%v) or not before jne (%v)", lives[2].Flags, lives[3].Flags)
	}
}

// What other paths have is left out: the path ends there, and does not go on behind it.
func TestDiscoverAroundOtherPaths(t *testing.T) {
	code := program{
		0x1000: {0x74, 0x0e},       // je 0x1010
		0x1002: {0x90, 0xc3},       // nop; ret
		0x1010: {0x90, 0xeb, 0x0d}, // nop; jmp 0x1020
		0x1020: {0x90, 0xc3},
	}
	known := func(addr uint64) bool { return addr == 0x1000 || addr == 0x1010 }
	p, err := Order{Entries: []uint64{0x1000}, Known: known}.Discover(code)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]bool{0x1000: true, 0x1002: true, 0x1010: false, 0x1020: false} {
		if got := p.BlockAt(addr) != nil; got != want {
			t.Errorf("block at %#x: %v, want %v", addr, got, want)
		}
	}
	if p.Full {
		t.Error("full, without limits")
	}
	if p, err = Discover([]uint64{0x1000}, code, nil, Limits{MaxBlocks: 2}); err != nil || !p.Full {
		t.Errorf("a path that goes on beyond its limits is not full: %v", err)
	}
}
