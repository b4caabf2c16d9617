package sentry

import (
	"sort"

	"gvisor.dev/gvisor/pkg/sentry/memmap"
)

// mapping is one range of a program's address space as the platform was told to map it: program addresses [start, end)
// show file from offset off on.
type mapping struct {
	start, end  uint64
	file        memmap.File
	off         uint64
	read, write bool
	exec        bool
}

// fileRange is the part of the file that program addresses [start, end), which lie in m, show.
func (m *mapping) fileRange(start, end uint64) fileRange {
	return fileRange{m.file, m.off + (start - m.start), m.off + (end - m.start)}
}

// continues reports whether n shows, right behind m, what m would show there.
func (m *mapping) continues(n *mapping) bool {
	return m.end == n.start && m.file == n.file && m.off+(m.end-m.start) == n.off &&
		m.read == n.read && m.write == n.write && m.exec == n.exec
}

// fileRange is bytes [start, end) of a file. Files are compared by identity: gVisor gives one memmap.File per host file
// or memory file.
type fileRange struct {
	file       memmap.File
	start, end uint64
}

func (r fileRange) overlaps(s fileRange) bool {
	return r.file == s.file && r.start < s.end && s.start < r.end
}

// mapSet is what an address space maps: sorted, disjoint ranges, neighbours joined where one continues the other. The
// zero mapSet is empty. It is a slice because programs have few mappings (tens to hundreds), are looked up far more often
// than changed, and a change costs a host syscall anyway.
type mapSet struct {
	m []mapping
}

// lower returns the index of the first mapping that ends behind addr.
func (s *mapSet) lower(addr uint64) int {
	return sort.Search(len(s.m), func(i int) bool { return s.m[i].end > addr })
}

// at returns the mapping of addr, or nil. It is valid until the set changes.
func (s *mapSet) at(addr uint64) *mapping {
	if i := s.lower(addr); i < len(s.m) && s.m[i].start <= addr {
		return &s.m[i]
	}
	return nil
}

// overlapping calls f for the parts of the mappings that lie in [start, end), in order.
func (s *mapSet) overlapping(start, end uint64, f func(part mapping)) {
	for i := s.lower(start); i < len(s.m) && s.m[i].start < end; i++ {
		f(s.m[i].cut(start, end))
	}
}

// cut returns the part of m within [start, end), which must overlap it.
func (m mapping) cut(start, end uint64) mapping {
	if m.start < start {
		m.off += start - m.start
		m.start = start
	}
	if m.end > end {
		m.end = end
	}
	return m
}

// remove forgets [start, end) and reports whether anything was there.
func (s *mapSet) remove(start, end uint64) bool {
	i := s.lower(start)
	if i == len(s.m) || s.m[i].start >= end || start >= end {
		return false
	}
	j := i
	var keep [2]mapping // what is left of the first and the last
	n := 0
	for j < len(s.m) && s.m[j].start < end {
		if s.m[j].start < start {
			keep[n] = s.m[j].cut(0, start)
			n++
		}
		if s.m[j].end > end {
			keep[n] = s.m[j].cut(end, ^uint64(0))
			n++
		}
		j++
	}
	s.replace(i, j, keep[:n])
	return true
}

// insert adds m in place of whatever is at its addresses.
func (s *mapSet) insert(m mapping) {
	s.remove(m.start, m.end)
	i := s.lower(m.start)
	j := i
	if i > 0 && s.m[i-1].continues(&m) {
		i--
		m.start, m.off = s.m[i].start, s.m[i].off
	}
	if j < len(s.m) && m.continues(&s.m[j]) {
		m.end = s.m[j].end
		j++
	}
	s.replace(i, j, []mapping{m})
}

// replace puts with in place of elements [i, j).
func (s *mapSet) replace(i, j int, with []mapping) {
	switch d := len(with) - (j - i); {
	case d > 0:
		s.m = append(s.m, make([]mapping, d)...)
		copy(s.m[j+d:], s.m[j:len(s.m)-d])
	case d < 0:
		copy(s.m[j+d:], s.m[j:])
		clear(s.m[len(s.m)+d:]) // drop the references to files
		s.m = s.m[:len(s.m)+d]
	}
	copy(s.m[i:], with)
}
