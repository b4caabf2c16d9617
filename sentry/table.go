package sentry

import (
	"ub/sentry/machine"
	"ub/target"
)

// table is the entries of one address space. It is immutable: the engine replaces it as a whole, so that Switch reads
// it without a lock. A place that a table still lists after its blob was retired does no harm: machine.Thread.Run
// refuses to enter it.
type table struct {
	entries map[uint64]entry // by program RIP
}

type entry struct {
	code machine.Code
	site *site
}

// entryCache is a context's direct-mapped cache of its address space's table, with the counts for each site that are
// not yet added to it.
type entryCache struct {
	t       *table
	changed bool // t has been replaced, for whoever wants to know
	slots   [cacheSize]cached
}

const (
	cacheBits = 6
	cacheSize = 1 << cacheBits
)

type cached struct {
	rip    uint64 // the address looked up; 0 with a nil site: free
	caller uint64 // 0: all
	code   machine.Code
	site   *site      // nil: the table has no entry for rip
	gap    *gap       // not nil if site is not
	vec    target.Vec // of runs that begin here: what they were found to need

	entered, bypassed, misses, stops uint32
}

// lookup returns the cached answer of t for rip, and the gap of that caller; its site is nil when there is no entry.
func (c *entryCache) lookup(as *addressSpace, t *table, rip, caller uint64) *cached {
	if c.t != t {
		c.forget()
		c.t = t
		c.changed = true
	}
	e := &c.slots[(rip^caller<<7)*0x9e3779b97f4a7c15>>(64-cacheBits)]
	if e.rip != rip || e.caller != caller {
		e.settle()
		n := t.entries[rip]
		*e = cached{rip: rip, caller: caller, code: n.code, site: n.site}
		if n.site != nil {
			e.gap = as.e.gapFor(as, gapKey{rip, caller}, n.site)
		}
	}
	return e
}

// poor reports whether passes seldom get to a syscall.
func (e *cached) poor() bool {
	return 2*(e.gap.bypassed.Load()+uint64(e.bypassed)) < e.gap.entered.Load()+uint64(e.entered)
}

// settle adds the counts to the site.
func (e *cached) settle() {
	if e.site != nil && e.entered != 0 {
		e.site.count(e)
		e.gap.count(e)
		e.entered, e.bypassed, e.misses, e.stops = 0, 0, 0, 0
	}
}

// forget empties the cache.
func (c *entryCache) forget() {
	for i := range c.slots {
		c.slots[i].settle()
		c.slots[i] = cached{}
	}
}

// flush adds all counts to the sites. Without a controller it also has sites judged that have been tried often enough.
func (c *entryCache) flush(e *engine) {
	for i := range c.slots {
		s := &c.slots[i]
		if s.site == nil || s.entered == 0 {
			continue
		}
		s.settle()
		if e.config.Controller == 0 && s.site.due(&e.config) {
			e.judge(s.site)
		}
	}
}
