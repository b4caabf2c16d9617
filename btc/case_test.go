package btc_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/target"
)

// dataAt is an address in the data at the low place.
func dataAt(off uint64) uint64 { return lowBase + dataOffset + off }

// TestCases: programs that once came out wrong, or that random ones hit too seldom.
func TestCases(t *testing.T) { eachKernel(t, testCases) }

func testCases(t *testing.T, w *world) {
	const tag = uint64(1) << 60
	cases := []struct {
		name string
		code string
		gpr  map[int]uint64
	}{
		{"return to a non-canonical address", "c3", map[int]uint64{4: dataAt(3 * 8), -1: 0xfb05c05fab000000}},
		{"return with an immediate to a non-canonical address", "c2 10 00", map[int]uint64{4: dataAt(3 * 8), -1: 1 << 63}},
		{"jump to a non-canonical address", "41 ff e4", map[int]uint64{12: 1 << 50}},
		{"call of a non-canonical address pushes nothing", "ff d0", map[int]uint64{0: 1 << 47, 4: dataAt(256)}},
		{"call of the kernel half through memory", "ff 14 24", map[int]uint64{4: dataAt(3 * 8), -1: 0xffff800000000000}},
		{"call of memory off RSP reads before it pushes", "ff 54 24 f8", map[int]uint64{4: dataAt(4 * 8), -1: lowBase + 4}},
		{"pop to memory after the stack register was needed for the address", "42 8f 44 a7 08", map[int]uint64{4: dataAt(64), 7: dataAt(512), 12: 3}},
		{"pop to an address off RSP", "8f 44 24 08", map[int]uint64{4: dataAt(64)}},
		{"pop fs:[rip+x] is left before anything is read", "58 64 8f 05 00 01 10 00", map[int]uint64{4: dataAt(64)}},
		{"pop rsp", "5c", map[int]uint64{4: dataAt(64)}},
		{"push rsp", "54 54", map[int]uint64{4: dataAt(64)}},
		{"push across the end of the stack's pages", "50 50 50 50", map[int]uint64{4: dataAt(16)}},
		{"absolute operand", "48 8b 04 25 00 01 10 10 ff 34 25 08 01 10 10", map[int]uint64{4: dataAt(512)}},
		{"second push faults after the first was folded into a distance", "41 54 4c 8b a0 00 10 00 00", map[int]uint64{4: dataAt(64), 0: 0}},
		{"leave after pushes", "55 48 89 e5 41 54 41 55 c9", map[int]uint64{4: dataAt(512)}},
		{"frame pointer follows RSP", "55 48 89 e5 48 83 ec 40 48 89 45 f8 4c 89 65 f0 c9", map[int]uint64{4: dataAt(512)}},
		{"many adds go beyond what is folded", strings.Repeat("48 81 c4 00 00 07 00 ", 4) + "58", map[int]uint64{4: dataAt(512)}},
		{"add to a register whose address is cached", "49 8b 04 24 49 83 c4 08 49 8b 1c 24 49 83 ec 10 49 8b 14 24", map[int]uint64{12: dataAt(64)}},
		{"inc and dec of a cached address keep flags", "48 8b 07 48 ff c7 48 8b 1f 48 ff cf 48 8b 0f", map[int]uint64{7: dataAt(64)}},
		{"tag bits on a cached base", "48 8b 07", map[int]uint64{7: dataAt(64) | tag}},
		{"tag bits on a virtual base", "49 8b 04 24", map[int]uint64{12: dataAt(64) | tag}},
		// mov rax,[rdi]; bts rdi,60; mov rax,[rdi]
		{"tag bits on a base that was an address", "48 8b 07 48 0f ba ef 3c 48 8b 07", map[int]uint64{7: dataAt(64)}},
		// mov rax,[rdi]; add rdi,rsi; mov rax,[rdi]
		{"tag bits added to an address", "48 8b 07 48 01 f7 48 8b 07", map[int]uint64{7: dataAt(64), 6: tag}},
		// mov esi,1; shl rsi,60; mov rax,[rdi+rsi]
		{"tag bits in an index that was small", "be 01 00 00 00 48 c1 e6 3c 48 8b 04 37", map[int]uint64{7: dataAt(64)}},
		// push rax; pop rax; xor rsp,rsi; pop rax
		{"tag bits on RSP, used before", "50 58 48 31 f4 58", map[int]uint64{4: dataAt(64), 6: tag}},
		// mov ecx,5; loop: mov rax,[rdi]; add rdi,rsi; dec ecx; jnz loop
		{"tag bits that come up in a loop", "b9 05 00 00 00 48 8b 07 48 01 f7 ff c9 75 f6", map[int]uint64{7: dataAt(64), 6: tag}},
		// mov esi,1; mov ecx,5; loop: mov rax,[rdi+rsi]; shl rsi,30; dec ecx; jnz loop
		{"an index that grows in a loop", "be 01 00 00 00 b9 05 00 00 00 48 8b 04 37 48 c1 e6 1e ff c9 75 f6", map[int]uint64{7: dataAt(64)}},
		// test eax,eax; jz far; jmp end; far: pop rcx
		{"tag bits on RSP, on a way of its own", "85 c0 74 02 eb 01 59", map[int]uint64{0: 0, 4: dataAt(64) | tag}},
		{"moved bits on RSP, on a way of its own", "85 c0 74 02 eb 01 59", map[int]uint64{0: 0, 4: dataAt(64) | 1<<45}},
		// push r12; lea r12,[r12+5]; push r12; test eax,eax; jz far; jmp end; far: pop r13; mov rcx,[rdi]
		{"values that a way of its own puts into slots", "41 54 4d 8d 64 24 05 41 54 85 c0 74 02 eb 05 41 5d 48 8b 0f", map[int]uint64{0: 0, 4: dataAt(64), 7: tag}},
		{"the same that keep their registers on the other way", "41 54 4d 8d 64 24 05 41 54 85 c0 74 02 eb 05 41 5d 48 8b 0f", map[int]uint64{0: 1, 4: dataAt(64), 7: tag}},
		{"moved bits on RSP", "58", map[int]uint64{4: dataAt(64) | 1<<45}},
		{"kernel half", "48 8b 07", map[int]uint64{7: 0xffffffff81000000}},
		{"base outside, address inside", "48 8b 87 00 00 20 10", map[int]uint64{7: dataAt(64) - 0x10200000}},
		{"beyond the window's end", "48 8b 47 10", map[int]uint64{7: 1<<42 - 12}},
		{"last bytes of the window", "48 8b 47 00", map[int]uint64{7: 1<<42 - 8}},
		{"read-only page", "c6 07 01", map[int]uint64{7: dataAt(2*pageSize + 8)}},
		{"across into the read-only page", "48 89 07", map[int]uint64{7: dataAt(2*pageSize - 4)}},
		{"behind the end of the file", "8a 07", map[int]uint64{7: dataAt(7*pageSize + 8)}},
		{"lock cmpxchg with virtual registers", "f0 4d 0f b1 6c 24 08", map[int]uint64{12: dataAt(64), 13: 7}},
		{"xchg of RSP and a register", "48 94 58", map[int]uint64{0: dataAt(64)}},
		{"xadd of two virtual registers", "4d 0f c1 e5 4d 0f c1 ed", nil},
		{"16 and 8 bit writes keep the rest", "66 41 bc 34 12 41 b5 56 41 88 c6", nil},
		{"32 bit writes clear the upper half", "45 89 e5 41 89 c6 41 bf 01 00 00 00", nil},
		{"bsf of zero leaves a virtual destination alone", "31 c0 4c 0f bc e0 44 0f bc e8", nil},
		{"bit offset beyond the operand's size", "41 0f ba ec 3f 49 0f ba ed 7f", nil},
		{"bit test of a virtual register by a register", "4d 0f a3 ec 4d 0f ab e5", map[int]uint64{13: 100}},
		{"high bytes and memory", "8a 27 02 3f 88 6f 01 38 37 86 27", map[int]uint64{7: dataAt(64)}},
		{"rep movsb", "f3 a4", map[int]uint64{1: 100, 6: dataAt(64), 7: dataAt(512)}},
		{"rep movsb, overlapping", "f3 a4", map[int]uint64{1: 100, 6: dataAt(64), 7: dataAt(65)}},
		{"rep movsq of nothing, wild pointers", "f3 48 a5", map[int]uint64{1: 0, 6: 1 << 45, 7: tag}},
		{"rep stosb into an unmapped page", "f3 aa", map[int]uint64{1: 9000, 7: dataAt(64)}},
		{"rep movsq from an unmapped page", "f3 48 a5", map[int]uint64{1: 9000, 6: dataAt(64), 7: dataAt(4 * pageSize)}},
		{"rep stosb of too many", "f3 aa", map[int]uint64{1: 1 << 16, 7: dataAt(64)}},
		{"rep stosb of 2^63", "f3 aa", map[int]uint64{1: 1 << 63, 7: dataAt(64)}},
		{"rep stosb keeps what was cached straight", "49 8b 04 24 48 8b 1f f3 aa 48 8b 0f 49 8b 14 24", map[int]uint64{1: 40, 7: dataAt(64), 12: dataAt(512)}},
		{"movsw, lodsd, scasq, cmpsb", "66 a5 ad 48 af a6", map[int]uint64{6: dataAt(64), 7: dataAt(512)}},
		{"divide by zero", "49 f7 fc", map[int]uint64{12: 0}},
		{"divide by memory", "49 f7 34 24", map[int]uint64{0: 5, 2: 0, 12: dataAt(64)}},
		{"divide overflow", "48 f7 f1", map[int]uint64{0: 5, 2: 7, 1: 2}},
		{"loop, loope, loopne", "b9 05 00 00 00 ff c0 e2 fc b9 03 00 00 00 39 c0 e1 fc e0 00", nil},
		{"jrcxz both ways", "31 c9 e3 01 90 ff c1 e3 01 90 ff c1", nil},
		{"counted loop over the stack", "b9 05 00 00 00 41 54 4c 8d 64 24 08 41 5d ff c9 75 f3", map[int]uint64{4: dataAt(512)}},
		{"call and return", "e8 02 00 00 00 eb 03 ff c0 c3 ff c2", map[int]uint64{4: dataAt(512)}},
		{"call and a return address that was changed", "e8 02 00 00 00 eb 07 48 83 04 24 02 c3 90 ff c2", map[int]uint64{4: dataAt(512)}},
		// mov eax,[rbx]; mov rax,fs:[0]; mov [rsp],rax; lea r15,[rsp+16]; lea r14,[rbx+32]; sub rsp,72; call f; jmp end; f: mov rax,fs:[8]; ret
		{"return while the register of RSP holds another at a distance", "8b 03 64 48 8b 04 25 00 00 00 00 48 89 04 24 4c 8d 7c 24 10 " +
			"4c 8d 73 20 48 83 ec 48 e8 02 00 00 00 eb 0a 64 48 8b 04 25 08 00 00 00 c3", map[int]uint64{3: dataAt(64), 4: dataAt(512)}},
		// kxorw k1,k1,k1; vmovups zmm1{k1},[r12]; mov rax,r12
		{"an access with an empty opmask proves no address", "c5 f4 47 c9 62 d1 7c 49 10 0c 24 4c 89 e0", map[int]uint64{12: dataAt(64) | 1<<48}},
		// vpxor xmm0,xmm0,xmm0; vmaskmovps xmm1,xmm0,[r12]; mov rax,r12
		{"an access with an empty mask proves no address", "c5 f9 ef c0 c4 c2 79 2c 0c 24 4c 89 e0", map[int]uint64{12: dataAt(64) | 1<<48}},
		// jrcxz next; next: dec ecx; jnz next
		{"a loop that a label leads into, behind a jump", "b9 05 00 00 00 e3 00 ff c9 75 fc", nil},
		// test edi,edi; jz far; near: push rax; pop rax; int3; far: inc eax; push rax; pop rcx; jmp near
		{"a way back that closes no loop", "85 ff 74 03 50 58 cc ff c0 50 59 eb f7", map[int]uint64{4: dataAt(512), 7: 0}},
		// the same with far: mov rax,[-2^31]; jmp near
		{"a way back that is not translated", "85 ff 74 03 50 58 cc 48 8b 04 25 00 00 00 80 eb f3", map[int]uint64{4: dataAt(512), 7: 1}},
		// the same with far: mov rax,[-2^31]; test eax,eax; jz on; int3; on: inc eax; jmp near
		{"a way back from code that is not reached", "85 ff 74 03 50 58 cc 48 8b 04 25 00 00 00 80 85 c0 74 01 cc ff c0 eb ec",
			map[int]uint64{4: dataAt(512), 7: 1}},
		{"one instruction inside another", "31 c9 85 c9 74 01 b8 ff c0 ff c1 ff c1 83 f9 05 72 f0", nil},
	}
	for _, c := range cases {
		for _, gprs := range []uint64{0, 0x0123456789abcdef} {
			code, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			g := newGen(1)
			w.fill(g.rng, lowBase)
			s := state{rip: lowBase, flags: gprs & arithFlags, fsBase: dataAt(1024), vec: vectors{mxcsr: 0x1f80}}
			for i := range s.gpr {
				s.gpr[i] = gprs * uint64(i+1)
			}
			for r, v := range c.gpr {
				if r >= 0 {
					s.gpr[r] = v
					continue
				}
				for i := range 8 { // what the stack holds at RSP 3*8
					w.native[3*8+i], w.btc[3*8+i] = byte(v>>(8*i)), byte(v>>(8*i))
				}
			}
			w.setCode(append(code, 0xcc))
			w.check(t, s, code)
			if t.Failed() {
				t.Fatalf("case %q", c.name)
			}
		}
	}
	if w.stops > 0 {
		t.Logf("%d cases were not entered", w.stops)
	}
}

