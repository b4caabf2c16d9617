package sentry

import (
	"time"

	"gvisor.dev/gvisor/pkg/sentry/memmap"

	"ub/sentry/statfile"
)

// Here is what ties blobs to the bytes they were made from. A blob must be gone, and no thread in it, before
//   - its source addresses are unmapped or show something else (untrack, track),
//   - they become writable in its own address space (track; protect, when it is the Sentry that will write),
//   - the same bytes of the same file become writable anywhere else (track),
//   - the file that they are mapped from is written to (written, see watch.go).
//
// All callers make their change visible to programs only after these functions have returned.
//
// What this does not see: writes by something outside of the sandbox to a file that it has mapped, by asynchronous I/O
// (io_submit), by read(2) into a shared writable mapping of the file that nobody has touched otherwise, and a write(2) that was
// under way when the blob was published. The worker compares all sources with the memory about ten times a second for them.

// track records m in place of what was there. It reports whether m's range showed something that m does not show in the
// same way, so that it must leave the mirror first.
func (e *engine) track(as *addressSpace, m mapping) (replaced bool) {
	e.mu.Lock()
	codeStays := m.exec && !m.write
	as.maps.overlapping(m.start, m.end, func(old mapping) {
		same := old.file == m.file && old.off == m.off+(old.start-m.start)
		if !same || old.read && !m.read || old.write && !m.write {
			replaced = true
		}
		codeStays = codeStays && same
	})
	var gone []*blob
	if !codeStays {
		gone = e.dropRangeLocked(as, m.start, m.end)
	}
	if m.write {
		r := m.fileRange(m.start, m.end)
		for b := range e.code[m.file] {
			if b.isFrom(r) {
				gone = append(gone, e.dropLocked(b)...)
			}
		}
	}
	e.changeMapsLocked(as, func() { as.maps.insert(m) })
	e.mu.Unlock()
	e.invalidated(gone)
	return replaced
}

// untrack forgets [start, end) and reports whether anything was there.
func (e *engine) untrack(as *addressSpace, start, end uint64) (was bool) {
	e.mu.Lock()
	gone := e.dropRangeLocked(as, start, end)
	e.changeMapsLocked(as, func() { was = as.maps.remove(start, end) })
	e.mu.Unlock()
	e.invalidated(gone)
	return was
}

// protect is called when a task is about to call mprotect. When it adds write access to mapped code, gVisor may not tell
// the platform until the program itself writes, yet serve a read(2) into that memory before: so the code is taken
// for writable from now on. If mprotect fails, bypass is lost there until it is mapped anew, nothing else.
func (e *engine) protect(as *addressSpace, addr, length, prot uint64) {
	const protWrite = 2
	start, end := addr&^0xfff, addr+length
	end = (end + 0xfff) &^ 0xfff
	if prot&protWrite == 0 || end <= start {
		return
	}
	e.mu.Lock()
	var code []mapping
	as.maps.overlapping(start, end, func(m mapping) {
		if m.exec && !m.write {
			code = append(code, m)
		}
	})
	var gone []*blob
	for _, m := range code {
		gone = append(gone, e.dropRangeLocked(as, m.start, m.end)...)
		r := m.fileRange(m.start, m.end)
		for b := range e.code[m.file] {
			if b.isFrom(r) {
				gone = append(gone, e.dropLocked(b)...)
			}
		}
		m.write = true
		e.changeMapsLocked(as, func() { as.maps.insert(m) })
	}
	e.mu.Unlock()
	e.invalidated(gone)
}

// dropRangeLocked drops the blobs of as that were made from anything in [start, end).
func (e *engine) dropRangeLocked(as *addressSpace, start, end uint64) []*blob {
	var hit []*blob
	for _, b := range as.blobs {
		for _, r := range b.source {
			if r.Start < end && start < r.End {
				hit = append(hit, b)
				break
			}
		}
	}
	var gone []*blob
	for _, b := range hit {
		gone = append(gone, e.dropLocked(b)...)
	}
	return gone
}

// isFrom reports whether any of b's source is in r.
func (b *blob) isFrom(r fileRange) bool {
	for _, f := range b.files {
		if f.overlaps(r) {
			return true
		}
	}
	return false
}

func (e *engine) invalidated(gone []*blob) {
	if len(gone) == 0 {
		return
	}
	e.counters.Add(statfile.Invalidations, 1)
	e.counters.Add(statfile.BlobsInvalidated, int64(len(gone)))
	e.expel(gone)
}

// codeAt reports whether [start, end), which lies within one page, is executable and not writable in as, and where it is.
func (e *engine) codeAt(as *addressSpace, start, end uint64) (fileRange, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.codeAtLocked(as, start, end)
}

func (e *engine) codeAtLocked(as *addressSpace, start, end uint64) (fileRange, bool) {
	m := as.maps.at(start)
	if m == nil || !m.exec || m.write || m.end < end {
		return fileRange{}, false
	}
	return m.fileRange(start, end), true
}

// writableLocked reports whether any of the ranges is mapped writable anywhere.
func (e *engine) writableLocked(files []fileRange) bool {
	byFile := map[memmap.File][]fileRange{}
	for _, f := range files {
		byFile[f.file] = append(byFile[f.file], f)
	}
	for as := range e.spaces {
		for i := range as.maps.m {
			m := &as.maps.m[i]
			if !m.write {
				continue
			}
			for _, f := range byFile[m.file] {
				if f.overlaps(m.fileRange(m.start, m.end)) {
					return true
				}
			}
		}
	}
	return false
}

// changeMapsLocked applies a change of as.maps and keeps count of what the mirrors hold.
func (e *engine) changeMapsLocked(as *addressSpace, change func()) {
	before := len(as.maps.m)
	change()
	if _, ok := e.mirrored[as]; ok {
		e.mirroredMappings += len(as.maps.m) - before
	}
}

// wantsMirror returns what a mirror of as must show, and registers that it is to have one.
func (e *engine) wantsMirror(as *addressSpace) ([]mapping, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if as.released || as.traced.Load() || e.mirroredMappings+len(as.maps.m) > maxMirroredMappings {
		return nil, false
	}
	e.mirrored[as] = struct{}{}
	e.mirroredMappings += len(as.maps.m)
	return append([]mapping(nil), as.maps.m...), true
}

// reserveMirrorMapping reports whether the mirrors may hold what is tracked.
func (e *engine) reserveMirrorMapping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mirroredMappings <= maxMirroredMappings
}

// noWindow notes that as found no free window.
func (e *engine) noWindow(as *addressSpace) {
	e.counters.Add(statfile.SpacesNoWindow, 1)
	e.mirrorDropped(as)
}

// mirrorDropped notes that as has no mirror, and is not to get one for a while.
func (e *engine) mirrorDropped(as *addressSpace) {
	e.mu.Lock()
	defer e.mu.Unlock()
	as.noMirror = time.Now().Add(mirrorRetry)
	e.forgetMirrorLocked(as)
}

func (e *engine) forgetMirrorLocked(as *addressSpace) {
	if _, ok := e.mirrored[as]; ok {
		delete(e.mirrored, as)
		e.mirroredMappings -= len(as.maps.m)
	}
}
