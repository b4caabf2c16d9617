package machine

import (
	"errors"
	"sort"
)

// ErrArenaFull: there is no room for the blob; retire others and try again.
var ErrArenaFull = errors.New("the arena of translated code is full")

// arenaAlign is the alignment and granularity of allocations: a cache line, so that no two blobs share one.
const arenaAlign = 64

// spans is a first-fit allocator over [0, size): the free spans, sorted, never adjacent to each other.
type spans struct {
	free []span
	used int
}

type span struct{ off, size int }

// alloc returns the offset of size bytes (rounded up to arenaAlign), or false.
func (s *spans) alloc(size int) (int, bool) {
	size = roundUp(size)
	for i := range s.free {
		f := &s.free[i]
		if f.size < size {
			continue
		}
		off := f.off
		f.off += size
		f.size -= size
		if f.size == 0 {
			s.free = append(s.free[:i], s.free[i+1:]...)
		}
		s.used += size
		return off, true
	}
	return 0, false
}

// release gives back what alloc returned for size.
func (s *spans) release(off, size int) {
	size = roundUp(size)
	s.used -= size
	i := sort.Search(len(s.free), func(i int) bool { return s.free[i].off >= off })
	joinsPrev := i > 0 && s.free[i-1].off+s.free[i-1].size == off
	joinsNext := i < len(s.free) && off+size == s.free[i].off
	switch {
	case joinsPrev && joinsNext:
		s.free[i-1].size += size + s.free[i].size
		s.free = append(s.free[:i], s.free[i+1:]...)
	case joinsPrev:
		s.free[i-1].size += size
	case joinsNext:
		s.free[i].off = off
		s.free[i].size += size
	default:
		s.free = append(s.free, span{})
		copy(s.free[i+1:], s.free[i:])
		s.free[i] = span{off, size}
	}
}

func roundUp(n int) int { return (n + arenaAlign - 1) &^ (arenaAlign - 1) }
