package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/cpu"
	"gvisor.dev/gvisor/pkg/cpuid"

	"ub/target"
)

// A thread's context block holds the program's vector state while the thread runs translated code, from LoadVec to
// StoreVec. Each run at a level above VecNone loads the registers of its level on entry and stores them on exit, by plain moves: XRSTOR
// and XSAVE would do, but cost 100 ns for a pair where this takes 15, which is as much as all the rest of a run. The
// Sentry's form, an XSAVE area, is needed only when the Sentry or the stub process wants the state.

// vecState is the vector registers. What is not part of a level is not loaded at that level.
type vecState struct {
	reg   [32][64]byte
	k     [8]uint64
	mxcsr uint32
}

// XSAVE state components (SDM vol. 1, 13.1), and where they are in an area in the standard format.
const (
	xSSE     = 1 << 1 // XMM0-15
	xAVX     = 1 << 2 // upper halves of YMM0-15
	xOpmask  = 1 << 5
	xZMMHi   = 1 << 6 // upper halves of ZMM0-15
	xHi16ZMM = 1 << 7

	xavx    = xSSE | xAVX
	xavx512 = xOpmask | xZMMHi | xHi16ZMM

	xMXCSR     = 24
	xMXCSRMask = 28
	xXMM       = 160
	xHeader    = 512 // XSTATE_BV, XCOMP_BV, and 48 bytes that must be 0
	xHeaderLen = 64
	xYMM       = 576 // also what every processor reports

	defaultMXCSR = 0x1f80

	// mxcsrMask: the bits that exist in MXCSR. All processors with AVX have DAZ, so no other mask occurs (SDM vol. 1,
	// 11.6.6).
	mxcsrMask = 0xffff
)

// layout is where the components are that have no architectural place (CPUID leaf 0DH).
type vecLayout struct {
	size                int // of an area
	opmask, zmmHi, hi16 int
	valid               uint64 // components that the kernel has enabled
}

var layoutOnce = sync.OnceValue(func() vecLayout {
	f := hostFeatures()
	size, _ := f.ExtendedStateSize()
	at := func(component uint32) int { return int(f.Query(cpuid.In{Eax: 0xd, Ecx: component}).Ebx) }
	return vecLayout{size: int(size), opmask: at(5), zmmHi: at(6), hi16: at(7), valid: f.ValidXCR0Mask()}
})

func hostFeatures() cpuid.FeatureSet {
	cpuid.Initialize()
	return cpuid.HostFeatureSet()
}

// hostVec returns the highest level for which this CPU and kernel have the registers.
func hostVec() target.Vec {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW: // BW: opmask registers have 64 bits. Set only if the kernel has enabled the state
		return target.VecAVX512
	case cpu.X86.HasAVX:
		return target.VecAVX
	}
	return target.VecNone
}

// MaxVec returns the highest vector level of blobs that can be installed.
func (m *Machine) MaxVec() target.Vec { return m.maxVec }

// VecAreaSize returns how many bytes an XSAVE area has on this machine.
func VecAreaSize() int { return layoutOnce().size }

// ErrVectorArea is wrapped by what LoadVec returns.
var ErrVectorArea = errors.New("not a vector state that translated code can start from")

