package sentry

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/sentry/arch"

	"ub/hot"
	"ub/sentry/machine"
)

// readWindow reads program memory.
func readWindow(w *machine.Window, addr uint64, dst []byte) bool {
	n, _ := w.Read(addr, dst)
	return n == len(dst)
}

// pass is the way of a thread through one gap, from the return of a syscall to the next one, while it is measured.
type pass struct {
	timed bool
	exit  hot.Exit
	began uint64
	key   uint64
	rsp   uint64
	gap   *gap // nil: there is no code
}

// beginPass is called where a gap begins, behind a syscall.
func (c *threadContext) beginPass(as *addressSpace, rip, rsp uint64) {
	if c.ident.Pass() {
		now := as.e.ticks()
		if c.cache.changed {
			// Another address space, or other code in it.
			c.cache.changed = false
			c.ident.Look()
		}
		if c.ident.Turn(now) && c.identAS == as {
			as.e.settle(as, c.ident, now)
		}
	}
	if !c.ident.Timed() {
		c.pass.timed = false
		return
	}
	if c.identAS != as {
		c.identAS = as
		c.ident.Reset()
	}
	c.pass = pass{timed: true, key: rip, rsp: rsp, began: as.e.ticks()}
}

// endPass takes a measured pass: a syscall has arrived.
func (c *threadContext) endPass(as *addressSpace, rip uint64) {
	c.pass.timed = false
	took := as.e.ticks() - c.pass.began
	c.n[nSampled]++
	var g *hot.Gap
	if c.pass.gap != nil {
		g = &c.pass.gap.Gap
	}
	switch c.ident.Record(c.pass.key, g, c.pass.exit, c.pass.began, took) {
	case hot.Short:
		c.n[nShort]++
	case hot.Candidate:
		c.n[nShort]++
		as.e.nominate(as, rip, c.stack(as, c.pass.rsp, maxSnapshot))
	case hot.Settled:
		as.e.settled(c.pass.gap)
	case hot.Due:
		as.e.again(c.pass.gap, c.stack(as, c.pass.rsp, maxStack))
	}
}

// entry returns the entry at the present RIP with the gap that decides about it, nil if there is none.
func (c *threadContext) entry(as *addressSpace, t *table, regs *arch.Registers) *cached {
	e := c.cache.lookup(as, t, regs.Rip, 0)
	if e.site == nil {
		return nil
	}
	if e.gap.Gate() == hot.GateSplit {
		e = c.cache.lookup(as, t, regs.Rip, c.caller(as, regs.Rsp+uint64(e.gap.callerAt.Load())))
	}
	if c.pass.timed {
		c.pass.gap, c.pass.key = e.gap, e.gap.key.track()
	}
	return e
}

// maxStack is how many words of the program's stack are searched for a return address.
const maxStack = 16

// maxSnapshot is how many words of it tell a path where returns lead: 2 KiB, some ten functions.
const maxSnapshot = 256

// stack returns up to n words on top of the program's stack, as far as they can be read.
func (c *threadContext) stack(as *addressSpace, rsp, n uint64) []uint64 {
	w := as.window.Load()
	if w == nil {
		return nil
	}
	var out []uint64
	for i := range n {
		if !as.e.read(w, rsp+8*i, c.word[:]) {
			break
		}
		out = append(out, binary.LittleEndian.Uint64(c.word[:]))
	}
	return out
}

// caller returns the address to which the function with the syscall instruction returns. In the wrappers of C libraries it
// is on top of the stack, or a few words below if the library watches for cancellation. Were it something else, it would serve
// as well if it tells anything apart.
func (c *threadContext) caller(as *addressSpace, at uint64) uint64 {
	if w := as.window.Load(); w != nil && as.e.read(w, at, c.word[:]) {
		if v := binary.LittleEndian.Uint64(c.word[:]); v != 0 {
			return v
		}
	}
	return otherCallers
}
