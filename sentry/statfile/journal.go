package statfile

import (
	"encoding/binary"
	"sync"
)

// Blob is the journal's record of one installed blob.
type Blob struct {
	Space   uint32 // address space, as in Site
	Base    uint64 // address of Code in the sandbox's arena
	Entries []Entry
	Sources []Source
	Lines   []Entry // where the translation of each program instruction begins in Code; RIP 0: of none
	Code    []byte  // the bytes that the verifier accepted
}

// Entry is a program address at which the blob may be entered, and the offset in Code for it.
type Entry struct {
	RIP uint64
	Off uint32
}

// Source is a range of the program's code as it was when the blob was made.
type Source struct {
	Addr uint64
	Code []byte
}

// The journal is a ring of JournalSize bytes. Positions count bytes since the beginning and never wrap; byte p is at
// ring[p%JournalSize]. Records lie in [tail, head). A record is 8 bytes of length (all of it, a multiple of 8) and its
// payload; one never crosses the ring's end: a record of kind pad fills up to there.
const (
	wordHead = 0
	wordTail = 1

	kindPad  = 0
	kindBlob = 1

	// maxRecord bounds a record, so that a few always fit.
	maxRecord = JournalSize / 4
)

type journalWriter struct {
	mu         sync.Mutex
	head, tail uint64
}

// AppendBlob adds a record, dropping the oldest ones as needed. It reports false when b is too large for the journal.
// There is one writing process, which starts with an empty journal.
func (s *File) AppendBlob(b *Blob) bool {
	rec := encodeBlob(b)
	n := uint64(len(rec))
	if n > maxRecord {
		return false
	}
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if left := JournalSize - j.head%JournalSize; left < n {
		pad := make([]byte, 16)
		binary.LittleEndian.PutUint64(pad, left)
		binary.LittleEndian.PutUint64(pad[8:], kindPad)
		j.put(s, pad[:min(16, left)], left)
	}
	j.put(s, rec, n)
	return true
}

// put writes rec, of n bytes in all, at head. The tail moves past what is overwritten first: a reader that copies while
// we write sees, by reading the tail again, which of its bytes are not to be trusted.
func (j *journalWriter) put(s *File, rec []byte, n uint64) {
	ring := s.mem[ringOff : ringOff+JournalSize]
	w := s.journalWords()
	for j.head+n-j.tail > JournalSize {
		j.tail += binary.LittleEndian.Uint64(ring[j.tail%JournalSize:])
	}
	w[wordTail].Store(j.tail)
	copy(ring[j.head%JournalSize:], rec)
	j.head += n
	w[wordHead].Store(j.head)
}

// Blobs returns the records that are still there, oldest first. Damaged records end the list.
func (s *File) Blobs() []Blob {
	w := s.journalWords()
	tail, head := w[wordTail].Load(), w[wordHead].Load()
	if head < tail || head-tail > JournalSize || tail%8 != 0 || head%8 != 0 {
		return nil
	}
	ring := make([]byte, JournalSize)
	if src := s.mem[ringOff : ringOff+JournalSize]; head <= JournalSize {
		copy(ring[:head], src[:head]) // not yet wrapped
	} else {
		copy(ring, src)
	}
	valid := w[wordTail].Load()
	var out []Blob
	for p := tail; p < head; {
		at := p % JournalSize
		n := binary.LittleEndian.Uint64(ring[at:])
		if n < 8 || n%8 != 0 || n > JournalSize-at || n > head-p {
			if p < valid {
				// Overwritten while we copied: what lies between cannot be walked any more, but all
				// from the new tail on is sound.
				p = valid
				continue
			}
			break
		}
		if p >= valid {
			if b, ok := decodeBlob(ring[at+8 : at+n]); ok {
				out = append(out, b)
			}
		}
		p += n
	}
	return out
}

func encodeBlob(b *Blob) []byte {
	le := binary.LittleEndian
	out := make([]byte, 8, 128+len(b.Code))
	out = le.AppendUint64(out, kindBlob)
	out = le.AppendUint64(out, uint64(b.Space))
	out = le.AppendUint64(out, b.Base)
	out = appendEntries(out, b.Entries)
	out = appendEntries(out, b.Lines)
	out = le.AppendUint64(out, uint64(len(b.Sources)))
	for _, r := range b.Sources {
		out = le.AppendUint64(out, r.Addr)
		out = appendBytes(out, r.Code)
	}
	out = appendBytes(out, b.Code)
	le.PutUint64(out, uint64(len(out)))
	return out
}

func appendEntries(out []byte, list []Entry) []byte {
	out = binary.LittleEndian.AppendUint64(out, uint64(len(list)))
	for _, e := range list {
		out = binary.LittleEndian.AppendUint64(out, e.RIP)
		out = binary.LittleEndian.AppendUint64(out, uint64(e.Off))
	}
	return out
}

func appendBytes(out, b []byte) []byte {
	out = binary.LittleEndian.AppendUint64(out, uint64(len(b)))
	out = append(out, b...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	return out
}

func decodeBlob(p []byte) (Blob, bool) {
	d := decoder{p: p}
	var b Blob
	if d.word() != kindBlob {
		return b, false
	}
	b.Space = uint32(d.word())
	b.Base = d.word()
	b.Entries, b.Lines = d.entries(), d.entries()
	for range d.count(16) {
		b.Sources = append(b.Sources, Source{Addr: d.word(), Code: d.bytes()})
	}
	b.Code = d.bytes()
	return b, !d.bad
}

// decoder reads words; reading past the end gives zeroes and sets bad.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) word() uint64 {
	if len(d.p) < 8 {
		d.bad = true
		return 0
	}
	v := binary.LittleEndian.Uint64(d.p)
	d.p = d.p[8:]
	return v
}

// count reads the number of items, each of which takes at least size bytes.
func (d *decoder) count(size uint64) uint64 {
	n := d.word()
	if n > uint64(len(d.p))/size {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) entries() (list []Entry) {
	for range d.count(16) {
		list = append(list, Entry{RIP: d.word(), Off: uint32(d.word())})
	}
	return list
}

func (d *decoder) bytes() []byte {
	n := d.word()
	padded := (n + 7) &^ 7
	if padded < n || padded > uint64(len(d.p)) {
		d.bad = true
		return nil
	}
	b := append([]byte(nil), d.p[:n]...)
	d.p = d.p[padded:]
	return b
}
