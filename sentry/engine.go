package sentry

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/btc"
	"ub/hot"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/target"
)

// engine owns sites and blobs: which addresses are entries, what they were made from, and when they must go.
type engine struct {
	config   statfile.Config
	policy   hot.Config // config in ticks
	stats    *statfile.File
	counters *statfile.Counters
	arena    arena
	// translate makes a blob; a variable for tests.
	translate translator

	// ticks is the clock of policy; a variable for tests.
	ticks func() uint64

	// cpuTime is the present thread's processor time in nanoseconds; a variable for tests.
	cpuTime func() uint64

	// read reads a program's memory; a variable for tests.
	read func(w *machine.Window, addr uint64, dst []byte) bool

	// fileOf and sourceFiles ask the Sentry; variables for tests.
	fileOf      func(ctx pkgcontext.Context, fd int32) (fileID, bool)
	sourceFiles func(b *blob) ([]fileID, bool)

	fds fdWatch

	// budget is for translation; waiting: there are requests that it has no room for.
	budget  hot.Budget
	waiting atomic.Bool

	// wake tells the worker that the queue is not empty.
	wake chan struct{}

	mu     sync.Mutex
	spaces map[*addressSpace]struct{}
	nextID uint32
	queue  []request
	// blobs in order of installation; dropped ones are removed.
	blobs []*blob
	bytes int
	// code finds the live blobs made from a file's bytes.
	code map[memmap.File]map[*blob]struct{}
	// codeFiles counts the live blobs that come from a file; tainted are files that have been written to nevertheless.
	codeFiles map[fileID]int
	tainted   map[fileID]struct{}

	mirrored         map[*addressSpace]struct{}
	mirroredMappings int

	freeSlots  []int // of the site table: never used, then those of finished address spaces, oldest first
	tableSites [statfile.NumSites]*site

	recheckNext int // index into blobs

	// noGap stands for gaps that there is no room for.
	noGap *gap
	// tableGaps is the gaps in the gap table, freeGaps its free slots.
	tableGaps [statfile.NumGaps]*gap
	freeGaps  []int
	// freeThreads is the free places of the thread table.
	freeThreads []int

	// plans are recent translations by their site, for other address spaces with the same code in the same place.
	plans map[uint64]*plan
}

// arena is what the engine needs of a *machine.Machine.
type arena interface {
	NewWindow() (window, *machine.Window, error)
	Install(*btc.Blob) (*machine.Installed, error)
	Retire(...*machine.Installed)
	Bytes(*machine.Installed) []byte
}

type realArena struct{ *machine.Machine }

func (a realArena) NewWindow() (window, *machine.Window, error) {
	w, err := a.Machine.NewWindow()
	if err != nil {
		return nil, nil, err
	}
	return w, w, nil
}

const (
	maxQueue = 1024
	// maxBranches and maxSites bound what an address space's misses and nominations can take of the Sentry's memory.
	maxBranches = 4096
	maxSites    = 4096

	// mirrorRetry is how long an address space that got no mirror, or lost it, waits before the next attempt.
	mirrorRetry = 2 * time.Second

	// maxMirroredMappings keeps the mirrors well below vm.max_map_count (65530 by default), of which a mapping may
	// take two: itself and the hole behind it.
	maxMirroredMappings = 16000
)

func newEngine(a arena, config statfile.Config, stats *statfile.File) *engine {
	e := &engine{
		config:      config,
		policy:      config.Policy(ticksPerMicro()),
		stats:       stats,
		counters:    stats.Counters(),
		arena:       a,
		translate:   translateFor(target.VecNone),
		ticks:       ticks,
		cpuTime:     cpuTime,
		read:        readWindow,
		fileOf:      fileOf,
		sourceFiles: sourceFiles,
		codeFiles:   map[fileID]int{},
		tainted:     map[fileID]struct{}{},
		wake:        make(chan struct{}, 1),
		spaces:      map[*addressSpace]struct{}{},
		code:        map[memmap.File]map[*blob]struct{}{},
		mirrored:    map[*addressSpace]struct{}{},
		plans:       map[uint64]*plan{},
		freeSlots:   make([]int, statfile.NumSites),
	}
	for i := range e.freeSlots {
		e.freeSlots[i] = i
	}
	for i := range statfile.NumGaps {
		e.freeGaps = append(e.freeGaps, i)
	}
	for i := range statfile.NumThreads {
		e.freeThreads = append(e.freeThreads, i)
	}
	e.noGap = &gap{slot: -1}
	e.noGap.Data = e.noGap
	if config.Controller == 0 {
		e.noGap.HasCode(&e.policy, 0)
	}
	return e
}

