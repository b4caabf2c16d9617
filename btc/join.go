package btc

import (
	"ub/path"
	"ub/target"
	"ub/x86"
)

// Where ways meet, the register cache keeps what all of them agree on: the *join state* of a block, which says what the
// reserved registers hold whenever control reaches the block's label. All slots are current there.
//
// Blocks are emitted in layout order, so at a block's label the states of the ways that come from before it are known.
// Of those that come from behind it (loops), nothing is: the translation is made on the assumption that they will
// agree, and made again with what they did agree on if they don't. Each round takes facts away only. The runtime enters
// with empty registers; its entries are stubs at the start of the code that establish the join state, as the round
// before found it.

// maxRounds bounds the rounds. If the last one does not settle, joins are given up.
const maxRounds = 8

// join is what is known from round to round about the label of one block.
type join struct {
	limit   cache // what the backward ways to the block have agreed on so far
	limited bool
	narrow  narrowLimit

	// What establish has prepared in this round, and what it has prepared in vain in earlier ones.
	tried, vain prepared
	back        cache // of the last round: what they had
	hasBack     bool
	state       cache // of the last round
}

// forgetLimits forgets what has been found about joins while less registers were free, but for what loops come round with.
func (t *translator) forgetLimits() {
	for i := range t.joins {
		j := &t.joins[i]
		*j = join{narrow: j.narrow, back: j.back, hasBack: j.hasBack}
	}
}

// clean is c without what is only of use during an instruction, for comparing.
func (c *cache) clean() cache {
	out := *c
	out.clock, out.dirty = 0, 0
	for i := range out.r {
		r := &out.r[i]
		if !c.busy(uint8(i + firstReserved)) {
			*r = resReg{}
			continue
		}
		r.pin, r.used = false, 0
		if !r.hasEA {
			r.expr, r.disp = ea{}, 0
		}
		if !r.konst {
			r.value = 0
		}
	}
	return out
}

// meet is what holds in both states. Neither has dirty registers.
func meet(a, b *cache) cache {
	var out cache
	for i := range out.r {
		x, y, r := &a.r[i], &b.r[i], &out.r[i]
		r.sane = x.sane && y.sane
		if r.sane {
			r.proven = x.proven && y.proven
			r.bounds = x.bounds.and(y.bounds)
			if !r.known() {
				r.sane, r.proven = false, false
			}
		}
		if x.konst && y.konst && x.value == y.value {
			r.konst, r.value = true, x.value
		}
		r.fs = x.fs && y.fs
		if x.hasEA && y.hasEA && x.expr == y.expr && x.disp == y.disp {
			r.hasEA, r.expr, r.disp = true, x.expr, x.disp
		}
	}
	for g := range out.val {
		out.narrow[g] = min(a.narrow[g], b.narrow[g])
		if a.val[g] == b.val[g] {
			out.val[g] = a.val[g]
		}
		if l := a.san[g]; l == b.san[g] && l.ok() && out.at(l.n).sane {
			out.san[g] = l
		}
	}
	return out.clean()
}

// covers reports whether c has all that s says about the reserved registers.
func (c *cache) covers(s *cache) bool {
	for _, n := range allocOrder {
		if s.busy(n) && !c.provides(n, s, n) {
			return false
		}
	}
	return true
}

// provides reports whether register m has, in c, all that register n has in s.
func (c *cache) provides(m uint8, s *cache, n uint8) bool {
	x, y := c.at(m), s.at(n)
	if y.sane && (!x.sane || y.proven && !x.proven || !x.bounds.within(y.bounds)) ||
		y.konst && (!x.konst || x.value != y.value) || y.fs && !x.fs ||
		y.hasEA && (!x.hasEA || x.expr != y.expr || x.disp != y.disp) {
		return false
	}
	for g := range s.val {
		if l := s.val[g]; l.n == n && c.val[g] != (loc{m, l.delta}) {
			return false
		}
		if l := s.san[g]; l.n == n && c.san[g] != (loc{m, l.delta}) {
			return false
		}
	}
	return true
}

// forEntry reduces a join state to what a stub can establish: addresses only of the stack, which the program always has,
// and plain values.
func (c *cache) forEntry(k *rules) cache {
	var out cache
	for _, n := range allocOrder {
		r := c.at(n)
		if r.fs {
			out.at(n).fs, out.at(n).sane, out.at(n).proven = true, true, true
			continue
		}
		vals, sans := c.sharers(n)
		if l := c.san[x86.RSP]; l == (loc{n: n}) && sans&(1<<x86.RSP) != 0 {
			out.san[x86.RSP] = l
			out.at(n).sane = true
			out.at(n).bounds = r.bounds.and(bounds{}) // which is what the stub establishes
			continue
		}
		for _, v := range k.virtuals {
			if vals == 1<<v && !r.sane && c.val[v].delta == 0 {
				out.val[v] = c.val[v]
			}
		}
	}
	return out
}

