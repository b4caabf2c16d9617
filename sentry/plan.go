package sentry

import (
	"bytes"
	"fmt"
	"runtime/debug"

	"gvisor.dev/gvisor/pkg/log"

	"ub/btc"
	"ub/path"
)

// plan is a translation and what it was made from. It is a pure function of the code, its place, the entries and the
// hints, so it serves every address space that has the same code in the same place: the children of a process that forks,
// above all, which thus start where their parent has got to. It is verified again each time it is installed.
type plan struct {
	blob   *btc.Blob
	wanted []uint64      // entries asked for
	code   []sourceBytes // of blob.Source
	full   bool          // there is more, beyond the limits
}

// maxPlans bounds the memory that plans take after their blobs are gone; a plan is about ten times as large as its code.
const maxPlans = 256

// known returns a plan for a site that has none of its own yet, if one was made elsewhere from what r reads.
func (e *engine) known(root *site, r *codeReader) *plan {
	e.mu.Lock()
	p := e.plans[root.rip]
	fresh := root.blob == nil
	e.mu.Unlock()
	if p == nil || !fresh || !r.reads(p.code) {
		return nil
	}
	return p
}

// keep remembers a plan.
func (e *engine) keep(rip uint64, p *plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for old := range e.plans {
		if len(e.plans) < maxPlans {
			break
		}
		delete(e.plans, old) // any: map order is random enough for a cache
	}
	e.plans[rip] = p
}

// plan makes a plan. A panic is taken for a failure: a mistake in the translator costs the site its bypass, not the sandbox
// its life. What it has made does not matter then, and what it makes is verified anyhow.
func (e *engine) plan(r *codeReader, o path.Order) (p *plan, err error) {
	defer func() {
		if v := recover(); v != nil {
			p, err = nil, fmt.Errorf("BUG in the translator: %v", v)
			log.Warningf("Platform %s: entries %#x: %v\n%s", Name, o.Entries, err, debug.Stack())
		}
	}()
	out, full, err := e.translate(r, o)
	if err != nil {
		return nil, err
	}
	return &plan{blob: out, wanted: o.Entries, code: r.source(out.Source), full: full}, nil
}

// reads reports whether r reads code where it says.
func (r *codeReader) reads(code []sourceBytes) bool {
	for _, s := range code {
		if !bytes.Equal(r.bytes(s.addr, s.addr+uint64(len(s.code))), s.code) {
			return false
		}
	}
	return true
}
