package sentry

import (
	"errors"
	"runtime"
	"time"

	"gvisor.dev/gvisor/pkg/log"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/sfi"
)

const (
	// tickBusy is how often the worker looks after live blobs and the site table while there is bypass; tickIdle else.
	tickBusy = 100 * time.Millisecond
	tickIdle = time.Second

	// recheckPerTick bounds what comparing sources with memory costs: a fraction of a millisecond in each tick.
	recheckPerTick = 256

	// maxEntries bounds what is asked of one blob.
	maxEntries = 32
)

// work is the worker: one goroutine per sandbox, so that translation takes at most one CPU and blobs are published by one
// goroutine only.
func (e *engine) work() {
	timer := time.NewTimer(tickIdle)
	var seen uint64
	for {
		select {
		case <-e.wake:
			for e.step() {
			}
		case <-timer.C:
			next := tickIdle
			if n := e.counters[statfile.Bypassed].Load(); n != seen {
				seen = n
				next = tickBusy
				e.recheck()
			}
			e.writeSites()
			timer.Reset(next)
		}
	}
}

// step makes one translation; false: there is none to be made now.
func (e *engine) step() bool {
	e.waiting.Store(false)
	if !e.budget.Allows(&e.policy) {
		// Contexts wake the worker when it does. waiting is false while it works, so that they need not look.
		e.waiting.Store(true)
		return false
	}
	e.mu.Lock()
	j, ok := e.nextLocked()
	if !ok {
		e.mu.Unlock()
		return false
	}
	root, as := j.root, j.root.as
	limits, extensions := root.limits(&e.config)
	entries := []uint64{root.rip}
	if root.blob != nil {
		more := root.blob.wanted
		// After the level was lowered: the targets that were missed first are the most frequent ones.
		entries = append(entries, more[:min(len(more), extensions+1)]...)
	}
	for _, r := range j.asks {
		entries = append(entries, r.s.rip)
	}
	entries = path.Unique(entries)
	hints := make(path.Hints, len(as.hints))
	for from, b := range as.hints {
		hints[from] = b.List()
	}
	stacks := make(path.Stacks)
	for _, rip := range entries {
		if s := as.sites[rip]; s != nil && s.stack != nil {
			stacks[rip] = s.stack
		}
	}
	e.mu.Unlock()

	known := func(addr uint64) bool {
		t := as.entries.Load()
		if t == nil {
			return false
		}
		en, ok := t.entries[addr]
		return ok && en.site != root
	}
	// The thread's own time: what the machine's load makes of it is not the translation's.
	runtime.LockOSThread()
	began := e.cpuTime()
	ok = e.make(root, path.Order{Entries: entries, Hints: hints, Stacks: stacks, Known: known, Limits: limits})
	e.budget.Spend((e.cpuTime() - began) * ticksPerMicro() / 1000)
	runtime.UnlockOSThread()

	e.mu.Lock()
	defer e.mu.Unlock()
	root.queued = false
	for _, r := range j.asks {
		state := r.s.state
		e.servedLocked(r)
		if r.s == root {
			r.s.state = state
		}
		if ok && r.gap != nil {
			r.gap.Grown(&e.policy, e.ticks())
		}
		switch {
		case ok || r.s == root && root.blob == nil:
		case len(j.asks) > 1 && len(e.queue) < maxQueue && !as.released:
			r.s.queued, r.alone = true, true
			if r.gap != nil {
				r.gap.asked++
			}
			e.queue = append(e.queue, r)
		default:
			r.s.setBack(time.Now())
		}
	}
	if !ok && root.blob == nil {
		root.state = statfile.Refused
		root.setBack(time.Now())
	}
	return true
}

// ownerLocked returns the newest blob of as that was made from the instruction at rip.
func (e *engine) ownerLocked(as *addressSpace, rip uint64) *blob {
	for i := len(as.blobs) - 1; i >= 0; i-- {
		b := as.blobs[i]
		if b.root.blob != b {
			continue
		}
		for _, r := range b.source {
			if r.Start <= rip && rip < r.End {
				return b
			}
		}
	}
	return nil
}