// keepOnly makes c hold at most max registers.
func (c *cache) keepOnly(max int) {
	for {
		busy, victim, worst := 0, uint8(0), 0
		for _, n := range allocOrder {
			if !c.busy(n) {
				continue
			}
			busy++
			_, sans := c.sharers(n)
			worth := 2
			switch {
			case sans&(1<<x86.RSP) != 0:
				worth = 4
			case c.at(n).sane && !c.at(n).fs:
				worth = 3
			}
			if victim == 0 || worth < worst {
				victim, worst = n, worth
			}
		}
		if busy <= max {
			return
		}
		c.drop(victim)
	}
}

// joinState decides the state at the label of b, when all that comes from before it has been emitted.
func (t *translator) joinState(b *path.Block) cache {
	j := &t.joins[b.Index]
	var s cache
	in := t.incoming[b.Index]
	// What only ways from behind lead to may have none at all in the end. The verifier looks at such code too, and to it
	// nothing is known there.
	stack := t.wantsStack(b) && (in != nil || b.Entry)
	if in != nil && !t.o.NoJoins {
		s = *in
		if j.limited {
			s = meet(&s, &j.limit)
		}
		j.narrow.apply(&s.narrow)
		if !t.narrowLabels {
			s.narrow = narrowness{}
		}
		if b.Entry {
			s = s.forEntry(t.k)
		}
	}
	if stack {
		t.demandStack(&s)
	}
	if in != nil && !t.o.NoJoins || stack {
		if t.polls[b.Index] || t.far[b.Index] || b.Entry {
			// The poll, or the stub that checks the stack pointer's tag bits, needs one.
			s.keepOnly(numReserved - 1)
		}
		s = s.clean()
	}
	if b.Entry && s != t.stubs[b.Index] {
		t.unsettled = true // the stub established something else
	}
	if t.far[b.Index] && s.busy(t.stations[b.Index].scratch) {
		t.unsettled = true
	}
	t.vain = j.compare(&s) || t.vain
	j.state = s
	return s
}

// edge notes that control goes from here to the label of b; no virtual register is dirty. For a backward edge, conform
// says whether registers may be rearranged first.
func (t *translator) edge(b *path.Block, conform bool) {
	if t.c.dirty != 0 {
		panic("BUG: a jump with values that are not in their slots")
	}
	if t.wantsStack(b) && !t.stackReady() {
		panic("BUG: a jump to a block that uses the stack, without the stack's register")
	}
	if !t.jumpsBackward(b) {
		t.reached[b.Index] = t.reached[b.Index] || t.live
		if in := t.incoming[b.Index]; in == nil {
			c := t.c.clean()
			t.incoming[b.Index] = &c
		} else {
			*in = meet(in, &t.c)
		}
		return
	}
	j := &t.joins[b.Index]
	if conform {
		t.shift(&j.state)
		t.conform(&j.state)
	}
	c := t.c.clean()
	if t.hasBack[b.Index] {
		c = meet(&t.back[b.Index], &c)
	}
	t.back[b.Index], t.hasBack[b.Index] = c, true
	if t.limitNarrow(j) {
		t.unsettled = true
	}
	if !t.c.covers(&j.state) {
		t.unsettled = true
		if j.limited {
			// Addresses that get further away from what is known of them in each round would do so for ever.
			for _, n := range allocOrder {
				if x, y := c.at(n), j.state.at(n); x.sane && y.sane && !x.bounds.within(y.bounds) {
					if x.also && !x.lost {
						x.lost, x.lo, x.hi = true, 0, 0
						continue
					}
					c.drop(n)
				}
			}
			c = meet(&j.limit, &c)
		}
		j.limit, j.limited = c, true
	}
}

// distance returns by how much register m must be moved, in c, to be what s wants in register n; false if moving does not
// make it that. What bounds c has for m's address is not looked at.
func (c *cache) distance(m uint8, s *cache, n uint8) (int32, bool) {
	x, y := c.at(m), s.at(n)
	if y.sane && (!x.sane || y.proven && !x.proven) {
		return 0, false
	}
	var by int64
	found, agree := false, true
	want := func(d int64) {
		agree = agree && (!found || d == by)
		found, by = true, d
	}
	match := func(l, have loc) {
		if l.n != n {
			return
		}
		agree = agree && have.n == m
		want(int64(have.delta) - int64(l.delta))
	}
	for g := range s.val {
		match(s.val[g], c.val[g])
		match(s.san[g], c.san[g])
	}
	if y.hasEA {
		agree = agree && x.hasEA && x.expr == y.expr
		want(int64(y.disp) - int64(x.disp))
	}
	if y.konst {
		agree = agree && x.konst && x.value == y.value
		want(0)
	}
	if y.fs {
		agree = agree && x.fs
		want(0)
	}
	if !agree || by > maxDelta || by < -maxDelta || by != 0 && (x.konst || x.fs) {
		return 0, false
	}
	return int32(by), true
}