// program installs the translation of code at base and returns the place for its first byte.
func (w *world) program(t *testing.T, base uint64, code string) (machine.Code, *machine.Installed) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	w.setCode(b)
	_, in, err := w.translate(t, []uint64{base}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := in.Entry(base)
	if !ok {
		t.Fatal("no entry")
	}
	return c, in
}

// TestSyscall: a system call is an exit with all registers as they were, and the instruction after it an entry.
func TestSyscall(t *testing.T) {
	w := newWorld(t)
	for _, base := range []uint64{lowBase, highBase} {
		// push r12; mov r12, rax; syscall; pop r12; jmp back
		c, in := w.program(t, base, "41 54 49 89 c4 0f 05 41 5c eb f5")
		defer w.m.Retire(in)
		s := state{rip: base, flags: 0x8d5}
		for i := range s.gpr {
			s.gpr[i] = uint64(i) * 0x1111
		}
		s.gpr[4] = base + dataOffset + 256
		want := s
		want.rip = base + 7
		want.gpr[4] -= 8
		want.gpr[12] = s.gpr[0]
		for range 3 {
			x, got := w.enter(c, s)
			if x.Reason != machine.ExitSyscall || got != want {
				t.Fatalf("exit %v:\n%s", x.Reason, diffState(got, want))
			}
			s = got
			var ok bool
			if c, ok = in.Entry(got.rip); !ok {
				t.Fatalf("no entry after the system call, at %#x", got.rip)
			}
		}
	}
}

