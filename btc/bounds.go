package btc

// bounds says how far a sane register is from addresses that are known to be the program's; lea moves it.
//
// For the Sentry, lo and hi are from an address that was sanitized or accessed, whichever was last. For Linux, where accesses may
// lead less far down from what was accessed (rules.walkBelow), the two are kept apart: lo and hi are from the sanitized address,
// unless that is lost; tlo and thi from what was accessed, if also.
type bounds struct {
	lo, hi   int32
	lost     bool
	also     bool
	tlo, thi int32
}

// walk is how far the register is from an address that was accessed, or from a sanitized one, which is as good.
func (b *bounds) walk() (lo, hi int32) {
	if b.also {
		return b.tlo, b.thi
	}
	return b.lo, b.hi
}

// at is b for a register that d has been added to.
func (b bounds) at(d int32) bounds {
	b.lo, b.hi = b.lo+d, b.hi+d
	if b.lo < -walkLimit || b.hi > walkLimit {
		b.lost = true
	}
	if b.lost {
		b.lo, b.hi = 0, 0
	}
	if b.also {
		b.tlo, b.thi = b.tlo+d, b.thi+d
		if b.tlo < -walkLimit || b.thi > walkLimit {
			b.also, b.tlo, b.thi = false, 0, 0
		}
	}
	return b
}

// known tells whether b says anything.
func (b *bounds) known() bool { return !b.lost || b.also }

// and is what both a and b say.
func (a bounds) and(b bounds) bounds {
	var out bounds
	if out.lost = a.lost || b.lost; !out.lost {
		out.lo, out.hi = min(a.lo, b.lo), max(a.hi, b.hi)
	}
	if (a.also || b.also || out.lost) && a.known() && b.known() {
		alo, ahi := a.walk()
		blo, bhi := b.walk()
		out.also, out.tlo, out.thi = true, min(alo, blo), max(ahi, bhi)
	}
	return out
}

// within tells whether a says all that b does.
func (a bounds) within(b bounds) bool {
	if !b.lost && (a.lost || a.lo < b.lo || a.hi > b.hi) {
		return false
	}
	if b.also {
		lo, hi := a.walk()
		return a.known() && lo >= b.tlo && hi <= b.thi
	}
	return true
}
