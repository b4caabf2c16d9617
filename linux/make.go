package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/path"
	"ub/sfi"
	"ub/target"
)

// translator makes the blob of the path of some entries: pure, from the program's bytes. full: there is more, beyond the limits.
// vectors: with vector instructions.
type translator func(r path.CodeReader, o path.Order, vectors bool) (b *btc.Blob, full bool, err error)

// translateFor returns the translator for machines with vector level v.
func translateFor(v target.Vec) translator {
	return func(r path.CodeReader, o path.Order, vectors bool) (*btc.Blob, bool, error) {
		opts := btc.Options{Kernel: target.Linux, NoVectors: v < target.VecAVX || !vectors, NoAVX512: v < target.VecAVX512}
		p, err := o.Discover(r)
		if err != nil {
			return nil, false, err
		}
		b, err := btc.Translate(p, opts)
		return b, p.Full, err
	}
}

// attempts is how often a translation is begun again because the program's memory was changing.
const attempts = 3

// make translates the path of entries, which belongs to root, and has the module take it.
func (s *Session) make(root *site, entries []uint64) bool {
	var err error
	for range attempts {
		if err = s.try(root, entries); err == nil {
			return true
		}
		switch {
		case errors.Is(err, btc.ErrNoEntry) && !root.vectors:
			// Its first instruction may be a vector instruction: nobody would ever stop there, and tell.
			root.vectors = true
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ESTALE):
		case errors.Is(err, unix.E2BIG) && root.limits(&s.config).MaxInsts > 16:
			root.shift++
		case errors.Is(err, unix.ENOSPC):
			s.evict(s.bytes / 2)
		default:
			s.refused(root, err)
			return false
		}
	}
	s.refused(root, err)
	return false
}

// refused takes note of why there is no new code for root. What there was stays.
func (s *Session) refused(root *site, err error) {
	s.counts.Refused++
	var in *InstallError
	var bad *sfi.Error
	level := slog.LevelDebug
	if errors.As(err, &bad) || errors.As(err, &in) && (in.Errno == unix.ENOEXEC || in.Errno == unix.EINVAL) {
		// The translator has made something unsafe or senseless: that is its mistake.
		level = slog.LevelWarn
	}
	s.log.Log(s.ctx, level, "no code", "site", hex(root.rip), "error", err)
	if root.blob == nil {
		root.setBack(&s.config, s.now(), Refused, err.Error())
	} else {
		root.why = err.Error()
	}
}

func (s *Session) try(root *site, entries []uint64) error {
	r, err := newCodeReader(s.memory)
	if err != nil {
		return err
	}
	hints := make(path.Hints, len(s.hints))
	for from, b := range s.hints {
		hints[from] = b.List()
	}
	stacks := make(path.Stacks)
	for _, rip := range entries {
		if t := s.sites[rip]; t != nil && t.stack != nil {
			stacks[rip] = t.stack
		}
	}
	known := func(addr uint64) bool {
		b := s.entries[addr]
		return b != nil && b.root != root
	}
	s.counts.Translations++
	b, full, err := s.plan(r, path.Order{Entries: entries, Hints: hints, Stacks: stacks, Known: known, Limits: root.limits(&s.config)}, root.vectors)
	if err != nil {
		return err
	}
	if _, ok := b.EntryAt(root.rip); !ok {
		// There is something else to enter, return sites for example, but what was asked for would still be missed.
		return fmt.Errorf("%w: the translation would end at %#x, its first instruction", btc.ErrNoEntry, root.rip)
	}
	in := newInstall(b, r.source(b.Source), func(rip uint64) bool {
		// An entry of a path of its own stays: this one has it in passing.
		other := s.entries[rip]
		return other == nil || other.root == root || other.root.rip != rip
	})
	if why := in.exceeds(&s.version); why != "" {
		return fmt.Errorf("%s: %w", why, unix.E2BIG)
	}
	if err := check(b, in); err != nil {
		return err
	}
	if len(s.blobs) >= s.config.MaxBlobs || s.bytes+len(b.Code) > s.config.MaxBytes {
		s.evict(max(len(b.Code), s.config.MaxBytes/8))
	}
	id, err := s.dev.Install(in)
	if err != nil {
		return err
	}
	old := root.blob
	n := &blob{id: id, root: root, wanted: entries, entries: in.rips(), source: b.Source, size: len(b.Code), full: full, base: in.base, code: &btc.Blob{Code: b.Code, Lines: b.Lines}, entriesThen: s.stats.Entries}
	s.blobs = append(s.blobs, n)
	s.bytes += n.size
	for _, rip := range n.entries {
		s.entries[rip] = n
	}
	root.blob, root.state, root.why = n, Live, ""
	root.made++
	s.counts.Installed++
	if old != nil {
		s.revoke(old)
	}
	s.installed(n)
	s.log.Debug("installed", "site", hex(root.rip), "blob", id, "entries", len(n.entries), "bytes", n.size, "vec", b.Vec)
	return nil
}