// reach is distance, and looks at the bounds too.
func (c *cache) reach(m uint8, s *cache, n uint8) (int32, bool) {
	d, ok := c.distance(m, s, n)
	x, y := c.at(m), s.at(n)
	if y.sane && !x.bounds.at(d).within(y.bounds) {
		ok = false
	}
	return d, ok
}

// shift moves registers that hold what s wants at another distance by the difference: the pointers of a loop, which have
// moved on since its start.
func (t *translator) shift(s *cache) {
	for _, n := range allocOrder {
		if d, ok := t.c.distance(n, s, n); s.busy(n) && ok && d != 0 {
			t.e.lea(n, n, 0, 0, d)
			t.moved(n, d)
		}
	}
}

// moved tells the cache that d has been added to register n. What else was there is at a distance now.
func (t *translator) moved(n uint8, d int32) {
	c := &t.c
	for g := range c.val {
		if c.val[g].n == n {
			c.val[g].delta -= d
		}
		if c.san[g].n == n {
			c.san[g].delta -= d
		}
	}
	r := c.at(n)
	r.disp += d
	if r.bounds = r.bounds.at(d); r.sane && !r.known() {
		c.drop(n)
	}
}

// conform moves what s wants elsewhere to where s wants it, as far as moves do.
func (t *translator) conform(s *cache) {
	needed := func(m uint8) bool { // as the source of a move still to be made, or where it is
		for _, n := range allocOrder {
			if !s.busy(n) {
				continue
			}
			if _, ok := t.c.reach(m, s, n); ok && (m == n || !t.c.provides(n, s, n)) {
				return true
			}
		}
		return false
	}
	for range numReserved {
		for _, n := range allocOrder {
			if !s.busy(n) || t.c.provides(n, s, n) || needed(n) {
				continue
			}
			for _, m := range allocOrder {
				if d, ok := t.c.reach(m, s, n); m != n && ok {
					t.copyFacts(n, m, d, s)
					break
				}
			}
		}
	}
}

// copyFacts makes n what m is, d further on; it then has the facts that s wants there, and m keeps the others.
func (t *translator) copyFacts(n, m uint8, d int32, s *cache) {
	if d == 0 {
		t.e.mov(n, m)
	} else {
		t.e.lea(n, m, 0, 0, d)
	}
	t.c.drop(n)
	r := t.c.at(n)
	*r = *t.c.at(m)
	r.disp += d
	r.bounds = r.bounds.at(d)
	for g := range s.val {
		if l := s.val[g]; l.n == n {
			t.c.val[g] = l
		}
		if l := s.san[g]; l.n == n {
			t.c.san[g] = l
		}
	}
}

// stub returns where the runtime enters b: at its label, or, when that expects something in the reserved registers, at
// code emitted here.
func (t *translator) stub(b *path.Block) x86.Label {
	s := t.joins[b.Index].state
	t.stubs[b.Index] = s
	if s == (cache{}) && t.k.kernel != target.Linux {
		return t.labels[b.Index]
	}
	l := t.e.newLabel()
	t.e.line(b.Addr)
	t.e.bind(l)
	if t.k.kernel == target.Linux {
		t.e.endbr()
	}
	for _, n := range allocOrder {
		switch {
		case s.at(n).fs:
			t.e.load(n, target.SlotFSBase)
		case s.san[x86.RSP].n == n:
			t.e.load(n, target.SlotRSP)
			if !t.o.NoTagCheck {
				tmp := t.unusedBy(&s)
				t.e.tag(tmp, n)
				t.e.fault(FaultTouch, b.Addr, nil)
				t.e.touch(tmp)
			}
			t.e.pdep(n, n, target.SlotAddrMask)
		default:
			for _, v := range t.k.virtuals {
				if s.val[v].n == n {
					t.e.load(n, slotOf(v))
				}
			}
		}
	}
	t.e.jmp(t.labels[b.Index])
	return l
}

// unusedBy returns a reserved register that s has nothing in.
func (t *translator) unusedBy(s *cache) uint8 {
	for _, n := range allocOrder {
		if !s.busy(n) {
			return n
		}
	}
	panic("BUG: a label expects all reserved registers")
}
