package sfi

// Zydis (Debian: libzydis-dev), the second opinion of the tests. The structures are those of version 4.0; TestZydisLayout
// checks that they are understood.

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

type zInst struct {
	mode     uint32
	mnemonic uint32
	length   uint8
	_        [3]byte
	encoding uint32
	opmap    uint32
	opcode   uint8
	stackW   uint8
	operandW uint8
	addrW    uint8
	nOps     uint8
	nVisible uint8
	_        [6]byte
	attr     uint64
	_        [92 - 40]byte
	category uint32
	isaSet   uint32
	isaExt   uint32
	branch   uint32
	_        [328 - 108]byte
}

type zOp struct {
	id         uint8
	_          [3]byte
	visibility uint32
	actions    uint8
	_          [3]byte
	encoding   uint32
	size       uint16 // bits
	_          [32 - 18]byte
	kind       uint32
	_          [4]byte
	reg        uint32 // or the memory operand's type, or two flags of an immediate
	segment    uint32
	base       uint32 // with index: the value of an immediate
	index      uint32
	scale      uint8
	_          [7]byte
	hasDisp    uint8
	_          [7]byte
	disp       int64
}

// Constants of Zydis 4.0.
const (
	zOpReg, zOpMem, zOpImm          = 1, 2, 4
	zMemNormal, zMemAgen, zMemMIB   = 1, 2, 3
	zHidden                         = 3
	zRead, zWrite                   = 1 | 4, 2 | 8 // conditional ones included
	zAL, zAH, zSPL, zR15B           = 1, 5, 9, 20  // AL-BL, AH-BH, SPL-DIL, R8B-R15B
	zAX, zR15W, zEAX, zR15D         = 21, 36, 37, 52
	zRAX, zR15                      = 53, 68
	zRIP, zFlags, zRFlags, zGS      = 197, 192, 194, 203
	zXMM0, zYMM0, zZMM0, zZMM31     = 88, 120, 152, 183
	zK0, zK7, zMXCSR                = 248, 255, 262
	zEncodingVEX, zEncodingEVEX     = 3, 4
	zEncodingMask                   = 6 // of an operand: EVEX.aaa
	zAttrLock, zAttrRep, zAttrRepe  = 0x8000000, 0x10000000, 0x20000000
	zAttrPrivileged, zAttrSegmentGS = 0x100, 0x40000000000
	zAttrSegment                    = 0x7e000000000
	zAttrHints                      = 0x100000000 | 0x200000000 | 0x400000000 | 0x800000000 | 0x80000000 | 0x1000000000
)

type zydis struct {
	names map[zName]string // what constants are called, as far as has been asked

	lib                                   uintptr
	decodeFull, mnemonicString, formatIns uintptr
	isaSetString, registerString          uintptr
	decoder                               [20]byte
	formatter                             [584]byte
	inst                                  zInst
	ops                                   [10]zOp
	text                                  [256]byte
}

var loadZydis = sync.OnceValues(func() (*zydis, error) {
	z := new(zydis)
	var err error
	for _, name := range []string{"libZydis.so.4.0", "libZydis.so"} {
		if z.lib, err = purego.Dlopen(name, purego.RTLD_NOW); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	sym := func(name string) uintptr {
		p, e := purego.Dlsym(z.lib, name)
		if e != nil {
			err = e
		}
		return p
	}
	z.decodeFull = sym("ZydisDecoderDecodeFull")
	z.mnemonicString = sym("ZydisMnemonicGetString")
	z.formatIns = sym("ZydisFormatterFormatInstruction")
	z.isaSetString, z.registerString = sym("ZydisISASetGetString"), sym("ZydisRegisterGetString")
	decoderInit, formatterInit := sym("ZydisDecoderInit"), sym("ZydisFormatterInit")
	if err != nil {
		return nil, err
	}
	purego.SyscallN(decoderInit, uintptr(unsafe.Pointer(&z.decoder)), 0, 2) // 64-bit mode, 64-bit stack
	purego.SyscallN(formatterInit, uintptr(unsafe.Pointer(&z.formatter)), 1)
	return z, nil
})

// needZydis returns a decoder of the test's own, and skips the test where the library is missing.
func needZydis(t testing.TB) *zydis {
	t.Helper()
	z, err := newZydis()
	if err != nil {
		t.Skipf("libZydis 4.0 (Debian: libzydis-dev) is needed to check the verifier against a second decoder: %v", err)
	}
	return z
}

// newZydis returns a decoder of the caller's own: tests run beside each other.
func newZydis() (*zydis, error) {
	z, err := loadZydis()
	if err != nil {
		return nil, err
	}
	own := *z
	own.names = map[zName]string{}
	return &own, nil
}

// decode fills z.inst and z.ops, and tells whether there is an instruction.
//
// The pointers stay valid during the call: code is kept by the caller's frame, z is on the heap, and Go moves neither.
func (z *zydis) decode(code []byte) bool {
	if len(code) == 0 {
		return false
	}
	st, _, _ := purego.SyscallN(z.decodeFull, uintptr(unsafe.Pointer(&z.decoder)), uintptr(unsafe.Pointer(unsafe.SliceData(code))),
		uintptr(len(code)), uintptr(unsafe.Pointer(&z.inst)), uintptr(unsafe.Pointer(&z.ops)))
	return uint32(st)>>31 == 0
}

// mnemonic names the instruction decoded last.
func (z *zydis) mnemonic() string { return z.mnemonicName(z.inst.mnemonic) }

// isaSet names the instruction set extension of the instruction decoded last.
func (z *zydis) isaSet() string { return z.constant(z.isaSetString, z.inst.isaSet) }

func (z *zydis) registerName(r uint32) string { return z.constant(z.registerString, r) }

func (z *zydis) mnemonicName(m uint32) string { return z.constant(z.mnemonicString, m) }

type zName struct {
	function uintptr
	value    uint32
}

// constant calls a function that names a constant.
func (z *zydis) constant(function uintptr, value uint32) string {
	m := zName{function, value}
	if s, ok := z.names[m]; ok {
		return s
	}
	p, _, _ := purego.SyscallN(function, uintptr(value))
	// A C string in the library's read-only data.
	base := *(*unsafe.Pointer)(unsafe.Pointer(&p))
	n := 0
	for *(*byte)(unsafe.Add(base, n)) != 0 {
		n++
	}
	z.names[m] = string(unsafe.Slice((*byte)(base), n))
	return z.names[m]
}

// format prints the instruction decoded last as if it were at addr.
func (z *zydis) format(addr uint64) string {
	purego.SyscallN(z.formatIns, uintptr(unsafe.Pointer(&z.formatter)), uintptr(unsafe.Pointer(&z.inst)), uintptr(unsafe.Pointer(&z.ops)),
		uintptr(z.inst.nVisible), uintptr(unsafe.Pointer(&z.text)), uintptr(len(z.text)), uintptr(addr), 0)
	for i, b := range z.text {
		if b == 0 {
			return string(z.text[:i])
		}
	}
	return ""
}

func (o *zOp) imm() int64 { return int64(uint64(o.base) | uint64(o.index)<<32) }
