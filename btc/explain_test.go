package btc_test

import (
	"fmt"

	"ub/btc"
	"ub/sfi"
	"ub/target"
)

// explain is the verifier's account of b.
func explain(b *btc.Blob) string {
	base := uint64(0x7000_0000_0000)
	env := sfi.Env{Kernel: b.Kernel, Vec: b.Vec}
	if b.Kernel == target.Linux {
		base = linuxVerified + pageSize
	}
	for s := range target.NumSyms {
		env.Syms[s] = base - 0x1000 + 16*uint64(s)
	}
	code := append([]byte(nil), b.Code...)
	for _, r := range b.Relocs {
		d := int64(env.Syms[r.Sym]-base) - int64(r.Off) - 4
		for k := range 4 {
			code[int(r.Off)+k] = byte(d >> (8 * k))
		}
	}
	var entries []uint32
	for _, e := range b.Entries {
		entries = append(entries, e.Off)
	}
	s := ""
	for _, l := range sfi.Explain(code, base, entries, env) {
		s += fmt.Sprintf("%04x %s", l.Off, l.Text)
		if l.Err != nil {
			s += "  <== " + l.Err.Error()
		}
		s += "\n"
	}
	return fmt.Sprint(b.Entries) + "\n" + s
}
