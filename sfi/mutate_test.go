package sfi

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ub/target"
)

// judge verifies a blob and, if it is accepted, asks the oracle.
func judge(t testing.TB, z *zydis, r *rand.Rand, code []byte, entries []uint32, k target.Kernel) (accepted bool) {
	t.Helper()
	if Verify(code, bases[k], entries, envs[k]) != nil {
		return false
	}
	if z == nil {
		return true
	}
	o := oracle{z: z, code: code, base: bases[k], entries: entries, env: envs[k], rng: r}
	if err := o.check(); err != nil {
		t.Fatalf("accepted, but the oracle says %v\ncode %s\nentries %d", err, hex.EncodeToString(code), entries)
	}
	return true
}

// starts returns the offsets of the instructions of a blob that decodes.
func starts(code []byte) (offs []int) {
	var in inst
	for off := 0; off < len(code); off += int(in.len) {
		if theTable().decode(code, uint32(off), &in) != nil {
			break
		}
		offs = append(offs, off)
	}
	return offs
}

// mutate returns a changed copy of code.
func mutate(r *rand.Rand, code []byte) []byte {
	m := slices.Clone(code)
	for range 1 + r.IntN(2) {
		i, j := r.IntN(len(m)), r.IntN(len(m))
		switch r.IntN(8) {
		case 0:
			m[i] ^= 1 << r.IntN(8)
		case 1:
			m[i] = byte(r.Uint32())
		case 2:
			m[i], m[j] = m[j], m[i]
		case 3:
			m[i] += byte(r.IntN(17) - 8)
		case 4:
			m[i] = []byte{0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x48, 0x41, 0x90, 0xe3, 0x24, 0x04, 0x8b, 0xff, 0x80}[r.IntN(15)]
		default:
			// Whole instructions: exchange two, drop one, copy one over.
			offs := append(starts(m), len(m))
			if len(offs) < 3 {
				continue
			}
			x, y := r.IntN(len(offs)-1), r.IntN(len(offs)-1)
			if x > y {
				x, y = y, x
			}
			a, b := m[offs[x]:offs[x+1]], m[offs[y]:offs[y+1]]
			switch r.IntN(3) {
			case 0:
				m = append(m[:offs[x]:offs[x]], m[offs[x+1]:]...)
			case 1:
				m = slices.Concat(m[:offs[x]], b, m[offs[x]:])
			default:
				if x != y {
					m = slices.Concat(m[:offs[x]], b, m[offs[x+1]:offs[y]], a, m[offs[y+1]:])
				}
			}
			if len(m) == 0 {
				return slices.Clone(code)
			}
		}
	}
	return m
}

// TestMutants changes valid blobs in small ways. What is still accepted must satisfy the oracle.
func TestMutants(t *testing.T) {
	for k := range target.NumKernels {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			testMutants(t, k)
		})
	}
}

func testMutants(t *testing.T, k target.Kernel) {
	z := needZydis(t)
	r := rand.New(rand.NewPCG(3, 4))
	mutants, accepted := 0, 0
	// try returns whether m was accepted; blobs with the same code have been judged already.
	try := func(m []byte, orig []byte, entries []uint32) {
		if len(m) == 0 || bytes.Equal(m, orig) {
			return
		}
		mutants++
		if judge(t, z, r, m, entries, k) {
			accepted++
		}
	}
	var blobs []*testCase
	for _, c := range corpus(t) {
		if c.want == "ok" && c.kernel == k && strings.Contains(c.where, ".cases:") && c.base == bases[k] && len(c.code) < 200 {
			blobs = append(blobs, c)
		}
	}
	for _, c := range blobs {
		for i := range c.code {
			// Every bit of every byte, each truncation, each pair of neighbours exchanged.
			for b := range 8 {
				m := slices.Clone(c.code)
				m[i] ^= 1 << b
				try(m, c.code, c.entries)
			}
			try(c.code[:i], c.code, c.entries)
			try(c.code[i:], c.code, c.entries)
			if i > 0 {
				m := slices.Clone(c.code)
				m[i-1], m[i] = m[i], m[i-1]
				try(m, c.code, c.entries)
			}
			try(c.code, nil, []uint32{uint32(i)})
		}
	}
	t.Logf("corpus: %d mutants, %d accepted", mutants, accepted)
	mutants, accepted = 0, 0
	valid := 0
	for range 7000 {
		code, entries := randomBlob(r, k)
		if !judge(t, z, r, code, entries, k) {
			continue
		}
		valid++
		for range 50 {
			m := mutate(r, code)
			try(m, code, entries)
		}
	}
	t.Logf("%d random blobs: %d mutants, %d accepted", valid, mutants, accepted)
	if valid < 3000 || accepted < mutants/20 {
		t.Error("too few are accepted for the test to mean anything")
	}
}

