package x86

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The structures of Zydis 4.0 (Debian's libzydis4.0) that the tests read: Zydis/DecoderTypes.h. The sizes are checked
// below at compile time, the version when the library is loaded, so the layout cannot be off unnoticed.

type zydisFlags struct {
	tested, modified, set0, set1, undefined uint32
}

type zydisInst struct {
	machineMode   uint32
	mnemonic      uint32
	length        uint8
	encoding      uint32
	opcodeMap     uint32
	opcode        uint8
	stackWidth    uint8
	operandWidth  uint8
	addressWidth  uint8
	operandCount  uint8
	visibleCount  uint8
	attributes    uint64
	cpuFlags      *zydisFlags
	fpuFlags      *zydisFlags
	avx           [36]byte
	category      uint32
	isaSet        uint32
	isaExt        uint32
	branchType    uint32
	exceptionType uint32
	raw           [216]byte
}

type zydisOperand struct {
	id          uint8
	visibility  uint32
	actions     uint8
	encoding    uint32
	size        uint16 // bits
	elementType uint32
	elementSize uint16
	elements    uint16
	attributes  uint8
	kind        uint32
	u           [5]uint64
}

// zydisMem is u of a memory operand.
type zydisMem struct {
	kind, segment, base, index uint32
	scale                      uint8
	_                          [7]byte
	hasDisp                    uint8
	disp                       int64
}

// zydisImm is u of an immediate.
type zydisImm struct {
	isSigned, isRelative uint8
	value                uint64
}

type zydisContext struct {
	_           [24]byte
	_           [2]byte
	tuple       uint8
	elementSize uint8
	mvex        uint8
	cd8Scale    uint8
	_           [2]byte
}

var (
	_ [328]byte = [unsafe.Sizeof(zydisInst{})]byte{}
	_ [80]byte  = [unsafe.Sizeof(zydisOperand{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(zydisContext{})]byte{}
	_ [40]byte  = [unsafe.Offsetof(zydisOperand{}.u)]byte{}
	_ [112]byte = [unsafe.Offsetof(zydisInst{}.raw)]byte{}
	_ [32]byte  = [unsafe.Offsetof(zydisMem{}.disp)]byte{}
)

const (
	zydisLong64  = 0
	zydisStack64 = 2

	zydisNoMoreData = 0x80200000
	zydisTooLong    = 0x80200002

	zydisOpReg = 1
	zydisOpMem = 2
	zydisOpImm = 4

	zydisExplicit = 1
	zydisImplicit = 2
	zydisHidden   = 3

	zydisEncMask = 6

	zydisRead      = 1
	zydisWrite     = 2
	zydisCondRead  = 4
	zydisCondWrite = 8
)

// zydis is the decoder to compare with. It is not safe for concurrent use.
type zydis struct {
	decoder   [20]byte
	fnDecode  uintptr
	fnOps     uintptr
	mnemonics []string
	registers []string

	inst zydisInst
	ctx  zydisContext
	ops  [10]zydisOperand
}

var loadZydis = sync.OnceValues(func() (*zydis, error) {
	lib, err := purego.Dlopen("libZydis.so.4.0", purego.RTLD_NOW)
	if err != nil {
		return nil, fmt.Errorf("Debian package libzydis-dev: %w", err)
	}
	fn := make(map[string]uintptr)
	for _, name := range []string{"ZydisGetVersion", "ZydisDecoderInit", "ZydisDecoderDecodeInstruction",
		"ZydisDecoderDecodeOperands", "ZydisMnemonicGetString", "ZydisRegisterGetString"} {
		if fn[name], err = purego.Dlsym(lib, name); err != nil {
			return nil, err
		}
	}
	if v, _, _ := purego.SyscallN(fn["ZydisGetVersion"]); v>>32 != 4<<16 {
		return nil, fmt.Errorf("Zydis version %#x: the test knows the structures of 4.0 only", v)
	}
	z := &zydis{fnDecode: fn["ZydisDecoderDecodeInstruction"], fnOps: fn["ZydisDecoderDecodeOperands"]}
	if s, _, _ := purego.SyscallN(fn["ZydisDecoderInit"], uintptr(unsafe.Pointer(&z.decoder)), zydisLong64, zydisStack64); uint32(s)>>31 != 0 {
		return nil, fmt.Errorf("ZydisDecoderInit: status %#x", s)
	}
	names := func(f uintptr) []string {
		var out []string
		for i := uintptr(0); ; i++ {
			p, _, _ := purego.SyscallN(f, i)
			if p == 0 {
				return out
			}
			out = append(out, cString(p))
		}
	}
	z.mnemonics = names(fn["ZydisMnemonicGetString"])
	z.registers = names(fn["ZydisRegisterGetString"])
	return z, nil
})

// cString copies a C string that lives in the library.
func cString(p uintptr) string {
	var b []byte
	for ; ; p++ {
		// The address comes from C and is no Go pointer; going through a pointer to it keeps vet from taking it for one.
		c := **(**byte)(unsafe.Pointer(&p))
		if c == 0 {
			return string(b)
		}
		b = append(b, c)
	}
}

// needZydis returns the decoder or skips the test.
func needZydis(t testing.TB) *zydis {
	z, err := loadZydis()
	if err != nil {
		t.Skipf("no Zydis to compare with: %v", err)
	}
	return z
}

// decode decodes the start of code into z.inst and returns the status; 0x00100000 is success.
func (z *zydis) decode(code []byte) (status uint32, ok bool) {
	s, _, _ := purego.SyscallN(z.fnDecode, uintptr(unsafe.Pointer(&z.decoder)), uintptr(unsafe.Pointer(&z.ctx)),
		uintptr(unsafe.Pointer(unsafe.SliceData(code))), uintptr(len(code)), uintptr(unsafe.Pointer(&z.inst)))
	return uint32(s), uint32(s)>>31 == 0
}

// operands decodes the operands of the last instruction.
func (z *zydis) operands() []zydisOperand {
	n := z.inst.operandCount
	s, _, _ := purego.SyscallN(z.fnOps, uintptr(unsafe.Pointer(&z.decoder)), uintptr(unsafe.Pointer(&z.ctx)),
		uintptr(unsafe.Pointer(&z.inst)), uintptr(unsafe.Pointer(&z.ops)), uintptr(n))
	if uint32(s)>>31 != 0 {
		panic(fmt.Sprintf("ZydisDecoderDecodeOperands: status %#x", s))
	}
	return z.ops[:n]
}

func (o *zydisOperand) reg() uint32    { return *(*uint32)(unsafe.Pointer(&o.u)) }
func (o *zydisOperand) mem() *zydisMem { return (*zydisMem)(unsafe.Pointer(&o.u)) }
func (o *zydisOperand) imm() *zydisImm { return (*zydisImm)(unsafe.Pointer(&o.u)) }

func (z *zydis) mnemonic() string { return z.mnemonics[z.inst.mnemonic] }
