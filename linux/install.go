package linux

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ub/btc"
)

// install is a blob in the form in which the module takes it.
type install struct {
	vec     uint32
	code    []byte
	relocs  []abiReloc
	entries []abiEntry
	faults  []abiFault
	dirty   []abiDirty
	ranges  []abiRange
	source  []byte

	base uint64 // out: where the module has put the code
}

// newInstall converts b, with those of its entries that want accepts. source has the bytes of b.Source, one after another.
func newInstall(b *btc.Blob, source []byte, want func(rip uint64) bool) *install {
	in := &install{vec: uint32(b.Vec), code: b.Code, source: source}
	for _, r := range b.Relocs {
		in.relocs = append(in.relocs, abiReloc{off: r.Off, sym: uint32(r.Sym)})
	}
	for _, e := range b.Entries {
		if want(e.RIP) {
			in.entries = append(in.entries, abiEntry{rip: e.RIP, off: e.Off})
		}
	}
	// Many faults share what they say of registers: few lists, then.
	lists := map[string]uint32{}
	var key []byte
	for _, f := range b.Faults {
		a := abiFault{rip: f.RIP, off: f.Off, kind: uint8(f.Kind), ndirty: uint8(len(f.Dirty))}
		if s := f.Str; s != nil {
			a.flags |= faultFStr
			a.origDI, a.startDI = s.OrigDI, s.StartDI
			if s.HasSI {
				a.flags |= faultFSI
				a.origSI, a.startSI = s.OrigSI, s.StartSI
			}
		}
		if len(f.Dirty) > 0 {
			key = key[:0]
			for _, d := range f.Dirty {
				key = fmt.Appendf(key, "%d %d %d,", d.Virtual, d.Native, d.Delta)
			}
			first, ok := lists[string(key)]
			if !ok {
				first = uint32(len(in.dirty))
				lists[string(key)] = first
				for _, d := range f.Dirty {
					in.dirty = append(in.dirty, abiDirty{virt: d.Virtual, nat: d.Native, delta: d.Delta})
				}
			}
			a.first = first
		}
		in.faults = append(in.faults, a)
	}
	for _, r := range b.Source {
		in.ranges = append(in.ranges, abiRange{start: r.Start, end: r.End})
	}
	return in
}

// exceeds says which of the module's limits in exceeds, or "".
func (in *install) exceeds(v *Version) string {
	for _, l := range []struct {
		what string
		n    int
		max  uint32
	}{
		{"code", len(in.code), v.MaxCode},
		{"relocations", len(in.relocs), v.MaxRelocs},
		{"entries", len(in.entries), v.MaxEntries},
		{"fault records", len(in.faults), v.MaxFaults},
		{"register locations", len(in.dirty), v.MaxDirty},
		{"source ranges", len(in.ranges), v.MaxRanges},
		{"source bytes", len(in.source), v.MaxSource},
	} {
		if uint64(l.n) > uint64(l.max) {
			return fmt.Sprintf("%d %s are more than the module's %d", l.n, l.what, l.max)
		}
	}
	return ""
}

// rips returns the entries.
func (in *install) rips() []uint64 {
	out := make([]uint64, len(in.entries))
	for i, e := range in.entries {
		out[i] = e.rip
	}
	slices.Sort(out)
	return out
}

// InstallError says why the module has not taken a blob.
type InstallError struct {
	Errno unix.Errno
	Rule  uint32 // with ENOEXEC: the verifier's rule
	Off   uint32 // with ENOEXEC: of the instruction; with EINVAL: a record's index
}

func (e *InstallError) Error() string {
	switch e.Errno {
	case unix.ENOEXEC:
		return fmt.Sprintf("the module's verifier refuses the code at %#x, by rule %d", e.Off, e.Rule)
	case unix.EAGAIN:
		return "the program's mappings were changing meanwhile"
	case unix.ESTALE:
		return "the program's code has changed meanwhile"
	case unix.EACCES:
		return "the code can be written to: it is in a writable or shared mapping, or its file is open for writing"
	case unix.EOPNOTSUPP:
		return "this machine cannot run the code: vector registers that it does not have, or LOCK where split locks trap"
	case unix.ENOSPC:
		return "the module's memory for code is full"
	case unix.E2BIG:
		return "the code is more than the module takes at once"
	case unix.ESRCH:
		return "the process has gone, or has another program now"
	case unix.EINVAL:
		return fmt.Sprintf("the module does not understand record %d", e.Off)
	}
	return e.Errno.Error()
}

// Unwrap returns the error number.
func (e *InstallError) Unwrap() error { return e.Errno }
