package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"ub/hot"
	"ub/path"
	"ub/target"
)

// Session is bypass for one process.
type Session struct {
	pid       int
	config    Config
	dev       device
	memory    memory
	version   Version
	translate translator
	now       func() time.Time
	log       *slog.Logger
	ctx       context.Context

	sites   map[uint64]*site
	entries map[uint64]*blob // who has the entry for an address
	blobs   []*blob          // by age
	bytes   int
	hints   map[uint64]*path.Branch
	queue   []request
	policy  hot.Config // times in ns
	budget  hot.Budget
	lost    uint64 // system calls that the budget knows of

	stats      Stats
	counts     Counts
	judged     time.Time
	guard      *guard      // nil: none
	isOn       bool        // what the module was told last
	controller *controller // nil: whatever has code is bypassed

	mu        sync.Mutex
	published Status // for Status, which other goroutines may call
}

// Counts are this side's, beside the module's Stats.
type Counts struct {
	Translations uint64 `json:"translations"`
	Merged       uint64 `json:"requests_merged"` // requests that were served by another's translation
	Pieces       uint64 `json:"pieces"`          // paths that continue others without room
	Installed    uint64 `json:"installed"`
	Refused      uint64 `json:"refused"`
	Retired      uint64 `json:"retired"`
	Evicted      uint64 `json:"evicted"`
	Events       uint64 `json:"events"`
	Suspended    uint64 `json:"suspended"`
	Windows      uint64 `json:"windows"`      // in which passes were timed
	Timed        uint64 `json:"timed_passes"` // in them
	Decisions    uint64 `json:"decisions"`    // that a gap is kept, or rolled back
}

