package sentry

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/abi/linux"
	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/hot"
	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/target"
)

// threadContext wraps systrap's context of one task. All methods but Interrupt and Preempt are called on the task's
// goroutine.
//
// # State
//
// The program's state between two Switches is in arch.Context64, as the Sentry sees it: registers always; vector state
// only if it has been pulled (PullFullState) or the Sentry has set it. BTC works on the registers of arch.Context64 and
// need not tell systrap's context anything about them: its copy is written anew at each native Switch. Vector state is in
// one of three places, see vectors.
//
// # Interrupts
//
// Interrupt may come at any time, from any goroutine. It must make the present Switch return, or failing that the next one
// (gVisor's kernel checks for signals before it calls Switch, so it suffices that no wait inside Switch is missed):
//
//	Interrupt: tell systrap's context; stop = 1; Thread.Stop (if there is a thread)
//	Switch:    [publish the thread;] check stop, if set clear it and go native; Run ...
//	on fuel:   Thread.ClearStop; check stop, if set clear it and go native; enter BTC again
//
// Thread.Stop is sticky: Run returns at the next poll, at once if it begins later. stop is set before Stop, and checked
// after ClearStop, so each order of the two leaves either stop visible to the check or Stop in force for the next Run.
// Likewise a thread published after Interrupt looked for one is published before Switch checks stop. Going native
// means systrap's Switch, which was told before stop was set: it reports the interrupt, or has done so already, in which
// case one spurious native round is all that happens.
type threadContext struct {
	inner platform.Context
	p     *Platform

	thread atomic.Pointer[btcThread]
	stop   atomic.Uint32

	// shim is what the inner context is given as MemoryManager: the mm, with systrap's address space.
	shim mmShim

	// run and regs are the thread's, in a form that needs no indirection.
	run  btcThread
	regs *machine.Regs

	// noThread: none could be made; not tried again.
	noThread bool

	// afterSyscall: the last Switch returned a syscall, and a gap begins now behind it, at address gapSite.
	afterSyscall bool
	gapSite      uint64

	ident   *hot.Thread
	identAS *addressSpace // whose gaps ident knows
	pass    pass
	word    [8]byte // for caller
	cache   entryCache
	n       localCounts
	row     threadRow
	fds     fdAnswers
	vec     vectors
}

// btcThread is what Switch needs of a *machine.Thread.
type btcThread interface {
	Regs() *machine.Regs
	Run(w *machine.Window, code machine.Code) machine.Exit
	Bind(rip uint64, code machine.Code)
	LoadVec(area []byte) error
	StoreVec(area []byte)
	SetVec(level target.Vec)
	Stop()
	ClearStop()
	Free()
}

// mmShim is a MemoryManager whose address space is systrap's.
type mmShim struct {
	platform.MemoryManager
	as platform.AddressSpace
}

// AddressSpace implements platform.MemoryManager.AddressSpace.
func (s *mmShim) AddressSpace() platform.AddressSpace { return s.as }

var seeds atomic.Uint32

func newContext(p *Platform, inner platform.Context) *threadContext {
	return &threadContext{inner: inner, p: p, ident: hot.NewThread(&p.engine.policy, seeds.Add(0x9e3779b9))}
}

// Switch implements platform.Context.Switch.
func (c *threadContext) Switch(ctx pkgcontext.Context, mm platform.MemoryManager, ac *arch.Context64, cpu int32) (*linux.SignalInfo, hostarch.AccessType, error) {
	as := mm.AddressSpace().(*addressSpace)
	regs := &ac.StateData().Regs
	if c.fds.closing || c.fds.patching {
		c.afterWatched()
	}
	c.pass.timed = false
	site := regs.Rip
	if c.afterSyscall && site == c.gapSite {
		c.beginPass(as, site, regs.Rsp)
	}
	if t := as.entries.Load(); t != nil {
		if e := c.entry(as, t, regs); e != nil && e.gap.Gate() > c.ident.Floor() && c.bypass(ctx, as, t, e, ac) {
			c.afterSyscall = true
			c.gapSite = regs.Rip
			c.atSyscall(ctx, as, regs)
			if c.pass.timed {
				c.endPass(as, site)
			}
			return nil, hostarch.NoAccess, nil
		}
	}
	return c.native(ctx, mm, as, ac, cpu, site)
}

