package btc

import (
	"ub/target"
	"ub/x86"
)

// The register cache knows, at every point of a superblock, what the four reserved native registers hold: values of
// virtual registers, and sanitized copies of the program's addresses. Each fact is about the program's registers *now*;
// whatever changes one of those must tell the cache (wrote, bumped), or a stale address would be used.

const (
	firstReserved = 12
	numReserved   = 4
)

// loc says that a program register equals native register n plus delta. n is 0 (RAX is never reserved) for nowhere.
type loc struct {
	n     uint8
	delta int32
}

func (l loc) ok() bool { return l.n != 0 }

// maxDelta bounds how far a cached register may be from the native register that stands for it. With the at most 2^31 of
// an instruction's own displacement that stays well inside target.DispLimit.
const maxDelta = 1 << 18

// walkLimit bounds how far an access may be from the last one through the same register that succeeded; the verifier's is
// a page more. (It bounds what a processor can reach that runs ahead behind a fault: docs/sfi.md.)
const walkLimit = 1<<20 - 1<<12

// ea is an address expression without its displacement.
type ea struct {
	fs          bool
	base, index x86.Reg
	scale       uint8
}

func (e ea) uses(g x86.Reg) bool { return e.base == g || e.index == g }

// resReg is what one reserved register holds.
type resReg struct {
	// sane: the register is a sanitized address; accesses near it are allowed.
	sane bool
	bounds
	// proven: the sanitized address equals the address it was made from. It does once an access through it has
	// succeeded: had a bit of the original been moved or dropped, the access or the tag check before it would have faulted.
	proven bool
	konst  bool // holds the constant value
	value  uint64
	fs     bool // holds the program's FS base
	// hasEA: holds the sanitized value of the expression expr, plus disp.
	hasEA bool
	expr  ea
	disp  int32

	pin  bool // in use by the current instruction
	used int  // time of last use
}

// cache is the state of the reserved registers and the virtual ones.
type cache struct {
	r     [numReserved]resReg
	val   [16]loc // where a virtual register's value is; nowhere: in its slot only
	dirty x86.RegSet
	san   [16]loc // where a program register's sanitized value is

	narrow narrowness // whatever they are in
	clock  int
}

func (c *cache) at(n uint8) *resReg { return &c.r[n-firstReserved] }

// busy reports whether n holds anything worth keeping.
func (c *cache) busy(n uint8) bool {
	r := c.at(n)
	if r.konst || r.fs || r.hasEA {
		return true
	}
	for g := range c.san {
		if c.san[g].n == n || c.val[g].n == n {
			return true
		}
	}
	return false
}

// sharers returns which registers' values and which registers' sanitized copies n stands for.
func (c *cache) sharers(n uint8) (vals, sans x86.RegSet) {
	for g := range c.san {
		if c.val[g].n == n {
			vals |= 1 << g
		}
		if c.san[g].n == n {
			sans |= 1 << g
		}
	}
	return
}

// drop forgets all that n holds. The caller has written back what was dirty.
func (c *cache) drop(n uint8) {
	for g := range c.san {
		if c.val[g].n == n {
			c.val[g] = loc{}
		}
		if c.san[g].n == n {
			c.san[g] = loc{}
		}
	}
	pin := c.at(n).pin
	*c.at(n) = resReg{pin: pin}
}

// reset forgets everything: the state at an entry or a jump target.
func (c *cache) reset() { *c = cache{} }

// unpin ends an instruction.
func (c *cache) unpin() {
	for i := range c.r {
		c.r[i].pin = false
	}
	c.clock++
}

// unpinned is how many reserved registers the current instruction has not in use.
func (c *cache) unpinned() int {
	n := 0
	for i := range c.r {
		if !c.r[i].pin {
			n++
		}
	}
	return n
}

// idle is how many reserved registers hold nothing and are not in use.
func (c *cache) idle() int {
	n := 0
	for _, r := range allocOrder {
		if !c.at(r).pin && !c.busy(r) {
			n++
		}
	}
	return n
}

// hold notes a use of n by the current instruction and protects it until its end.
func (c *cache) hold(n uint8) {
	r := c.at(n)
	r.pin, r.used = true, c.clock
}

// valueOf returns where the value of virtual register v can be had in a native register.
func (c *cache) valueOf(v x86.Reg) loc {
	if l := c.val[v]; l.ok() {
		return l
	}
	if l := c.san[v]; l.ok() && c.at(l.n).proven {
		return l
	}
	return loc{}
}

// saneOf returns the sanitized copy of program register g.
func (c *cache) saneOf(g x86.Reg) loc {
	if l := c.san[g]; l.ok() {
		return l
	}
	if l := c.val[g]; l.ok() && c.at(l.n).sane && c.at(l.n).proven {
		return l
	}
	return loc{}
}

// wrote notes that program register g has a new value that the cache does not know. For a virtual register the caller
// then says where it is (setVal, or nothing when it was written to its slot).
func (c *cache) wrote(g x86.Reg) {
	c.forget(g)
	c.killEA(g)
}

// forget drops where g's value and its sanitized copy are.
func (c *cache) forget(g x86.Reg) {
	c.san[g], c.val[g] = loc{}, loc{}
	c.dirty &^= 1 << g
	c.narrow[g] = 0
}

// killEA forgets sanitized expressions that use g.
func (c *cache) killEA(g x86.Reg) {
	for i := range c.r {
		if r := &c.r[i]; r.hasEA && r.expr.uses(g) {
			r.hasEA = false
		}
	}
}

// bumped notes that g's value has grown by d. Sanitized copies keep serving at a distance.
func (c *cache) bumped(g x86.Reg, d int32) {
	c.san[g] = c.san[g].plus(d)
	c.narrow[g] = sum(c.narrow[g], ofConst(int64(d)))
	c.shiftEA(g, d)
}

// shiftEA notes for the sanitized expressions that use g that its value has grown by d.
func (c *cache) shiftEA(g x86.Reg, d int32) {
	for i := range c.r {
		r := &c.r[i]
		if !r.hasEA || !r.expr.uses(g) {
			continue
		}
		by := int64(0)
		if r.expr.base == g {
			by = int64(d)
		}
		if r.expr.index == g {
			by += int64(d) * int64(r.expr.scale)
		}
		if by = int64(r.disp) - by; by > maxDelta || by < -maxDelta {
			r.hasEA = false
			continue
		}
		r.disp = int32(by)
	}
}

// plus is l for a value d further on, or nowhere when that gets too far.
func (l loc) plus(d int32) loc {
	if !l.ok() || d > maxDelta || d < -maxDelta {
		return loc{}
	}
	l.delta += d
	if l.delta > maxDelta || l.delta < -maxDelta {
		return loc{}
	}
	return l
}

// setVal says that virtual register v, whose slot is stale, is exactly n, which holds nothing else.
func (c *cache) setVal(v x86.Reg, n uint8) {
	c.val[v] = loc{n: n}
	c.dirty |= 1 << v
}

// dirtyLocs lists the virtual registers whose slots are stale, for a fault record.
func (c *cache) dirtyLocs() []RegLoc {
	var out []RegLoc
	for _, v := range kernels[target.Linux].virtuals { // all there are for any kernel
		if c.dirty&(1<<v) != 0 {
			out = append(out, RegLoc{Virtual: uint8(v), Native: c.val[v].n, Delta: c.val[v].delta})
		}
	}
	return out
}