// Attach enrols a process and prepares its session. Run does the work; Close ends it.
func Attach(pid int, c Config, log *slog.Logger) (*Session, error) {
	d, err := Open()
	if err != nil {
		return nil, err
	}
	s, err := newSession(pid, c, d, log)
	if err == nil {
		// Not before it is enrolled: if it executes another program from now on, the module says so.
		s.memory, err = openMemory(pid)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return s, nil
}

func newSession(pid int, c Config, d device, log *slog.Logger) (*Session, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	v, err := d.Version()
	if err != nil {
		return nil, err
	}
	if v.Enabled == 0 {
		log.Warn("bypass is switched off for the whole machine: nothing happens until `echo 1 > /sys/module/ub/parameters/enabled`")
	}
	if err := d.Enrol(pid); err != nil {
		return nil, err
	}
	set := Control{Hot: c.HotCount, Miss: c.MissCount, MaxChain: c.MaxChain}
	what := uint32(setHot | setMiss)
	if c.MaxChain != 0 {
		what |= setChain
	}
	if _, err := d.Control(what, set); err != nil {
		return nil, err
	}
	s := &Session{
		pid: pid, config: c, dev: d, version: *v, log: log, now: time.Now, ctx: context.Background(),
		translate: translateFor(min(target.Vec(v.Vec), target.VecAVX512)), policy: c.policy(),
		sites: map[uint64]*site{}, entries: map[uint64]*blob{}, hints: map[uint64]*path.Branch{},
	}
	s.controller = newController(&s.policy, v, s.now())
	return s, nil
}

// PID is the process's.
func (s *Session) PID() int { return s.pid }

// tick is how often counters are read and blobs are judged while there is nothing else to do.
const tick = 250 * time.Millisecond

// Run serves the process until it ends, or executes another program, or the context is done. The error is nil then.
func (s *Session) Run(ctx context.Context) error {
	s.ctx = ctx
	if w, ok := s.dev.(interface{ Wake() }); ok {
		defer context.AfterFunc(ctx, w.Wake)()
	}
	buf := make([]Event, 256)
	s.isOn = true
	if s.config.Guard {
		s.guard = newGuard(s.now())
	}
	busy := false // there may be more to translate
	for ctx.Err() == nil {
		wait := tick
		if busy && !s.pairing() {
			wait = 0
		}
		if s.guard != nil {
			wait = min(wait, s.guard.wait(s.now())+time.Millisecond)
		}
		if s.measures() {
			wait = min(wait, s.controller.wait(s.now()))
		}
		n, err := s.dev.Read(buf, wait)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for i := range buf[:n] {
			s.event(&buf[i])
		}
		// One at a time: what is missed meanwhile may be served by the next one, and the guard and whoever wants to know the counts
		// cannot wait until a server's hundreds of paths are there. While a pair of windows is being measured none is made: it would take as long as many windows.
		if busy = len(s.queue) > 0; !s.pairing() {
			busy = s.step()
		}
		s.control()
		if now := s.now(); now.Sub(s.judged) >= tick {
			s.judged = now
			s.judge()
		}
		s.watch()
	}
	s.judge()
	return nil
}

// watch lets the guard do its work, and switches bypass as it says.
func (s *Session) watch() {
	now := s.now()
	if s.guard == nil || s.guard.wait(now) > 0 {
		return
	}
	st, err := s.dev.Stats()
	if err != nil {
		return
	}
	s.stats = *st
	was := s.guard.Suspended
	s.guard.step(now, st.Hooks+st.Chained, cpuTime(s.pid))
	if s.guard.Suspended != was {
		s.counts.Suspended++
		s.log.Info("the program is slower with bypass: it runs natively for a while", "pid", s.pid)
	}
	if on := s.guard.on(); on != s.isOn {
		c := Control{}
		if on {
			c.Enabled = 1
		}
		if _, err := s.dev.Control(setEnabled, c); err == nil {
			s.isOn = on
		}
	}
}

// Close ends bypass for the process, which goes on natively.
func (s *Session) Close() error {
	s.memory.Close()
	return s.dev.Close()
}

// event takes a record of the module's.
func (s *Session) event(e *Event) {
	s.counts.Events++
	switch e.Type {
	case EventHot:
		s.hot(e)
	case EventMiss:
		s.missed(e)
	case EventFault, EventStop:
		b := s.owner(e.RIP)
		if b == nil {
			return
		}
		if e.Type == EventStop && !b.root.vectors {
			s.stopped(b.root)
			return
		}
		b.exits += e.Count
		b.root.exits += e.Count
	case EventRseq:
		s.log.Info("the program has restartable sequences of its own: it runs natively", "pid", s.pid)
	case EventInvalid:
		i := slices.IndexFunc(s.blobs, func(b *blob) bool { return b.id == e.RIP })
		if i < 0 {
			return
		}
		b := s.blobs[i]
		s.forget(b)
		if b.root.blob == nil {
			// What has changed its code once may do so again.
			b.root.setBack(&s.config, s.now(), Dropped, "its code has changed")
		}
	}
}

// hot nominates a site behind whose system call the thread came back to user mode often.
func (s *Session) hot(e *Event) {
	t := s.site(e.RIP)
	if t == nil {
		return
	}
	t.seen += e.Count
	t.nr = e.NR
	if s.entries[e.RIP] != nil {
		return // there is code; what kept the thread from it is none of ours
	}
	if !s.config.Eager && float64(e.Count)*1e9 < s.config.MinRate*float64(e.NS) {
		return
	}
	t.stack = s.stack(e.From)
	s.enqueue(request{s: t})
}

// maxStack is how many words of the program's stack tell a path where returns lead: 2 KiB, some ten functions.
const maxStack = 256

// stack returns what is on a thread's stack from sp on, as far as it can be read. The thread may have gone on meanwhile: what
// is read are hints, and those of a loop stay what they are.
func (s *Session) stack(sp uint64) []uint64 {
	if sp == 0 || sp >= 1<<47 {
		return nil
	}
	b := make([]byte, 8*maxStack)
	n, _ := s.memory.ReadAt(b, int64(sp))
	out := make([]uint64, n/8)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return out
}

// stopped has a path made anew with vector instructions, at the first of which it ended so far. Code without them is cheaper
// to enter: with them, vector registers are locked each time. In most paths they are only in what follows the loop.
func (s *Session) stopped(root *site) {
	root.vectors = true
	s.enqueue(request{s: root})
}

// missed takes note of a transfer to an address that is no entry. Of code that is gone by now nothing is to be learnt: what is there
// in its place will miss the target as well, or has it.
func (s *Session) missed(e *Event) {
	b, from := s.transfer(e.From)
	if b == nil {
		return
	}
	b.exits += e.Count
	b.root.exits += e.Count
	h := s.hints[from]
	if h == nil {
		if len(s.hints) >= maxBranches {
			return
		}
		h = &path.Branch{}
		s.hints[from] = h
	}
	if !h.Missed(e.RIP, e.Count, uint64(s.config.MissCount)) || s.entries[e.RIP] != nil {
		return
	}
	if t := s.site(e.RIP); t != nil {
		s.enqueue(request{s: t, from: from})
	}
}

// judge reads the counters, and gives up code that is left too often before it has reached a system call: it costs an
// entry and brings nothing. Code that may still grow gets its time: misses are what it grows by.
func (s *Session) judge() {
	if st, err := s.dev.Stats(); err == nil {
		s.stats = *st
	}
	for _, b := range slices.Clone(s.blobs) {
		if b.exits < s.config.TrialExits {
			continue
		}
		entered := s.stats.Entries - b.entriesThen
		if b.exits*100 >= entered*s.config.MaxLossPercent && s.stats.ExitSyscall*100 < s.stats.Entries*(100-s.config.MaxLossPercent/2) && !b.root.queued {
			root := b.root
			s.log.Debug("retired", "site", hex(root.rip), "exits", b.exits, "entered", entered)
			s.revoke(b)
			if root.blob == nil {
				root.setBack(&s.config, s.now(), Retired, "its code seldom reached a system call")
				s.counts.Retired++
			}
			continue
		}
		b.exits, b.entriesThen = 0, s.stats.Entries
	}
	s.publish()
}

// Status is what a session shows.
type Status struct {
	PID     int          `json:"pid"`
	Stats   Stats        `json:"module"`
	Counts  Counts       `json:"session"`
	Sites   []SiteStatus `json:"sites"`
	Gaps    []GapStatus  `json:"gaps"`
	Version uint32       `json:"abi"`
}

// SiteStatus is what it shows of a site.
type SiteStatus struct {
	RIP    uint64 `json:"rip"`
	NR     uint32 `json:"nr"`
	State  State  `json:"state"`
	Why    string `json:"why,omitempty"`
	Seen   uint64 `json:"native"`
	Exits  uint64 `json:"lost_exits"`
	Bytes  int    `json:"code_bytes"`
	Paths  int    `json:"entries"`
	Trials int    `json:"translations"`
}

func (s *Session) publish() {
	st := Status{PID: s.pid, Stats: s.stats, Counts: s.counts, Version: s.version.ABI, Sites: []SiteStatus{}, Gaps: s.controller.gaps()}
	for _, rip := range slices.Sorted(maps.Keys(s.sites)) {
		t := s.sites[rip]
		v := SiteStatus{RIP: rip, NR: t.nr, State: t.state, Why: t.why, Seen: t.seen, Exits: t.exits, Trials: t.made}
		if t.blob != nil {
			v.Bytes, v.Paths = t.blob.size, len(t.blob.entries)
		}
		if t.state != Free || t.seen > 0 {
			st.Sites = append(st.Sites, v)
		}
	}
	s.mu.Lock()
	s.published = st
	s.mu.Unlock()
}

// Status returns how the session does. It may be called at any time, from any goroutine.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.published
	st.PID = s.pid
	return st
}

var _ path.CodeReader = (*codeReader)(nil)