// native lets the thread run in its stub process. site is where the gap began, if one did.
func (c *threadContext) native(ctx pkgcontext.Context, mm platform.MemoryManager, as *addressSpace, ac *arch.Context64, cpu int32, site uint64) (*linux.SignalInfo, hostarch.AccessType, error) {
	regs := &ac.StateData().Regs
	c.giveBack(ac)
	c.vec.owner = nil
	c.shim.MemoryManager, c.shim.as = mm, as.inner
	si, at, err := c.inner.Switch(ctx, &c.shim, ac, cpu)
	c.n[nCrossings]++
	c.afterSyscall = err == nil
	if err == nil {
		c.gapSite = regs.Rip
		c.n[nNative]++
		c.atSyscall(ctx, as, regs)
		if c.pass.timed {
			as.remember(ctx, mm)
			c.endPass(as, site)
		}
	}
	if c.n[nCrossings] >= flushEvery {
		c.listThread(ctx, as)
		c.flush()
	}
	return si, at, err
}

// bypass runs BTC from e on. It returns true when the program has reached a syscall, with regs as they are when a
// program has trapped at one under systrap. On false the program has to go on natively, from regs.
//
// The path from here to true is what a bypassed syscall costs beside the Sentry's own work: no allocation, no lock.
func (c *threadContext) bypass(ctx pkgcontext.Context, as *addressSpace, t *table, e *cached, ac *arch.Context64) bool {
	regs := &ac.StateData().Regs
	w := as.window.Load()
	if w == nil || as.traced.Load() || c.run == nil && !c.makeThread() {
		return false
	}
	if task, ok := ctx.(*kernel.Task); ok && task.Tracer() != nil {
		as.e.standDown(as)
		return false
	}
	if c.stop.Load() != 0 {
		c.takeStop()
		return false
	}
	r := c.regs
	load(r, regs)
	e.entered++
	code := e.code
	if v := max(e.vec, code.Vec()); (v != c.vec.level || v != target.VecNone) && !c.setLevel(as, ac, v) {
		c.vec.level = target.VecNone
		c.run.SetVec(target.VecNone)
		return false
	}
	fuel := 0
	for {
		x := c.run.Run(w, code)
		switch x.Reason {
		case machine.ExitSyscall:
			if r.GPR[rax] > maxSyscall {
				// x32 and compatibility numbers, and nonsense: the stub shows what the CPU and the kernel
				// make of it.
				r.RIP -= syscallLen
				c.n[nExitStop]++
				c.pass.exit = hot.ExitStop
				e.stops++
				store(regs, r)
				return false
			}
			storeSyscall(regs, r)
			e.bypassed++
			c.pass.exit = hot.ExitSyscall
			if c.n[nBypassed]++; c.n[nBypassed] >= flushBypassed {
				c.flush()
			}
			return true

		case machine.ExitMiss:
			c.n[nExitMiss]++
			c.pass.exit = hot.ExitMiss
			if t2 := as.entries.Load(); t2 != t {
				if t = t2; t == nil {
					store(regs, r)
					return false
				}
			}
			// Run answers with a miss from nowhere when code has been retired.
			if next, ok := t.entries[r.RIP]; ok && (next.code != code || x.From != 0) {
				c.run.Bind(r.RIP, next.code)
				c.n[nLinked]++
				code = next.code
				if v := code.Vec(); v > c.vec.level {
					// Next time this entry starts at the level that it is going to need.
					e.vec = v
					if !c.setLevel(as, ac, v) {
						store(regs, r)
						return false
					}
				}
				continue
			}
			c.n[nUnknown]++
			e.misses++
			store(regs, r)
			as.e.missed(as, x.From, r.RIP, e.gap, e.poor(), func() []uint64 { return c.stack(as, r.GPR[rsp], maxSnapshot) })
			return false

		case machine.ExitFuel:
			c.n[nExitFuel]++
			c.pass.exit = hot.ExitStop
			c.run.ClearStop()
			store(regs, r)
			if c.stop.Load() != 0 {
				c.takeStop()
				c.n[nInterrupts]++
				e.entered--
				return false
			}
			// The Go runtime wanted a safe point, which this is, or code was dropped.
			t = as.entries.Load()
			if t == nil || as.traced.Load() {
				e.entered--
				return false
			}
			next, ok := t.entries[r.RIP]
			if fuel++; !ok || fuel > 1 {
				// That says nothing about the site. The second time the Go runtime has most likely wanted the CPU after
				// 10 ms again: a gap as long as that is better off in the program's own code.
				e.entered--
				return false
			}
			if code = next.code; code.Vec() > c.vec.level && !c.setLevel(as, ac, code.Vec()) {
				e.entered--
				return false
			}
			continue

		case machine.ExitFault:
			c.n[nExitFault]++
			c.pass.exit = hot.ExitStop
			e.stops++
			store(regs, r)
			return false

		default: // ExitStop
			c.n[nExitStop]++
			c.pass.exit = hot.ExitStop
			e.stops++
			store(regs, r)
			return false
		}
	}
}