// make translates, installs and publishes a blob for root with the given entries.
func (e *engine) make(root *site, o path.Order) bool {
	as := root.as
	if !as.takeMirror() {
		return false
	}
	began := time.Now()
	defer func() { e.counters.Add(statfile.TranslateNS, time.Since(began).Nanoseconds()) }()
	r := newCodeReader(as)
	p := e.known(root, r)
	var err error
	if p != nil {
		e.counters.Add(statfile.PlansReused, 1)
	} else {
		e.counters.Add(statfile.Translations, 1)
		p, err = e.plan(r, o)
	}
	if err != nil {
		e.counters.Add(statfile.TranslateFailed, 1)
		log.Debugf("Platform %s: site %#x: %v", Name, root.rip, err)
		return false
	}
	in, err := e.install(p.blob)
	if err != nil {
		var refused *sfi.Error
		if errors.As(err, &refused) {
			// The translator made something unsafe: that is its mistake, worth a line in the log.
			e.counters.Add(statfile.VerifierRefused, 1)
			log.Warningf("Platform %s: site %#x: the verifier refused its translation: %v", Name, root.rip, err)
		} else {
			e.counters.Add(statfile.TranslateFailed, 1)
			log.Warningf("Platform %s: site %#x: %v", Name, root.rip, err)
		}
		return false
	}
	b := &blob{as: as, root: root, installed: in, wanted: p.wanted, full: p.full, source: p.blob.Source, code: p.code, size: len(p.blob.Code)}
	for _, en := range p.blob.Entries {
		b.entries = append(b.entries, en.RIP)
	}
	e.counters.Add(statfile.BlobsInstalled, 1)
	e.counters.Add(statfile.BlobsLive, 1)
	e.counters.Add(statfile.BlobBytesLive, int64(b.size))
	if !e.publish(b) {
		e.counters.Add(statfile.CodeUnsafe, 1)
		return false
	}
	e.keep(root.rip, p)
	e.journal(b)
	return true
}

// install puts a blob into the arena, making room by dropping the oldest ones.
func (e *engine) install(out *btc.Blob) (*machine.Installed, error) {
	e.evict(len(out.Code))
	in, err := e.arena.Install(out)
	if errors.Is(err, machine.ErrArenaFull) {
		e.evict(int(e.config.MaxBlobBytes) / 2)
		in, err = e.arena.Install(out)
	}
	return in, err
}

// evict drops the oldest blobs until one more of the given size is within the limits.
func (e *engine) evict(size int) {
	e.mu.Lock()
	var gone []*blob
	for len(e.blobs) > 0 && (len(e.blobs) >= int(e.config.MaxBlobs) || e.bytes+size > int(e.config.MaxBlobBytes)) {
		gone = append(gone, e.dropLocked(e.blobs[0])...)
	}
	e.mu.Unlock()
	if len(gone) > 0 {
		e.counters.Add(statfile.BlobsEvicted, int64(len(gone)))
		e.retire(gone)
	}
}

// publish makes b's entries visible to Switch, if its source is still, and exclusively, what it was made from:
//
//  1. Under the lock: every source page is executable and not writable here, and its file bytes are mapped writable
//     nowhere; then b is registered. From now on every change of mappings that could let anybody write there, or show
//     something else there, drops b, and so does every write(2) to the files that the source is mapped from.
//  2. The source is read again and compared. Whoever could have written after the first reading had a writable
//     mapping, which is gone since 1; so nothing changes after this.
//  3. If b is still registered, its entries go into the table.
func (e *engine) publish(b *blob) bool {
	as := b.as
	as.mapMu.Lock()
	b.w = as.mirror
	as.mapMu.Unlock()

	e.mu.Lock()
	ok := !as.released && b.w != nil && e.registerLocked(b)
	e.mu.Unlock()
	if !ok {
		e.retire([]*blob{b})
		return false
	}
	ids, ok := e.sourceFiles(b)
	if ok {
		e.mu.Lock()
		ok = b.live && e.claimFilesLocked(b, ids)
		e.mu.Unlock()
	}
	unchanged := ok && b.unchanged()

	e.mu.Lock()
	gone := []*blob{}
	switch {
	case !b.live: // dropped since, and retired by whoever did
		e.mu.Unlock()
		return false
	case !unchanged || as.traced.Load() || e.fds.patching.Load() != 0:
		gone = e.dropLocked(b)
	default:
		old := b.root.blob
		b.root.blob = b
		b.root.translations++
		b.root.postponed = 0
		if old == nil {
			e.counters.Add(statfile.SitesLive, 1)
		} else {
			gone = e.dropLocked(old)
		}
		b.root.state = statfile.Live
		b.root.startTrial()
		e.publishLocked(as, func(m map[uint64]entry) {
			if old != nil {
				// What b no longer has must not stay, or the entry would be dead and never be asked for again.
				old.unlist(m)
			}
			for _, rip := range b.entries {
				code, ok := b.installed.Entry(rip)
				if !ok {
					continue
				}
				// An entry of a path of its own stays: this one has it in passing.
				if other, ok := m[rip]; ok && rip != b.root.rip && other.site != b.root && other.site.rip == rip && other.site.blob != nil {
					continue
				}
				m[rip] = entry{code, b.root}
			}
		})
		e.grownLocked(b.root)
	}
	e.mu.Unlock()
	e.retire(gone)
	return unchanged
}

