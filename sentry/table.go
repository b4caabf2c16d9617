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

// entryCache is a context's cache of its address space's table, with the counts for each site that are not yet added to it. A
// server has some twenty busy sites. Were there one slot for each hash, two of them would share one in most runs: what each has
// learnt of the vector level that its passes need is gone then whenever the other has its turn, and each pass leaves
// translated code to learn it anew.
type entryCache struct {
	t       *table
	changed bool // t has been replaced, for whoever wants to know
	slots   [cacheWays << cacheBits]cached
	next    uint8 // which way of a full set goes: each in turn
}

const (
	cacheBits = 6
	cacheWays = 4
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
	i := (rip ^ caller<<7) * 0x9e3779b97f4a7c15 >> (64 - cacheBits) * cacheWays
	set := c.slots[i : i+cacheWays]
	for k := range set {
		if e := &set[k]; e.rip == rip && e.caller == caller {
			return e
		}
	}
	return c.replace(set, as, t, rip, caller)
}

// replace looks rip up in t and keeps the answer in a set. Entries stay where they are: the caller may have one in use.
func (c *entryCache) replace(set []cached, as *addressSpace, t *table, rip, caller uint64) *cached {
	var e *cached
	for k := range set {
		if set[k].rip == 0 && set[k].site == nil {
			e = &set[k]
			break
		}
	}
	if e == nil {
		c.next++
		e = &set[c.next%cacheWays]
		e.settle()
	}
	n := t.entries[rip]
	*e = cached{rip: rip, caller: caller, code: n.code, site: n.site}
	if n.site != nil {
		e.gap = as.e.gapFor(as, gapKey{rip, caller}, n.site)
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