// LoadVec takes the program's vector state from area, an XSAVE area in the standard format. Each run then works on it,
// until StoreVec gives it back. It returns an error, and changes nothing, when area is not well-formed (SDM vol. 1, 13.8).
func (t *Thread) LoadVec(area []byte) error {
	l := layoutOnce()
	le := binary.LittleEndian
	if len(area) < xYMM || len(area) < l.size {
		return fmt.Errorf("%w: %d bytes, not %d", ErrVectorArea, len(area), l.size)
	}
	bv := le.Uint64(area[xHeader:])
	for off := xHeader + 8; off < xHeader+xHeaderLen; off += 8 {
		if v := le.Uint64(area[off:]); v != 0 {
			return fmt.Errorf("%w: %#x at offset %#x of the area", ErrVectorArea, v, off)
		}
	}
	if bad := bv &^ l.valid; bad != 0 {
		return fmt.Errorf("%w: components %#x do not exist", ErrVectorArea, bad)
	}
	mxcsr := le.Uint32(area[xMXCSR:])
	if bad := mxcsr &^ mxcsrMask; bad != 0 {
		return fmt.Errorf("%w: MXCSR has reserved bits %#x", ErrVectorArea, bad)
	}
	s := &t.b.vec
	s.mxcsr = mxcsr
	// A component in its initial state is all zero, whatever is in memory.
	for i := range 16 {
		r := &s.reg[i]
		if bv&xSSE != 0 {
			*(*[16]byte)(r[0:]) = *(*[16]byte)(area[xXMM+16*i:])
		} else {
			*(*[16]byte)(r[0:]) = [16]byte{}
		}
		if bv&xAVX != 0 {
			*(*[16]byte)(r[16:]) = *(*[16]byte)(area[xYMM+16*i:])
		} else {
			*(*[16]byte)(r[16:]) = [16]byte{}
		}
	}
	t.wide, t.ran = false, target.VecNone
	t.b.vecUpper = 0
	if bv&(xAVX|xZMMHi) != 0 {
		t.b.vecUpper = 1
	}
	if t.m.maxVec < target.VecAVX512 {
		return nil
	}
	for i := range 16 {
		if bv&xZMMHi != 0 {
			t.wide = true
			*(*[32]byte)(s.reg[i][32:]) = *(*[32]byte)(area[l.zmmHi+32*i:])
		} else {
			*(*[32]byte)(s.reg[i][32:]) = [32]byte{}
		}
	}
	for i := range 16 {
		if bv&xHi16ZMM != 0 {
			s.reg[16+i] = [64]byte(area[l.hi16+64*i:])
		} else {
			s.reg[16+i] = [64]byte{}
		}
	}
	for i := range s.k {
		s.k[i] = 0
		if bv&xOpmask != 0 {
			s.k[i] = le.Uint64(area[l.opmask+8*i:])
		}
	}
	return nil
}

// StoreVec writes the program's vector state to area, which LoadVec has read last: what no run since then can have
// changed is left as it is there.
func (t *Thread) StoreVec(area []byte) {
	if t.ran == target.VecNone {
		return
	}
	l := layoutOnce()
	le := binary.LittleEndian
	s := &t.b.vec
	bv := le.Uint64(area[xHeader:]) | xavx
	le.PutUint32(area[xMXCSR:], s.mxcsr)
	for i := range 16 {
		*(*[16]byte)(area[xXMM+16*i:]) = *(*[16]byte)(s.reg[i][0:])
		*(*[16]byte)(area[xYMM+16*i:]) = *(*[16]byte)(s.reg[i][16:])
	}
	if t.ran == target.VecAVX512 {
		bv |= xavx512
		used := false
		for i := range 16 {
			h := (*[32]byte)(s.reg[i][32:])
			used = used || *h != [32]byte{}
			*(*[32]byte)(area[l.zmmHi+32*i:]) = *h
		}
		if !used {
			// Back to the initial state: as long as these bits are 0, level VecAVX does.
			bv &^= xZMMHi
		}
		for i := range 16 {
			*(*[64]byte)(area[l.hi16+64*i:]) = s.reg[16+i]
		}
		for i, k := range s.k {
			le.PutUint64(area[l.opmask+8*i:], k)
		}
	}
	le.PutUint64(area[xHeader:], bv)
}

// SetVec sets the vector level of the runs to come; above VecNone, LoadVec comes first. The level is raised from VecAVX to VecAVX512
// when the program has something above bit 255 of a register: VEX instructions clear that, so it must be loaded.
func (t *Thread) SetVec(level target.Vec) {
	if level == target.VecAVX && (t.wide || t.ran == target.VecAVX512 && t.b.vecUpper != 0) {
		level = target.VecAVX512
	}
	t.vec, t.ran = level, max(t.ran, level)
	t.b.vecLevel, t.b.table = uint64(level), uint64(addrOfTable(t.tables[level]))
}

// Vec returns the vector level of the runs to come.
func (t *Thread) Vec() target.Vec { return t.vec }
