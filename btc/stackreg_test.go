package btc_test

import (
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/target"
)

// TestStackStaysInRegister: RSP is not written to its slot, and not sanitized anew, where calls, returns and ways that meet pass
// it on; only ways out of the blob need the slot.
func TestStackStaysInRegister(t *testing.T) {
	// start: call f; test eax,eax; jz over; push rbx; pop rbx; over: call f; syscall. f: push rbx; pop rbx; ret
	f := function{addr: 0x401000, entries: []uint64{0x401000}, hints: path.Hints{0x401017: {0x401005, 0x401010}},
		code: []byte("\xe8\x10\x00\x00\x00\x85\xc0\x74\x02\x53\x5b\xe8\x05\x00\x00\x00\x0f\x05\x90\x90\x90\x53\x5b\xc3")}
	for k := range target.NumKernels {
		p, b := f.translate(t, btc.Options{Kernel: k})
		slot := "mov qword ptr [rsp], r12"
		var out []string
		for _, row := range btc.Listing(b, p) {
			stores, leaves := 0, false
			for _, n := range row.Native {
				if n.Text == slot {
					stores++
				}
				leaves = leaves || strings.Contains(n.Note, "syscall") || strings.Contains(n.Note, "stop") || strings.Contains(n.Note, "dispatch")
				if strings.HasPrefix(n.Text, "pdep r12") && !row.Entry {
					out = append(out, row.String())
				}
			}
			if stores > 0 && !leaves {
				out = append(out, row.String())
			}
		}
		if out != nil {
			t.Errorf("%v: RSP is stored or sanitized again:\n%s", k, strings.Join(out, ""))
		}
	}
}
