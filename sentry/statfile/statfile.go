// Package statfile is the file through which a launcher and a sandbox talk: the launcher creates it with the sandbox's
// configuration and hands it over as the platform's device file; the sandbox counts into it, lists its sites, and keeps
// a journal of installed blobs, all through a shared mapping, so that a reader sees them without asking.
//
// The sandbox is not trusted by the reader: every offset and length read from the file is checked. The sandbox trusts the
// configuration section, which it reads once before any program runs.
//
//	offset      size            what
//	0           64              header: magic, version, size, rate of the clock that gaps are measured with
//	64          4032            configuration: Config's fields, 8 bytes each
//	4096        4096            counters: uint64 each, numbered by Counter
//	8192        NumSites*64     site table
//	8192+...    64 + JournalSize  journal: head and tail, then a ring of records
//	...         NumGaps*192     gap table
//	...         NumThreads*64   thread table
package statfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// Version changes with every change of the layout or of Config.
	Version = 3

	magic = uint64(0x3161747362752e23) // "#.ubsta1", little-endian

	configOff   = 64
	countersOff = 4096
	sitesOff    = 8192

	// NumSites is the number of entries of the site table.
	NumSites = 2048
	siteSize = 64

	journalOff = sitesOff + NumSites*siteSize
	ringOff    = journalOff + 64

	// JournalSize is the size of the journal's ring in bytes.
	JournalSize = 2 << 20

	gapsOff = (ringOff + JournalSize + 4095) &^ 4095

	threadsOff = gapsOff + NumGaps*gapSize

	// Size is the size of the whole file in bytes.
	Size = (threadsOff + NumThreads*threadSize + 4095) &^ 4095
)

// ErrNotStatFile is wrapped by the errors of Open and Map for files that are something else.
var ErrNotStatFile = errors.New("not a statistics file of ub")

// File is a mapped statistics file. Its methods may be called from any goroutine. Unmap ends its life.
type File struct {
	mem []byte

	journal journalWriter
}

// Create makes the file at path, which must not exist, with the given configuration, and maps it.
func Create(path string, c Config) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := Format(f, c); err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return Map(f)
}

// Format writes an empty statistics file with configuration c into f, which must be a regular file open for reading and
// writing. What it held is lost.
func Format(f *os.File, c Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Truncate(Size); err != nil {
		return err
	}
	head := make([]byte, countersOff)
	binary.LittleEndian.PutUint64(head[0:], magic)
	binary.LittleEndian.PutUint64(head[8:], Version)
	binary.LittleEndian.PutUint64(head[16:], Size)
	c.encode(head[configOff:])
	_, err := f.WriteAt(head, 0)
	return err
}

// Private returns a File in private memory, for a sandbox whose launcher gave none.
func Private(c Config) (*File, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(-1, 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes for statistics: %w", Size, err)
	}
	binary.LittleEndian.PutUint64(mem[0:], magic)
	binary.LittleEndian.PutUint64(mem[8:], Version)
	binary.LittleEndian.PutUint64(mem[16:], Size)
	c.encode(mem[configOff:])
	return &File{mem: mem}, nil
}

// Open maps the file at path.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := Map(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Check tells whether f holds a statistics file that this version can use.
func Check(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%w: it is no regular file but %v", ErrNotStatFile, st.Mode())
	}
	var head [24]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("%w: cannot read its header: %v", ErrNotStatFile, err)
	}
	if binary.LittleEndian.Uint64(head[0:]) != magic {
		return fmt.Errorf("%w: wrong magic number", ErrNotStatFile)
	}
	if v := binary.LittleEndian.Uint64(head[8:]); v != Version {
		return fmt.Errorf("statistics file of version %d, this program uses version %d: ub and runsc-ub must come from one build", v, Version)
	}
	if s := binary.LittleEndian.Uint64(head[16:]); s != Size || st.Size() != Size {
		return fmt.Errorf("%w: its size is %d (%d in the header), not %d", ErrNotStatFile, st.Size(), s, Size)
	}
	return nil
}

// Map maps f, which may be closed afterwards.
func Map(f *os.File) (*File, error) {
	if err := Check(f); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of the statistics file: %w", err)
	}
	return &File{mem: mem}, nil
}

// Unmap releases the mapping. No method may be called any more, nor any Counters or Site be used.
func (s *File) Unmap() error {
	mem := s.mem
	s.mem = nil
	return unix.Munmap(mem)
}