// registerLocked does step 1 of publish.
func (e *engine) registerLocked(b *blob) bool {
	var files []fileRange
	for _, s := range b.source {
		for a := s.Start; a < s.End; {
			end := min(s.End, a&^(pageSize-1)+pageSize)
			f, ok := e.codeAtLocked(b.as, a, end)
			if !ok {
				return false
			}
			if n := len(files); n > 0 && files[n-1].file == f.file && files[n-1].end == f.start {
				files[n-1].end = f.end
			} else {
				files = append(files, f)
			}
			a = end
		}
	}
	if e.writableLocked(files) {
		return false
	}
	b.files = files
	b.live = true
	e.blobs = append(e.blobs, b)
	b.as.blobs = append(b.as.blobs, b)
	e.bytes += b.size
	for _, f := range files {
		if e.code[f.file] == nil {
			e.code[f.file] = map[*blob]struct{}{}
		}
		e.code[f.file][b] = struct{}{}
	}
	return true
}

// unchanged compares b's source with the memory as it is now.
func (b *blob) unchanged() bool { return newCodeReader(b.as).reads(b.code) }

// recheck compares the sources of some blobs with the memory, in turn, and drops those that differ: see invalidate.go.
func (e *engine) recheck() {
	e.mu.Lock()
	n := min(len(e.blobs), recheckPerTick)
	some := make([]*blob, 0, n)
	for range n {
		e.recheckNext++
		some = append(some, e.blobs[e.recheckNext%len(e.blobs)])
	}
	e.mu.Unlock()
	for _, b := range some {
		if b.unchanged() {
			continue
		}
		e.mu.Lock()
		gone := e.dropLocked(b)
		e.mu.Unlock()
		e.invalidated(gone)
	}
}

// journal records b for `ub disasm`.
func (e *engine) journal(b *blob) {
	if e.config.Journal == 0 {
		return
	}
	rec := statfile.Blob{Space: b.as.id, Base: uint64(b.installed.Base()), Code: e.arena.Bytes(b.installed)}
	for _, en := range b.installed.Blob.Entries {
		rec.Entries = append(rec.Entries, statfile.Entry{RIP: en.RIP, Off: en.Off})
	}
	for _, l := range b.installed.Blob.Lines {
		rec.Lines = append(rec.Lines, statfile.Entry{RIP: l.RIP, Off: l.Off})
	}
	for _, s := range b.code {
		rec.Sources = append(rec.Sources, statfile.Source{Addr: s.addr, Code: s.code})
	}
	e.stats.AppendBlob(&rec)
}

// writeSites brings the site table up to date.
func (e *engine) writeSites() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range &e.tableSites {
		if s != nil {
			e.writeSlot(s)
		}
	}
	for _, g := range &e.tableGaps {
		if g != nil {
			e.writeGap(g)
		}
	}
}

// writeSlot writes one site to its place in the table. engine.mu is held.
func (e *engine) writeSlot(s *site) {
	v := statfile.Site{
		Entry: s.rip, Space: s.as.id, State: s.state, Entered: s.entered.Load(), Bypassed: s.bypassed.Load(),
		Misses: s.misses.Load(), Stops: s.stops.Load(), Translations: uint64(s.translations),
	}
	if s.blob != nil {
		v.CodeBytes = uint64(s.blob.size)
	}
	e.stats.SetSite(s.slot, v)
}
