package sentry

import (
	"bytes"
	"encoding/binary"

	"ub/btc"
)

const pageSize = 4096

// codeReader reads a program's code for one translation. It reads whole pages, once, and keeps them: the path that is
// discovered is made from one snapshot, which is compared with the memory again before the blob is published.
type codeReader struct {
	as    *addressSpace
	pages map[uint64]*codePage
}

type codePage struct {
	raw  []byte // shorter than a page when the rest cannot be read; empty: not translatable code
	code []byte // raw, with systrap's patches undone
}

func newCodeReader(as *addressSpace) *codeReader {
	return &codeReader{as: as, pages: map[uint64]*codePage{}}
}

// ReadCode implements path.CodeReader.
func (r *codeReader) ReadCode(addr uint64, dst []byte) (int, error) {
	n := 0
	for n < len(dst) {
		page := (addr + uint64(n)) &^ (pageSize - 1)
		p := r.page(page)
		off := addr + uint64(n) - page
		if off >= uint64(len(p.code)) {
			break
		}
		n += copy(dst[n:], p.code[off:])
	}
	return n, nil
}

func (r *codeReader) page(addr uint64) *codePage {
	p := r.pages[addr]
	if p == nil {
		p = &codePage{raw: make([]byte, pageSize)}
		n, _ := r.as.readCode(addr, p.raw)
		p.raw = p.raw[:n]
		p.code = append([]byte(nil), p.raw...)
		r.unpatch(addr, p)
		r.pages[addr] = p
	}
	return p
}

// bytes returns the snapshot of [start, end), which has been read.
func (r *codeReader) bytes(start, end uint64) []byte {
	out := make([]byte, end-start)
	n, _ := r.ReadCode(start, out)
	return out[:n]
}

// source returns the snapshot of the ranges.
func (r *codeReader) source(ranges []btc.Range) []sourceBytes {
	out := make([]sourceBytes, len(ranges))
	for i, s := range ranges {
		out[i] = sourceBytes{addr: s.Start, code: r.bytes(s.Start, s.End)}
	}
	return out
}

// systrap makes crossings cheaper by replacing, in the program's own text, the 7 bytes
//
//	mov $nr, %eax; syscall
//
// by an indirect jump through a table of its own in the same address space (gVisor's usertrap package). What the program
// means is the original, so that is what is translated. The table's entry proves that the bytes are such a patch: it
// holds the address behind this very instruction, and the number.
const (
	patchLen  = 7
	trapsLow  = 0x60000 // where usertrap puts its table
	trapsHigh = 0x70000
	trapSize  = 70
)

var (
	// The table entry, with its variable parts zero. See usertrap_amd64_unsafe.go in gVisor's systrap.
	trapRet  = []byte{0x48, 0xb8} // movabs $ret_addr, %rax
	trapNum  = []byte{0xb8}       // mov $sysno, %eax
	trapJmp  = []byte{0x65, 0xff, 0x24, 0x25}
	patchJmp = []byte{0xff, 0x24, 0x25} // jmp *addr, with the 4 bytes of addr behind it
)

// unpatch undoes the patches that begin in the page. One that crosses into the next page is left: the jump through the
// table is then translated as what it is, an indirect jump to code that BTC does not execute.
func (r *codeReader) unpatch(addr uint64, p *codePage) {
	for i := 0; ; i++ {
		n := bytes.Index(p.raw[i:], patchJmp)
		if n < 0 || i+n+patchLen > len(p.raw) {
			return
		}
		i += n
		b := p.raw[i : i+patchLen]
		trap := uint64(binary.LittleEndian.Uint32(b[len(patchJmp):]))
		if trap < trapsLow || trap+trapSize > trapsHigh {
			continue
		}
		var t [trapSize]byte
		if n, _ := r.as.readCode(trap, t[:]); n < trapSize {
			continue
		}
		if nr, ok := parseTrap(t[:], trap, addr+uint64(i)+patchLen); ok {
			orig := p.code[i : i+patchLen]
			orig[0] = 0xb8
			binary.LittleEndian.PutUint32(orig[1:], nr)
			orig[5], orig[6] = 0x0f, 0x05
		}
	}
}

// parseTrap returns the syscall number of the table entry t at address trap, if that is one for the syscall instruction
// that ends at ret.
func parseTrap(t []byte, trap, ret uint64) (uint32, bool) {
	if binary.LittleEndian.Uint64(t) != trap+8 || string(t[38:40]) != string(trapRet) ||
		binary.LittleEndian.Uint64(t[40:]) != ret || string(t[57:58]) != string(trapNum) || string(t[62:66]) != string(trapJmp) {
		return 0, false
	}
	return binary.LittleEndian.Uint32(t[58:]), true
}