// TestClobber puts every accepted instruction of testdata/forms.txt between the sanitizing of a register and its use, for
// each register. The use must be accepted exactly if the instruction does not write the register, Zydis says; or else
// leaves a value that the oracle finds safe as well.
func TestClobber(t *testing.T) {
	z := needZydis(t)
	r := rand.New(rand.NewPCG(7, 8))
	kept, lost, safe := 0, 0, 0
	for _, l := range formLines(t) {
		if l.want != "ok" {
			continue
		}
		f, ok := z.facts(l.code)
		if !ok {
			t.Fatalf("%s: not an instruction", l.line)
		}
		for reg := range 16 {
			if reg == rsp {
				continue
			}
			a := &asm{code: unhex(formPrologue)}
			if reg != rdi && reg != rsi && reg != rcx && reg != r12 && reg != r14 {
				a.sanitize(reg, reg)
			}
			off := len(a.code)
			a.raw(l.code...)
			use := len(a.code)
			if reg == rdi || reg == rsi {
				a.mov(rsi, reg)
				a.mov(rdi, reg)
				use = len(a.code)
				a.raw(0xa4)
			} else {
				a.mem(true, false, 8, []byte{0x8b}, rax, reg, 0)
			}
			a.exit(0)
			writes := f.writes&(1<<reg) != 0
			err, _ := Verify(a.code, testBase, []uint32{0}, testEnv).(*Error)
			switch {
			case err == nil && !writes:
				kept++
				judge(t, z, r, a.code, []uint32{0}, target.Sentry)
			case err == nil:
				safe++
				for range 5 {
					judge(t, z, r, a.code, []uint32{0}, target.Sentry)
				}
			case reg == rcx && !writes && (f.mnemonic[:4] == "movs" || f.mnemonic[:4] == "stos"):
				// The verifier forgets rcx even without rep.
			case !writes || err.Off != uint32(use) || err.Rule != RuleAddress:
				t.Errorf("%s: %x at %+#x, then %s is used: %v", l.line, l.code, off, regNames[reg], err)
			default:
				lost++
			}
		}
	}
	t.Logf("kept %d, lost %d, written and still safe %d", kept, lost, safe)
}

// FuzzVerify looks for a blob that is accepted and breaks the policy in the oracle's eyes, for panics, and for
// differences between Verify and Explain.
func FuzzVerify(f *testing.F) {
	addSeeds(f)
	z, _ := newZydis()
	f.Fuzz(func(t *testing.T, code []byte, entry uint16, linux bool) {
		if len(code) > 4096 {
			return
		}
		k := target.Sentry
		if linux {
			k = target.Linux
		}
		entries := []uint32{0, uint32(entry)}
		accepted := judge(t, z, rand.New(rand.NewPCG(uint64(entry), uint64(len(code)))), code, entries, k)
		clean := true
		for _, l := range Explain(code, bases[k], entries, envs[k]) {
			clean = clean && l.Err == nil
		}
		if accepted != clean {
			t.Fatalf("Verify accepts: %v, Explain: %v\ncode %x", accepted, clean, code)
		}
	})
}

// addSeeds adds the corpora and random blobs.
func addSeeds(f *testing.F) {
	for _, c := range corpus(f) {
		if len(c.code) < 1000 && c.base == bases[c.kernel] {
			f.Add(c.code, uint16(0), c.kernel == target.Linux)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 100 {
		k := target.Kernel(i % int(target.NumKernels))
		code, entries := randomBlob(r, k)
		f.Add(code, uint16(entries[len(entries)-1]), k == target.Linux)
	}
}