// takeStop consumes an interrupt that arrived: what follows is a native Switch, which reports it.
func (c *threadContext) takeStop() {
	c.stop.Store(0)
	if c.run != nil {
		c.run.ClearStop()
	}
}

// makeThread makes the machine's thread when BTC is entered for the first time.
func (c *threadContext) makeThread() bool {
	if c.noThread {
		return false
	}
	t, err := c.p.threads()
	if err != nil {
		c.noThread = true
		return false
	}
	c.run, c.regs = t, t.Regs()
	c.thread.Store(&t)
	return true
}

// PullFullState implements platform.Context.PullFullState.
func (c *threadContext) PullFullState(as platform.AddressSpace, ac *arch.Context64) error {
	c.giveBack(ac)
	return c.inner.PullFullState(as.(*addressSpace).inner, ac)
}

// FullStateChanged implements platform.Context.FullStateChanged.
func (c *threadContext) FullStateChanged() {
	c.vec.owner, c.vec.dirty = nil, false
	c.inner.FullStateChanged()
}

// Interrupt implements platform.Context.Interrupt.
func (c *threadContext) Interrupt() {
	c.inner.Interrupt()
	c.stop.Store(1)
	if t := c.thread.Load(); t != nil {
		(*t).Stop()
	}
}

// Preempt implements platform.Context.Preempt.
func (c *threadContext) Preempt() { c.inner.Preempt() }

// Release implements platform.Context.Release.
func (c *threadContext) Release() {
	c.flush()
	c.unlistThread()
	c.afterWatched()
	if c.run != nil {
		c.thread.Store(nil)
		c.run.Free()
		c.run, c.regs = nil, nil
	}
	c.inner.Release()
}

// PrepareSleep implements platform.Context.PrepareSleep.
func (c *threadContext) PrepareSleep() {
	if c.n[nBypassed]+c.n[nCrossings] >= flushAsleep {
		c.flush()
	}
	c.inner.PrepareSleep()
}

// PrepareUninterruptibleSleep implements platform.Context.PrepareUninterruptibleSleep.
func (c *threadContext) PrepareUninterruptibleSleep() { c.inner.PrepareUninterruptibleSleep() }

// PrepareStop implements platform.Context.PrepareStop.
func (c *threadContext) PrepareStop() {
	c.flush()
	c.inner.PrepareStop()
}

// PrepareExecve implements platform.Context.PrepareExecve.
func (c *threadContext) PrepareExecve() { c.inner.PrepareExecve() }

// PrepareExit implements platform.Context.PrepareExit.
func (c *threadContext) PrepareExit() {
	c.flush()
	c.inner.PrepareExit()
}

// LastCPUNumber implements platform.Context.LastCPUNumber.
func (c *threadContext) LastCPUNumber() int32 { return c.inner.LastCPUNumber() }

// How many events a context collects before it adds them to the shared counters: few enough that readers see a live
// picture, many enough that threads don't fight for cache lines.
const (
	flushEvery    = 64
	flushBypassed = 1024
	flushAsleep   = 16
)

// localCounts are a context's share of some counters, not yet added to them.
type localCounts [numLocal]uint32

const (
	nNative = iota
	nBypassed
	nCrossings
	nSampled
	nShort
	nExitMiss
	nExitStop
	nExitFault
	nExitFuel
	nLinked
	nUnknown
	nInterrupts
	numLocal
)

var localCounters = [numLocal]statfile.Counter{
	statfile.Native, statfile.Bypassed, statfile.Crossings, statfile.Sampled, statfile.ShortGaps, statfile.ExitMiss,
	statfile.ExitStop, statfile.ExitFault, statfile.ExitFuel, statfile.MissLinked, statfile.MissUnknown, statfile.Interrupts,
}

// flush adds what the context has counted to the shared counters and to the sites, and has the engine judge these.
func (c *threadContext) flush() {
	c.writeThread()
	if n := c.n[nNative] + c.n[nBypassed]; n != 0 {
		c.p.engine.crossed(uint64(n), c.ident.Crossing())
	}
	ctr := c.p.counters
	ctr.Add(statfile.ExitSyscall, int64(c.n[nBypassed]))
	for i, n := range c.n {
		if n != 0 {
			ctr.Add(localCounters[i], int64(n))
			c.n[i] = 0
		}
	}
	c.cache.flush(c.p.engine)
}
