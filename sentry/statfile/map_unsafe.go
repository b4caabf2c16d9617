package statfile

import (
	"sync/atomic"
	"unsafe"
)

// The functions below give typed views of the mapping. They are right because the mapping is at least Size bytes
// long (Check, Private), page-aligned, and the offsets are multiples of 8 within it: the types hold nothing but 8-byte
// words, so any content is a valid value, whatever the other side writes.

// Counters returns the counters section.
func (s *File) Counters() *Counters {
	return (*Counters)(unsafe.Pointer(&s.mem[countersOff]))
}

func (s *File) siteWords(i int) *[siteSize / 8]atomic.Uint64 {
	return (*[siteSize / 8]atomic.Uint64)(unsafe.Pointer(&s.mem[sitesOff+i*siteSize]))
}

func (s *File) gapWords(i int) *[gapSize / 8]atomic.Uint64 {
	return (*[gapSize / 8]atomic.Uint64)(unsafe.Pointer(&s.mem[gapsOff+i*gapSize]))
}

func (s *File) threadWords(i int) *[threadSize / 8]atomic.Uint64 {
	return (*[threadSize / 8]atomic.Uint64)(unsafe.Pointer(&s.mem[threadsOff+i*threadSize]))
}

func (s *File) journalWords() *[8]atomic.Uint64 {
	return (*[8]atomic.Uint64)(unsafe.Pointer(&s.mem[journalOff]))
}

var (
	_ [countersOff - configOff - 8*64]struct{}
	_ [sitesOff - countersOff - int(unsafe.Sizeof(Counters{}))]struct{}
)

func (s *File) headerWord(i int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&s.mem[8*i]))
}