func (e *engine) newSpace(inner platform.AddressSpace) *addressSpace {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextID++
	as := &addressSpace{inner: inner, e: e, id: e.nextID}
	e.spaces[as] = struct{}{}
	e.counters.Add(statfile.SpacesLive, 1)
	return as
}

// dropSpace forgets as.
func (e *engine) dropSpace(as *addressSpace) {
	e.mu.Lock()
	if as.released {
		e.mu.Unlock()
		return
	}
	as.released = true
	gone := e.dropCodeLocked(as)
	e.forgetMirrorLocked(as)
	for _, s := range as.sites {
		if s.slot >= 0 {
			e.writeSlot(s)
			e.tableSites[s.slot] = nil
			e.freeSlots = append(e.freeSlots, s.slot)
		}
	}
	for _, g := range as.gaps {
		e.unlistGapLocked(g)
	}
	as.sites, as.gaps, as.hints, as.maps = nil, nil, nil, mapSet{}
	delete(e.spaces, as)
	e.counters.Add(statfile.SpacesLive, -1)
	e.mu.Unlock()
	e.retire(gone)
}

// nominate queues the site behind whose syscall gaps are short. stack is what is on the program's stack there now.
func (e *engine) nominate(as *addressSpace, rip uint64, stack []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if as.released || as.traced.Load() || time.Now().Before(as.noMirror) {
		return
	}
	s := e.siteLocked(as, rip)
	if s == nil || s.state == statfile.Live || as.tried(rip, e.ticks()) {
		return
	}
	s.stack = stack
	e.enqueueLocked(request{s: s})
}

// missed takes note of a transfer to an address that is no entry, behind a pass through g, which poor says seldom gets to
// a syscall. stack reads the program's stack as it is then.
func (e *engine) missed(as *addressSpace, from, to uint64, g *gap, poor bool, stack func() []uint64) {
	if from == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if as.released {
		return
	}
	b := as.hints[from]
	if b == nil {
		if len(as.hints) >= maxBranches {
			return
		}
		if as.hints == nil {
			as.hints = map[uint64]*path.Branch{}
		}
		b = &path.Branch{}
		as.hints[from] = b
	}
	if b.Missed(to, 1, firstMisses) {
		if s := e.siteLocked(as, to); s != nil {
			s.stack = stack()
			e.enqueueLocked(request{s: s, from: from, gap: g})
		}
	}
	if s := as.sites[to]; poor && s != nil && s.queued {
		g.awaits = s
		g.Await(e.ticks())
	}
}

// siteLocked returns the site at rip, made if it is not there, or nil if there are too many.
func (e *engine) siteLocked(as *addressSpace, rip uint64) *site {
	if s := as.sites[rip]; s != nil {
		return s
	}
	if len(as.sites) >= maxSites {
		return nil
	}
	if as.sites == nil {
		as.sites = map[uint64]*site{}
	}
	s := &site{as: as, rip: rip, slot: -1}
	if len(e.freeSlots) > 0 {
		s.slot = e.freeSlots[0]
		e.freeSlots = e.freeSlots[1:]
		e.tableSites[s.slot] = s
	}
	as.sites[rip] = s
	return s
}

func (e *engine) enqueueLocked(r request) {
	if r.s.queued || len(e.queue) >= maxQueue || time.Now().Before(r.s.retryAt) {
		return
	}
	if r.s.state == statfile.Free {
		e.counters.Add(statfile.Candidates, 1)
	}
	r.s.queued = true
	if r.gap != nil {
		r.gap.asked++
	}
	if r.s.state != statfile.Live {
		r.s.state = statfile.Candidate
	}
	e.queue = append(e.queue, r)
	e.wakeUp()
}

