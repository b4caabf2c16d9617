package codebench

import (
	"errors"
	"fmt"
	"slices"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sfi"
	"ub/x86"
)

// Limits of paths and of their growth, as in production (statfile.DefaultConfig, sentry/worker.go).
const (
	maxBlocks  = 256
	maxInsts   = 2048
	maxEntries = 32 // asked of one path
	maxRounds  = 24 // of growth
)

// engine runs one function of the program translated. Its path grows as in production: targets that are missed become
// hints of the branch and entries of the path, until nothing is missed any more. The difference is that all targets that
// one run misses are added together.
type engine struct {
	m    *machine.Machine
	w    *machine.Window
	th   *machine.Thread
	p    *program
	n    *native
	area []byte // the vector state that the thread works on, when it runs natively
	opts btc.Options

	root    uint64
	entries []uint64 // of the root's path, root first
	own     []uint64 // targets that begin a path of their own
	hints   path.Hints
	blobs   []*machine.Installed
	codes   map[uint64]machine.Code
	bad     map[uint64]string // entries without a translation, and why

	c counts
}

// counts is what happened in runs.
type counts struct {
	entered                              int
	linked, misses, stops, faults, fuels int
	at                                   map[string]int // stops, misses and faults by place
}

func (c *counts) note(what, where, why string) {
	if c.at == nil {
		c.at = map[string]int{}
	}
	c.at[fmt.Sprintf("%s at %s: %s", what, where, why)]++
}

// outside is how often the program went on natively.
func (c *counts) outside() int { return c.misses + c.stops + c.faults + c.fuels }

func (b *Bench) newEngine(root uint64, o btc.Options) *engine {
	return &engine{
		m: b.m, w: b.w, th: b.th, p: b.p, n: b.n, area: b.area, opts: o, root: root,
		entries: []uint64{root}, hints: path.Hints{}, codes: map[uint64]machine.Code{}, bad: map[uint64]string{},
	}
}

// drop retires all translations.
func (e *engine) drop() {
	e.th.Flush()
	for _, b := range e.blobs {
		e.m.Retire(b)
	}
	e.blobs = nil
	clear(e.codes)
	clear(e.bad)
}

// make translates the path of entries, the first of which matters, and installs it.
func (e *engine) make(entries []uint64) (err error) {
	// A translator that panics is broken, but this is a benchmark, which has something to tell about the other code.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the translator panics: %v", p)
		}
	}()
	p, err := path.Discover(entries, e.p, e.hints, path.Limits{MaxBlocks: maxBlocks, MaxInsts: maxInsts})
	if err != nil {
		return err
	}
	b, err := btc.Translate(p, e.opts)
	if err != nil {
		return err
	}
	in, err := e.m.Install(b)
	if err != nil {
		var refused *sfi.Error
		if errors.As(err, &refused) {
			return fmt.Errorf("the verifier refuses the translation: %w", err)
		}
		return err
	}
	e.blobs = append(e.blobs, in)
	for _, en := range b.Entries {
		if _, ok := e.codes[en.RIP]; ok && en.RIP != entries[0] {
			continue
		}
		c, _ := in.Entry(en.RIP)
		e.codes[en.RIP] = c
		delete(e.bad, en.RIP)
	}
	return nil
}

// code returns the place to enter at rip, translating it if it has never been.
func (e *engine) code(rip uint64, grow bool) (machine.Code, bool) {
	if c, ok := e.codes[rip]; ok {
		return c, true
	}
	if !grow || rip == gateAt {
		return machine.Code{}, false
	}
	if _, ok := e.bad[rip]; ok {
		return machine.Code{}, false
	}
	if err := e.make([]uint64{rip}); err != nil {
		e.bad[rip] = err.Error()
		return machine.Code{}, false
	}
	c, ok := e.codes[rip]
	return c, ok
}

