package btc_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/cpuid"

	"ub/sentry/machine"
)

// vectors is the program's vector state.
type vectors struct {
	reg   [32][64]byte
	k     [8]uint64
	mxcsr uint32
}

// Where the parts are in an XSAVE area (SDM vol. 1, 13.4).
var xsave = sync.OnceValue(func() (l struct{ size, ymm, k, zmm, hi16 int }) {
	cpuid.Initialize()
	f := cpuid.HostFeatureSet()
	at := func(c uint32) int { return int(f.Query(cpuid.In{Eax: 0xd, Ecx: c}).Ebx) }
	l.size, l.ymm, l.k, l.zmm, l.hi16 = machine.VecAreaSize(), at(2), at(5), at(6), at(7)
	return l
})

const (
	xHeader    = 512
	allVectors = 0xe6 // state components
)

func (v *vectors) area() []byte {
	l := xsave()
	b := make([]byte, l.size)
	le := binary.LittleEndian
	le.PutUint16(b[0:], 0x37f) // x87 control word
	le.PutUint32(b[24:], v.mxcsr)
	le.PutUint32(b[28:], 0xffff)
	le.PutUint64(b[xHeader:], allVectors&cpuid.HostFeatureSet().ValidXCR0Mask())
	for i := range 16 {
		copy(b[160+16*i:], v.reg[i][:16])
		if l.ymm != 0 {
			copy(b[l.ymm+16*i:], v.reg[i][16:32])
		}
		if l.zmm != 0 {
			copy(b[l.zmm+32*i:], v.reg[i][32:])
			copy(b[l.hi16+64*i:], v.reg[16+i][:])
		}
	}
	for i, k := range v.k {
		if l.k != 0 {
			le.PutUint64(b[l.k+8*i:], k)
		}
	}
	return b
}

func vectorsOf(b []byte) (v vectors) {
	l := xsave()
	le := binary.LittleEndian
	bv := le.Uint64(b[xHeader:])
	v.mxcsr = le.Uint32(b[24:])
	for i := range 16 {
		if bv&2 != 0 {
			copy(v.reg[i][:16], b[160+16*i:])
		}
		if bv&4 != 0 {
			copy(v.reg[i][16:32], b[l.ymm+16*i:])
		}
		if bv&0x40 != 0 {
			copy(v.reg[i][32:], b[l.zmm+32*i:l.zmm+32*i+32])
		}
		if bv&0x80 != 0 {
			copy(v.reg[16+i][:], b[l.hi16+64*i:])
		}
	}
	for i := range v.k {
		if bv&0x20 != 0 {
			v.k[i] = le.Uint64(b[l.k+8*i:])
		}
	}
	return v
}

func (o *oracle) setVectors(t testing.TB, v *vectors) {
	b := make([]byte, max(xsave().size, 4096))
	o.regset(t, unix.PTRACE_GETREGSET, b)
	// What is not vector state stays: x87, protection keys.
	keep := binary.LittleEndian.Uint64(b[xHeader:]) &^ allVectors
	iov := v.area()
	copy(iov[:24], b[:24])
	copy(iov[32:160], b[32:160])
	bv := binary.LittleEndian.Uint64(iov[xHeader:])
	copy(b, iov)
	binary.LittleEndian.PutUint64(b[xHeader:], bv|keep&1)
	o.regset(t, unix.PTRACE_SETREGSET, b[:xsave().size])
}

func (o *oracle) vectors(t testing.TB) vectors {
	b := make([]byte, max(xsave().size, 4096))
	o.regset(t, unix.PTRACE_GETREGSET, b)
	return vectorsOf(b)
}

// randomVectors are integers, floating-point numbers of all kinds, and small indices.
func (g *gen) vectors() (v vectors) {
	special := []uint64{0, 1 << 63, math.Float64bits(1), math.Float64bits(-2.5), math.Float64bits(math.Inf(1)), 1, 1 << 51, // denormals
		0x7ff0000000000001, 0x7ff8000000000000, math.Float64bits(1e300), 0x7f80000100000001, 0x3f800000_bf800000, ^uint64(0)}
	for i := range v.reg {
		if g.chance(4) {
			continue
		}
		top := 64
		if g.chance(3) {
			top = 32 // nothing above YMM
		}
		for o := 0; o < top; o += 8 {
			x := g.rng.Uint64()
			if g.chance(2) {
				x = special[g.rng.IntN(len(special))]
			}
			binary.LittleEndian.PutUint64(v.reg[i][o:], x)
		}
	}
	if g.chance(3) { // no bits above 255 at all: the lower level does
		for i := range v.reg {
			v.reg[i] = [64]byte(append(v.reg[i][:32:32], make([]byte, 32)...))
		}
	}
	for i := range v.k {
		v.k[i] = g.rng.Uint64() >> g.rng.IntN(64)
	}
	if xsave().zmm == 0 {
		for i := range v.reg {
			v.reg[i] = [64]byte(append(v.reg[i][:32:32], make([]byte, 32)...))
			if i >= 16 {
				v.reg[i] = [64]byte{}
			}
		}
		v.k = [8]uint64{}
	}
	v.mxcsr = 0x1f80
	switch g.rng.IntN(6) {
	case 0: // rounding, DAZ, FTZ, flags
		v.mxcsr |= g.rng.Uint32() & 0xe07f
	case 1: // some exceptions are not masked
		v.mxcsr = g.rng.Uint32() & 0xff80
	}
	return v
}

func (v *vectors) diff(want *vectors) string {
	var b strings.Builder
	for i := range v.reg {
		if v.reg[i] != want.reg[i] {
			fmt.Fprintf(&b, "  zmm%d: %x\n  natively %x\n", i, v.reg[i], want.reg[i])
		}
	}
	for i := range v.k {
		if v.k[i] != want.k[i] {
			fmt.Fprintf(&b, "  k%d: %#x, natively %#x\n", i, v.k[i], want.k[i])
		}
	}
	if v.mxcsr != want.mxcsr {
		fmt.Fprintf(&b, "  mxcsr: %#x, natively %#x\n", v.mxcsr, want.mxcsr)
	}
	return b.String()
}

// TestVectorOracle: what is put into the child's registers comes back.
func TestVectorOracle(t *testing.T) {
	w := newWorld(t)
	w.setCode([]byte{0xcc})
	for seed := range uint64(50) {
		g := &gen{rng: rand.New(rand.NewPCG(seed, 1)), base: lowBase}
		s := g.state()
		out := w.o.run(t, s)
		out.rip-- // behind the INT3
		if out.state != s {
			t.Fatalf("seed %d: %s", seed, diffState(out.state, s))
		}
	}
}
