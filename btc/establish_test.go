package btc_test

import (
	"strings"
	"testing"

	"ub/btc"
	"ub/target"
)

// TestPreparedIsKept: what is put into a register in front of a poll is not what the poll is going to overwrite.
func TestPreparedIsKept(t *testing.T) {
	polls := 0
	functions := readFunctions(t)
	// test eax,eax; jz loop; inc eax; loop: mov rcx,[rbx]; dec edx; jnz loop; syscall. One way to the loop prepares nothing.
	functions["two ways"] = function{addr: 0x401000, entries: []uint64{0x401000},
		code: []byte("\x85\xc0\x74\x02\xff\xc0\x48\x8b\x0b\xff\xca\x75\xf9\x0f\x05")}
	for name, f := range functions {
		for k := range target.NumKernels {
			p, b := f.translate(t, btc.Options{Kernel: k})
			var last btc.Native
			for _, row := range btc.Listing(b, p) {
				for _, n := range row.Native {
					if strings.HasPrefix(n.Note, "poll") {
						polls++
						_, reg, _ := strings.Cut(strings.Split(n.Text, ",")[0], " ")
						if strings.HasPrefix(last.Text, "pdep "+strings.TrimSuffix(reg, "d")+",") {
							t.Errorf("%s, %v: %s, and then %s", name, k, last.Text, n.Text)
						}
					}
					if !strings.HasPrefix(n.Text, "nop") { // a loop's alignment
						last = n
					}
				}
			}
		}
	}
	if polls == 0 {
		t.Error("there are no polls")
	}
}
