package btc_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
)

// TestChase: loops that follow a list to its end, and where that is a bad address, fault there like the program, with its
// state, whichever bit of the address is wrong. The nodes' addresses are sanitized by shifts, not by PDEP.
func TestChase(t *testing.T) { eachKernel(t, testChase) }

func testChase(t *testing.T, w *world) {
	loops := []struct {
		name, code string
		link       int // where a node has the address of the next
	}{
		// inc by add; mov rdi,[rdi]; cmp rdx,rcx; jne
		{"links alone", "4883c201 488b3f 4839ca 75f4", 0},
		// mov rax,[rdi+8]; add rdx,rax; mov rdi,[rdi]; test rdi,rdi; jnz
		{"loads", "488b4708 4801c2 488b3f 4885ff 75f1", 0},
		// mov [rdi+16],edx; mov rdi,[rdi-8]; dec ecx; jnz
		{"stores", "895710 488b7ff8 ffc9 75f5", -8},
		// movzx eax,byte [rdi+9]; cmp [rdi+12],dx; mov rdi,[rdi+0x100]; setz dl; dec ecx; jnz
		{"bytes, and flags that live on", "0fb64709 6639570c 488bbf00010000 0f94c2 ffc9 75ea", 0x100},
		// mov rbx,[rbx]; mov rdi,[rdi]; dec ecx; jnz
		{"two lists", "488b1b 488b3f ffc9 75f6", 0},
	}
	ends := []uint64{0, 1, ^uint64(0), dataAt(64), dataAt(2*pageSize + 64), dataAt(4*pageSize - 4), dataAt(4*pageSize - 1),
		dataAt(4 * pageSize), dataAt(7*pageSize + 8), 1<<42 - 8, 1<<42 - 4, 1 << 42, 1<<47 - 8, 1 << 47, 1 << 63, 0xffffffff81000000}
	for bit := 40; bit < 64; bit++ {
		ends = append(ends, dataAt(128)|1<<bit, dataAt(128)|3<<bit)
	}
	for _, l := range loops {
		code, err := hex.DecodeString(strings.ReplaceAll(l.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		w.setCode(append(code, 0xcc))
		p, err := path.Discover([]uint64{lowBase}, w, nil, path.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := btc.Translate(p, w.opts); err != nil || !strings.Contains(listing(b, p), "shlx") {
			t.Errorf("%s: no pointer is chased: %v", l.name, err)
		}
		for _, end := range ends {
			for nodes := range 4 {
				w.fill(newGen(uint64(nodes)).rng, lowBase)
				s := state{rip: lowBase, flags: 0x8d5, fsBase: dataAt(1024), vec: vectors{mxcsr: 0x1f80}}
				at := func(i int) uint64 { return dataAt(1024 + 48*uint64(i)) }
				for i := range nodes {
					next := at(i + 1)
					if i == nodes-1 {
						next = end
					}
					for _, m := range [][]byte{w.native, w.btc} {
						binary.LittleEndian.PutUint64(m[int(at(i)-dataAt(0))+l.link:], next)
					}
				}
				s.gpr[7], s.gpr[3], s.gpr[1] = at(0), at(0), 6
				if nodes == 0 {
					s.gpr[7] = end
				}
				if w.check(t, s, code); t.Failed() {
					t.Fatal(fmt.Sprintf("%s: %d nodes, then %#x", l.name, nodes, end))
				}
			}
		}
	}
	if w.spurious > w.runs/10 {
		t.Errorf("%d of %d runs faulted where the program does not: %v", w.spurious, w.runs, w.spuriousBy)
	}
}