func (e *engine) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// judge ends a site's trial. A site that does not yield is retired: its entry goes, so that it costs nothing.
func (e *engine) judge(s *site) {
	e.mu.Lock()
	var gone []*blob
	if s.state == statfile.Live && s.due(&e.config) {
		// While more of its path is being translated there is nothing to judge yet.
		wait := s.queued && s.postponed < maxPostponed
		if wait {
			s.postponed++
		}
		if !wait && !s.yields(&e.config) && s.blob != nil {
			log.Infof("Platform %s: site %#x of address space %d retired: %d of %d entries reached a syscall, %d misses, %d stops in all",
				Name, s.rip, s.as.id, s.bypassed.Load()-s.judgedBypassed, s.entered.Load()-s.judgedEntered.Load(), s.misses.Load(), s.stops.Load())
			gone = append(gone, e.dropLocked(s.blob)...)
			s.state = statfile.Retired
			s.setBack(time.Now())
			e.counters.Add(statfile.SitesRetired, 1)
		}
		s.startTrial()
	}
	e.mu.Unlock()
	e.retire(gone)
}

// publishLocked makes the table of as anew from the live blobs.
func (e *engine) publishLocked(as *addressSpace, change func(map[uint64]entry)) {
	var entries map[uint64]entry
	if old := as.entries.Load(); old != nil {
		entries = maps.Clone(old.entries)
	} else {
		entries = map[uint64]entry{}
	}
	change(entries)
	if len(entries) == 0 {
		as.entries.Store(nil)
		return
	}
	as.entries.Store(&table{entries: entries})
}

// dropLocked takes a blob out of the table and the registries. The caller gives the result to retire when it has
// released the lock.
func (e *engine) dropLocked(b *blob) []*blob {
	if !b.live {
		return nil
	}
	b.live = false
	e.disclaimFilesLocked(b)
	for _, f := range b.files {
		set := e.code[f.file]
		delete(set, b)
		if len(set) == 0 {
			delete(e.code, f.file)
		}
	}
	isB := func(x *blob) bool { return x == b }
	e.blobs = slices.DeleteFunc(e.blobs, isB)
	b.as.blobs = slices.DeleteFunc(b.as.blobs, isB)
	e.bytes -= b.size
	if b.root.blob != b {
		return []*blob{b} // not published yet, or replaced
	}
	e.publishLocked(b.as, b.unlist)
	b.root.blob = nil
	b.root.state = statfile.Dropped
	e.counters.Add(statfile.SitesLive, -1)
	return []*blob{b}
}

// unlist takes b's entries out of m.
func (b *blob) unlist(m map[uint64]entry) {
	for _, rip := range b.entries {
		if m[rip].code.Installed() == b.installed {
			delete(m, rip)
		}
	}
}

// dropCodeLocked drops all blobs of as.
func (e *engine) dropCodeLocked(as *addressSpace) []*blob {
	var gone []*blob
	for _, b := range slices.Clone(as.blobs) {
		gone = append(gone, e.dropLocked(b)...)
	}
	return gone
}

// dropCode drops all blobs of as and waits until no thread is in them.
func (e *engine) dropCode(as *addressSpace) {
	e.mu.Lock()
	gone := e.dropCodeLocked(as)
	e.mu.Unlock()
	e.expel(gone)
}

// standDown ends bypass in an address space that is being traced.
func (e *engine) standDown(as *addressSpace) {
	if !as.traced.Swap(true) {
		e.dropCode(as)
	}
}

// retire gives dropped blobs back to the machine. Threads may still be in them, but none enters them any more.
func (e *engine) retire(gone []*blob) {
	if len(gone) == 0 {
		return
	}
	in := make([]*machine.Installed, len(gone))
	for i, b := range gone {
		in[i] = b.installed
		e.counters.Add(statfile.BlobBytesLive, -int64(b.size))
		e.counters.Add(statfile.BlobsLive, -1)
	}
	e.arena.Retire(in...)
}

// expel is retire, and waits until no thread is in the blobs: what they were made from may then change.
func (e *engine) expel(gone []*blob) {
	e.retire(gone)
	seen := map[window]bool{}
	for _, b := range gone {
		if !seen[b.w] {
			seen[b.w] = true
			b.w.Expel()
		}
	}
}