// TestStop: a loop without end is left when asked, with the state of an iteration's start.
func TestStop(t *testing.T) {
	w := newWorld(t)
	// inc rax; lea r12, [r12+1]; jmp back
	c, in := w.program(t, lowBase, "48 ff c0 4d 8d 64 24 01 eb f6")
	defer w.m.Retire(in)
	w.th.Stop()
	defer w.th.ClearStop()
	x, s := w.enter(c, state{rip: lowBase})
	if x.Reason != machine.ExitFuel || s.rip != lowBase || s.gpr[0] != s.gpr[12] {
		t.Fatalf("exit %v at %v", x.Reason, s)
	}
	w.th.ClearStop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			for !w.th.Running() {
			}
			w.th.Stop()
			for w.th.Running() {
			}
			w.th.ClearStop()
		}
	}()
	left := 0
	for {
		select {
		case <-done:
			if left == 0 {
				t.Error("never left")
			}
			return
		default:
		}
		x, s = w.enter(c, s)
		left++
		if x.Reason != machine.ExitFuel || s.rip != lowBase || s.gpr[0] != s.gpr[12] {
			t.Fatalf("exit %v at %v", x.Reason, s)
		}
	}
}

// TestMiss: an unknown target is reported with where it came from, and state is that after the branch.
func TestMiss(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		code string
		from uint64
		rsp  int64
		want uint64
	}{
		{"90 c3", 1, 8, 0x12345678},
		{"90 c2 10 00", 1, 24, 0x12345678},
		{"90 ff e0", 1, 0, 0x23456789},
		{"90 ff d0", 1, -8, 0x23456789},
		{"90 41 ff e7", 1, 0, 0x34567890},
		{"90 ff 24 24", 1, 0, 0x12345678},
		{"90 e9 00 00 00 10", 1, 0, 0x20000006}, // behind the code: not readable, so a stop there
	} {
		c, in := w.program(t, lowBase, tt.code)
		s := state{rip: lowBase}
		s.gpr[0], s.gpr[15], s.gpr[4] = 0x23456789, 0x34567890, dataAt(256)
		for i, b := range []byte{0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0} {
			w.btc[256+i] = b
		}
		x, got := w.enter(c, s)
		want := s
		want.rip = tt.want
		want.gpr[4] += uint64(tt.rsp)
		if got != want {
			t.Errorf("%s: %v\n%s", tt.code, x.Reason, diffState(got, want))
		}
		if x.Reason == machine.ExitMiss && x.From != lowBase+tt.from {
			t.Errorf("%s: from %#x", tt.code, x.From)
		}
		w.m.Retire(in)
	}
}

