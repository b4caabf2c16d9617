package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/cpuid"

	"ub/target"
)

// newVecArea returns an XSAVE area in which the components of mask have random contents and all others are in their
// initial state.
func newVecArea(rng *rand.Rand, mask uint64) []byte {
	n := VecAreaSize()
	b := make([]byte, n)
	le := binary.LittleEndian
	le.PutUint32(b[xMXCSR:], defaultMXCSR)
	le.PutUint32(b[xMXCSRMask:], mxcsrMask)
	le.PutUint64(b[xHeader:], mask)
	for _, c := range components(mask) {
		for i := c.off; i < c.off+c.size; i++ {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

type component struct{ off, size int }

// xsaveOffset is where component i is (CPUID leaf 0Dh).
func xsaveOffset(i uint32) int { return int(hostFeatures().Query(cpuid.In{Eax: 0xd, Ecx: i}).Ebx) }

// components returns where the vector components of mask are.
func components(mask uint64) []component {
	var out []component
	for bit, c := range map[uint64]component{
		xSSE: {160, 256}, xAVX: {xsaveOffset(2), 256}, xOpmask: {xsaveOffset(5), 64}, xZMMHi: {xsaveOffset(6), 512},
		xHi16ZMM: {xsaveOffset(7), 1024},
	} {
		if mask&bit != 0 {
			out = append(out, c)
		}
	}
	return out
}

// Rounded up or down, the quotient differs; the variables keep the compiler from dividing.
var one, three, third = 1.0, 3.0, 1.0 / 3.0

// TestVectorState: a run gives the vector state back as it was, at each level and from each combination of initial and
// used components, and leaves Go's MXCSR alone.
func TestVectorState(t *testing.T) {
	m := newMachine(t, Options{})
	if m.MaxVec() == target.VecNone {
		t.Skip("no AVX on this machine")
	}
	th, w := newThread(t, m), newWindow(t, m)
	c := code(t, m, landingPad(0x1000, 7))
	rng := rand.New(rand.NewPCG(1, 2))
	for mask := uint64(0); mask < 1<<8; mask++ {
		if mask&^uint64(xavx|xavx512) != 0 || mask&^xavx != 0 && m.MaxVec() < target.VecAVX512 {
			continue
		}
		for level := target.VecNone; level <= m.MaxVec(); level++ {
			area := newVecArea(rng, mask)
			mxcsr := uint32(defaultMXCSR | rng.Uint32()&0xe03f) // rounding mode, FTZ, DAZ, sticky flags
			binary.LittleEndian.PutUint32(area[xMXCSR:], mxcsr)
			before := bytes.Clone(area)
			if err := th.LoadVec(area); err != nil {
				t.Fatal(err)
			}
			th.SetVec(level)
			if want := level; mask&xZMMHi != 0 && level != target.VecNone && th.Vec() != target.VecAVX512 ||
				th.Vec() < want {
				t.Fatalf("components %#x, level %v: runs at %v", mask, level, th.Vec())
			}
			for th.Run(w, c).Reason == ExitFuel {
			}
			th.StoreVec(area)
			if got := one / three; got != third {
				t.Fatalf("division rounds differently after a run: MXCSR is not Go's")
			}
			if got := binary.LittleEndian.Uint32(area[xMXCSR:]); got != mxcsr {
				t.Fatalf("components %#x, level %v: MXCSR %#x, want %#x", mask, level, got, mxcsr)
			}
			compareAreas(t, before, area)
		}
	}
}

// compareAreas compares the vector state of two areas; a component in its initial state is all zero.
func compareAreas(t *testing.T, want, got []byte) {
	t.Helper()
	for _, c := range []struct {
		bit  uint64
		name string
	}{{xSSE, "XMM"}, {xAVX, "YMM upper halves"}, {xOpmask, "K"}, {xZMMHi, "ZMM upper halves"}, {xHi16ZMM, "ZMM16-31"}} {
		for _, at := range components(c.bit) {
			read := func(b []byte) []byte {
				if binary.LittleEndian.Uint64(b[xHeader:])&c.bit == 0 {
					return make([]byte, at.size)
				}
				return b[at.off : at.off+at.size]
			}
			if at.off+at.size <= len(want) && !bytes.Equal(read(want), read(got)) {
				t.Fatalf("%s changed:\n got %x\nwant %x", c.name, read(got), read(want))
			}
		}
	}
}

// TestVectorLevels: code is entered, directly or by dispatch, only by runs of its level or above.
func TestVectorLevels(t *testing.T) {
	m := newMachine(t, Options{})
	if m.MaxVec() < target.VecAVX {
		t.Skip("no AVX on this machine")
	}
	th, w := newThread(t, m), newWindow(t, m)
	area := newVecArea(rand.New(rand.NewPCG(3, 4)), xSSE)
	from := code(t, m, jumper(0x1000))
	var to [target.NumVecs]Code
	rip := func(v target.Vec) uint64 { return 0x2000 + uint64(v)*0x100 }
	for v := range m.MaxVec() + 1 {
		b := landingPad(rip(v), 7)
		b.Vec = v
		to[v] = code(t, m, b)
		th.Bind(rip(v), to[v])
	}
	if err := th.LoadVec(area); err != nil {
		t.Fatal(err)
	}
	for level := range m.MaxVec() + 1 {
		th.SetVec(level)
		for v := range m.MaxVec() + 1 {
			direct, jumped := ExitSyscall, ExitSyscall
			if v > level {
				direct, jumped = ExitVector, ExitMiss
			}
			if ex := th.Run(w, to[v]); ex.Reason != direct && ex.Reason != ExitFuel {
				t.Errorf("run at level %v into code of level %v: %v, want %v", level, v, ex.Reason, direct)
			}
			th.Regs().GPR[rAX] = rip(v)
			if ex := th.Run(w, from); ex.Reason != jumped && ex.Reason != ExitFuel {
				t.Errorf("dispatch at level %v to code of level %v: %v, want %v", level, v, ex.Reason, jumped)
			}
		}
	}
	th.Flush()
	for v, tb := range th.tables {
		for i, e := range tb {
			if e.code != 0 {
				t.Errorf("table %d, entry %d after Flush: %+v", v, i, e)
			}
		}
	}
}

// TestVectorAreaRefused: an area that is not well-formed is refused, and nothing taken from it.
func TestVectorAreaRefused(t *testing.T) {
	m := newMachine(t, Options{})
	if m.MaxVec() < target.VecAVX {
		t.Skip("no AVX on this machine")
	}
	th := newThread(t, m)
	for name, spoil := range map[string]func(b []byte) []byte{
		"none":              func([]byte) []byte { return nil },
		"short":             func(b []byte) []byte { return b[:512] },
		"unknown component": func(b []byte) []byte { b[xHeader+7] = 0x40; return b },
		"compact":           func(b []byte) []byte { b[xHeader+15] = 0x80; return b },
		"reserved":          func(b []byte) []byte { b[xHeader+63] = 1; return b },
		"mxcsr":             func(b []byte) []byte { b[xMXCSR+2] = 1; return b },
	} {
		good := newVecArea(rand.New(rand.NewPCG(5, 6)), xavx)
		if err := th.LoadVec(good); err != nil {
			t.Fatal(err)
		}
		before := th.b.vec
		if err := th.LoadVec(spoil(newVecArea(rand.New(rand.NewPCG(7, 8)), xavx))); !errors.Is(err, ErrVectorArea) {
			t.Errorf("%s: %v", name, err)
		}
		if th.b.vec != before {
			t.Errorf("%s: refused, but loaded", name)
		}
	}
}

// BenchmarkRunVector is BenchmarkRun at the levels that load and store vector state.
func BenchmarkRunVector(b *testing.B) {
	m := newMachine(b, Options{})
	th, w := newThread(b, m), newWindow(b, m)
	c := code(b, m, landingPad(0x1000, 7))
	for level := range m.MaxVec() + 1 {
		b.Run(level.String(), func(b *testing.B) {
			area := newVecArea(rand.New(rand.NewPCG(7, 8)), xavx)
			if err := th.LoadVec(area); err != nil {
				b.Fatal(err)
			}
			th.SetVec(level)
			for b.Loop() {
				th.Run(w, c)
			}
		})
		b.Run(level.String()+"/moved", func(b *testing.B) {
			area := newVecArea(rand.New(rand.NewPCG(7, 8)), xavx)
			for b.Loop() {
				if err := th.LoadVec(area); err != nil {
					b.Fatal(err)
				}
				th.SetVec(level)
				th.Run(w, c)
				th.StoreVec(area)
			}
		})
	}
}