// run calls the root with an argument and returns what it returns. What is not translated is run natively, to the end of
// the call as to the end of a gap in production; timed is told when that begins and when it ends. With grow, new targets
// are learned and translated at once, for now as paths of their own.
func (e *engine) run(arg uint64, grow bool, timed func(native bool)) (result uint64, learned bool) {
	r := e.th.Regs()
	*r = machine.Regs{RIP: e.root, Flags: 0x202, FSBase: e.p.fsBase}
	const rdi, rsp, rax = 7, 4, 0
	r.GPR[rdi] = arg
	r.GPR[rsp] = e.n.call()
	natively := func() uint64 {
		timed(true)
		defer timed(false)
		e.th.StoreVec(e.area)
		return e.n.run(&r.GPR, r.RIP, r.Flags, r.FSBase, addrOf(e.area))
	}
	note := func(what, why string) { e.c.note(what, e.p.name(r.RIP), why) }
	code, ok := e.code(r.RIP, grow)
	if !ok {
		e.c.stops++
		note("no entry", e.bad[r.RIP])
		return natively(), false
	}
	for {
		e.c.entered++
		if v := code.Vec(); v > e.th.Vec() {
			e.th.SetVec(v) // and it stays: as an entry in production starts at the level that it is going to need
		}
		x := e.th.Run(e.w, code)
		switch x.Reason {
		case machine.ExitSyscall:
			if r.RIP == gateAt+2 {
				return r.GPR[rax], learned
			}
			r.RIP -= 2
			e.c.stops++
			note("stop", "a system call")
			return natively(), learned

		case machine.ExitMiss:
			if r.RIP == gateAt { // the end, all the same
				return r.GPR[rax], grow && e.learn(x.From, gateAt) || learned
			}
			if next, ok := e.codes[r.RIP]; ok {
				e.th.Bind(r.RIP, next)
				e.c.linked++
				code = next
				if grow && e.learn(x.From, r.RIP) {
					learned = true
				}
				continue
			}
			if grow && e.learn(x.From, r.RIP) {
				learned = true
			}
			next, ok := e.code(r.RIP, grow)
			if !ok {
				e.c.misses++
				note("miss", e.bad[r.RIP])
				return natively(), learned
			}
			code = next

		case machine.ExitFuel:
			e.th.ClearStop()
			next, ok := e.codes[r.RIP]
			if !ok {
				e.c.fuels++
				note("fuel", "asked to leave")
				return natively(), learned
			}
			code = next

		case machine.ExitFault:
			e.c.faults++
			note("fault", fmt.Sprintf("access to %#x", x.FaultAddr))
			return natively(), learned

		default:
			e.c.stops++
			note("stop", e.why(r.RIP))
			return natively(), learned
		}
	}
}

// why says which instruction is not translated.
func (e *engine) why(rip uint64) string {
	var b [15]byte
	n, _ := e.p.ReadCode(rip, b[:])
	in, err := x86.Decode(b[:n], rip)
	if err != nil {
		return fmt.Sprintf("%v (% x)", err, b[:min(n, 8)])
	}
	return in.String()
}

// learn notes a target of the branch at from. It returns whether it is news.
func (e *engine) learn(from, to uint64) bool {
	if from == 0 || slices.Contains(e.hints[from], to) {
		return false
	}
	e.hints[from] = append(e.hints[from], to)
	if to == gateAt {
		return true
	}
	// As in production: to the path it was missed from, while the branch has few targets, else a path of its own.
	switch {
	case slices.Contains(e.entries, to) || slices.Contains(e.own, to):
	case len(e.entries) < maxEntries && len(e.hints[from]) <= btc.FewTargets:
		e.entries = append(e.entries, to)
	default:
		e.own = append(e.own, to)
	}
	return true
}

// grow makes paths until a run learns nothing any more.
func (e *engine) grow(arg uint64) error {
	for range maxRounds {
		e.drop()
		if err := e.make(e.entries); err != nil {
			// What was learned last may be what it chokes on; the root alone may do.
			if e.make(e.entries[:1]) != nil {
				e.bad[e.root] = err.Error()
				return err
			}
		}
		for _, o := range e.own {
			e.code(o, true)
		}
		if _, learned := e.run(arg, true, func(bool) {}); !learned {
			// Targets that were run for the first time while it grew are bound now; what comes is as it stays.
			e.run(arg, false, func(bool) {})
			e.c = counts{}
			return nil
		}
	}
	return nil
}