// TestDispatch: targets that are not compared with inline are found through the thread's table.
func TestDispatch(t *testing.T) {
	w := newWorld(t)
	// 0: jmp rax; 16: inc rdx; int3; 32: add rdx, 2; int3
	c, in := w.program(t, lowBase, "ff e0"+strings.Repeat("90", 14)+"48 ff c2 cc"+strings.Repeat("90", 12)+"48 83 c2 02 cc")
	defer w.m.Retire(in)
	for _, off := range []uint64{16, 32} {
		_, in, err := w.translate(t, []uint64{lowBase + off}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.m.Retire(in)
		e, _ := in.Entry(lowBase + off)
		w.th.Bind(lowBase+off, e)
	}
	for off, add := range map[uint64]uint64{16: 1, 32: 2} {
		s := state{rip: lowBase}
		s.gpr[0] = lowBase + off
		s.gpr[1] = 77
		x, got := w.enter(c, s)
		if x.Reason != machine.ExitStop || got.gpr[2] != add || got.gpr[1] != 77 {
			t.Errorf("to %#x: %v at %v", off, x.Reason, got)
		}
	}
}

// TestInlineTargets: with hints, known targets are reached without the dispatcher, whatever their number, and others
// still miss.
func TestInlineTargets(t *testing.T) {
	w := newWorld(t)
	for _, base := range []uint64{lowBase, highBase} {
		// jmp rax, and at 16*k: add edx, k; int3
		code := "ff e0" + strings.Repeat("90", 14)
		for k := 1; k <= 10; k++ {
			code += fmt.Sprintf("83 c2 %02x cc", k) + strings.Repeat("90", 12)
		}
		b, _ := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
		for n := 0; n <= 10; n++ {
			var hints path.Hints
			for k := 1; k <= n; k++ {
				if hints == nil {
					hints = path.Hints{}
				}
				hints[base] = append(hints[base], base+16*uint64(k))
			}
			w.setCode(b)
			w.th.Flush()
			_, in, err := w.translate(t, []uint64{base}, hints)
			if err != nil {
				t.Fatal(err)
			}
			c, _ := in.Entry(base)
			for k := uint64(1); k <= 10; k++ {
				s := state{rip: base, flags: 0x41}
				s.gpr[0], s.gpr[1] = base+16*k, 99
				x, got := w.enter(c, s)
				inline := k <= uint64(min(n, btc.MaxInlineTargets))
				if want := uint64(0); got.gpr[1] != 99 || inline && (x.Reason != machine.ExitStop || got.gpr[2] != k) ||
					!inline && (x.Reason != machine.ExitMiss || got.gpr[2] != want || got.flags != 0x41 || x.From != base) {
					t.Errorf("%d targets known, to number %d: %v at %v", n, k, x.Reason, got)
				}
			}
			w.m.Retire(in)
		}
	}
}

// TestSlots: a translation writes no slot but those of the virtual registers.
func TestSlots(t *testing.T) {
	if target.SlotRSP != 0 || target.SlotR15 != 32 {
		t.Error("Recover expects the virtual registers in the first slots, in order")
	}
}