// plan makes a blob. A panic is taken for a failure: a mistake in the translator costs the site its bypass. What it has
// made does not matter then, and what it makes is verified anyhow.
func (s *Session) plan(r path.CodeReader, o path.Order, vectors bool) (b *btc.Blob, full bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			b, full, err = nil, false, fmt.Errorf("BUG in the translator: %v", v)
			s.log.Warn("BUG in the translator", "entries", fmt.Sprintf("%#x", o.Entries), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return s.translate(r, o, vectors)
}

// Where check pretends that the code lies, and the places it may jump to. The module decides where it really does, and
// verifies it there again, whoever loads it.
const (
	checkBase = 0xffffffffc1000000
	checkSyms = 0xffffffffc0f00000
)

// check has package sfi verify the blob. What it refuses is not even given to the module.
func check(b *btc.Blob, in *install) error {
	return checkAt(b, in, checkBase, [target.NumSyms]uint64{checkSyms, checkSyms + 64, checkSyms + 128})
}

func checkAt(b *btc.Blob, in *install, base uint64, syms [target.NumSyms]uint64) error {
	env := sfi.Env{Syms: syms, Vec: b.Vec, Kernel: target.Linux, Faults: b.FaultOffsets()}
	code := slices.Clone(b.Code)
	for _, r := range b.Relocs {
		if uint64(r.Off)+4 > uint64(len(code)) || int(r.Sym) >= len(env.Syms) {
			return fmt.Errorf("relocation %v at %#x is not inside the blob of %#x bytes", r.Sym, r.Off, len(code))
		}
		binary.LittleEndian.PutUint32(code[r.Off:], uint32(env.Syms[r.Sym]-(base+uint64(r.Off)+4)))
	}
	offs := make([]uint32, len(in.entries))
	for i, e := range in.entries {
		offs[i] = e.off
	}
	return sfi.Verify(code, base, offs, env)
}

// revoke takes a blob back. Its entries are gone then, but those that others have taken over.
func (s *Session) revoke(b *blob) {
	if err := s.dev.Revoke(b.id); err != nil && !errors.Is(err, unix.ENOENT) {
		s.log.Warn("code could not be taken back", "blob", b.id, "error", err)
	}
	s.forget(b)
}

// forget removes a blob that the module does not have any more.
func (s *Session) forget(b *blob) {
	i := slices.Index(s.blobs, b)
	if i < 0 {
		return
	}
	s.blobs = slices.Delete(s.blobs, i, i+1)
	s.bytes -= b.size
	for _, rip := range b.entries {
		if s.entries[rip] == b {
			delete(s.entries, rip)
			s.gone(rip)
		}
	}
	if b.root.blob == b {
		b.root.blob = nil
	}
}

// evict takes back the oldest blobs until size bytes are free.
func (s *Session) evict(size int) {
	for n := 0; len(s.blobs) > 0 && n < size; {
		b := s.blobs[0]
		n += b.size
		s.revoke(b)
		if b.root.blob == nil {
			b.root.state = Free
		}
		s.counts.Evicted++
	}
}

func hex(v uint64) string { return fmt.Sprintf("%#x", v) }
