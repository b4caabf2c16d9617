package btc_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
)

// TestCheckAtomicity: a probe in front of the access is none of the program's; any other access more than the program's is found.
func TestCheckAtomicity(t *testing.T) {
	const (
		load  = "65498b3f"     // mov rdi, gs:[r15]
		probe = "65450fb66d00" // movzx r13d, byte gs:[r13]
	)
	f := function{addr: lowBase, code: []byte{0x48, 0x8b, 0x3f, 0xcc}, entries: []uint64{lowBase}} // mov rdi,[rdi]
	p, err := path.Discover(f.entries, f, nil, path.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, code string
		ok         bool
	}{
		{"the access", load, true},
		{"a probe and the access", probe + load, true},
		{"a probe alone", probe, false},
		{"a probe behind the access", load + probe, false},
		{"a probe that is looked at", probe + "4d89ec" + load, false},         // mov r12, r13
		{"a probe that is an address", probe + "65498b7d00", false},           // mov rdi, gs:[r13]
		{"a probe into the program's register", "65410fb64500" + load, false}, // movzx eax, byte gs:[r13]
		{"a probe of four bytes", "65458b6d00" + load, false},                 // mov r13d, gs:[r13]
		{"the access twice", load + load, false},
	} {
		code, err := hex.DecodeString(c.code)
		if err != nil {
			t.Fatal(err)
		}
		b := &btc.Blob{Code: code, Lines: []btc.Line{{Off: 0, RIP: lowBase}}}
		if err := btc.CheckAtomicity(b, p); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "access") && !strings.Contains(err.Error(), "changes") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
