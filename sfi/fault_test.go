package sfi

import (
	"slices"
	"strings"
	"testing"

	"ub/target"
)

// TestFaults: with a fault record for each instruction that may fault, what is accepted is accepted still; without one of them it
// is refused, there. Both verifiers are asked.
func TestFaults(t *testing.T) {
	c := startC(t)
	var asked []cBlob
	refused := 0
	for _, cs := range corpus(t) {
		if cs.want != "ok" || len(cs.code) > 4096 {
			continue
		}
		code, entries, env, base := cs.code, cs.entries, cs.env(), cs.base
		var v verifier
		v.run(code, base, entries, env)
		all := []uint32{}
		for i := range v.insts {
			if in := &v.insts[i]; in.mayFault(env.Kernel) {
				all = append(all, in.off)
			}
		}
		try := func(faults []uint32, want string) {
			env.Faults = faults
			if got := verdict(Verify(code, base, entries, env)); got != want {
				t.Errorf("%s: with records for %#x: %s, want %s", cs.name, faults, got, want)
			}
			if env.Kernel == target.Linux {
				asked = append(asked, cBlob{code: code, entries: entries, base: base, env: env, where: cs.name})
			}
		}
		try(all, "ok")
		for i, off := range all {
			refused++
			try(slices.Delete(slices.Clone(all), i, i+1), verdict(refuse(off, RuleFault, "")))
		}
	}
	if refused < 500 {
		t.Errorf("only %d records were left out", refused)
	}
	c.compare(t, asked)
}

// TestRaises pins which instructions raise exceptions without an access: who adds one to the allow-list must think of it. What
// processors with BMI2 lack: each of these has a CPUID bit of its own (Intel SDM volume 2, the instructions' pages).
func TestRaises(t *testing.T) {
	want := strings.Fields("adcx adox andn bextr blsi blsmsk blsr crc32 div idiv popcnt rdpid rdrand rdseed rdtscp")
	var got []string
	for i := range theTable().forms {
		if f := &theTable().forms[i]; f.raises {
			got = append(got, f.mnemonic)
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("these raise exceptions: %v, want %v", got, want)
	}
}
