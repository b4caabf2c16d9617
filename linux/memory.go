package linux

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"ub/btc"
)

const pageSize = 4096

// memory is what a translation needs of a process; an interface for tests.
type memory interface {
	// Code returns the ranges in which there is code that may be translated, sorted.
	Code() ([]btc.Range, error)
	// ReadAt reads the program's memory at an address.
	ReadAt(b []byte, addr int64) (int, error)
	Close() error
}

// procMemory is the memory of a process as /proc shows it.
type procMemory struct {
	pid int
	*os.File
}

func openMemory(pid int) (memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, fmt.Errorf("the memory of process %d: %w", pid, err)
	}
	return &procMemory{pid, f}, nil
}

func (m *procMemory) Code() ([]btc.Range, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", m.pid))
	if err != nil {
		return nil, err
	}
	return codeRanges(b), nil
}

// codeRanges reads the format of /proc/PID/maps. What can be written to or is shared is no code to translate,
// nor is what the kernel has put there, but for the vDSO.
func codeRanges(b []byte) []btc.Range {
	var out []btc.Range
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		// start-end perms offset dev inode path, and the path can have spaces
		f := strings.SplitN(sc.Text(), " ", 6)
		if len(f) < 5 || f[1] != "r-xp" {
			continue
		}
		if len(f) == 6 {
			if name := strings.TrimLeft(f[5], " "); strings.HasPrefix(name, "[") && name != "[vdso]" {
				continue
			}
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= start || end > 1<<47 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End == start {
			out[n-1].End = end
			continue
		}
		out = append(out, btc.Range{Start: start, End: end})
	}
	return out
}

// codeReader reads a program's code for one translation. It reads whole pages, once, and keeps them: the module compares
// what the path was made from with the memory again before it takes the blob.
type codeReader struct {
	m     memory
	code  []btc.Range
	pages map[uint64][]byte
}

func newCodeReader(m memory) (*codeReader, error) {
	code, err := m.Code()
	if err != nil {
		return nil, err
	}
	return &codeReader{m: m, code: code, pages: map[uint64][]byte{}}, nil
}

// ReadCode implements path.CodeReader.
func (r *codeReader) ReadCode(addr uint64, dst []byte) (int, error) {
	n := 0
	for n < len(dst) {
		page := (addr + uint64(n)) &^ (pageSize - 1)
		b := r.page(page)
		off := addr + uint64(n) - page
		if off >= uint64(len(b)) {
			break
		}
		n += copy(dst[n:], b[off:])
	}
	return n, nil
}

func (r *codeReader) page(addr uint64) []byte {
	b, ok := r.pages[addr]
	if !ok {
		for _, c := range r.code {
			if c.Start <= addr && addr < c.End {
				b = make([]byte, pageSize)
				n, _ := r.m.ReadAt(b, int64(addr))
				b = b[:n]
				break
			}
		}
		r.pages[addr] = b
	}
	return b
}

// source returns the bytes of the ranges, one after another.
func (r *codeReader) source(ranges []btc.Range) []byte {
	var out []byte
	for _, s := range ranges {
		at := len(out)
		out = append(out, make([]byte, s.End-s.Start)...)
		n, _ := r.ReadCode(s.Start, out[at:])
		out = out[:at+n]
	}
	return out
}
