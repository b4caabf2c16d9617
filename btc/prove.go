package btc

// What an access to program memory proves, and how far accesses may be from what is known.

// reaches reports whether an access at ref is near enough to what is known of its base register.
func (t *translator) reaches(ref memRef) bool {
	if ref.n == 0 {
		return true
	}
	r := t.c.at(ref.n)
	if r.konst || r.fs {
		return true
	}
	d := int64(ref.disp)
	return !r.lost && int64(r.lo)+d >= -t.k.below && int64(r.hi)+d <= t.k.above ||
		r.also && int64(r.tlo)+d >= -t.k.walkBelow && int64(r.thi)+d <= walkLimit
}

// prove notes that an access has succeeded: the sanitized copies in its base register are the registers' values, and what
// was accessed is in the program's memory, however far the register had come from the address that was once sanitized.
func (t *translator) prove(ref memRef) {
	n := ref.n
	if n == 0 {
		return
	}
	r := t.c.at(n)
	if !r.sane {
		return
	}
	switch {
	case r.konst || r.fs || int64(ref.disp) > t.k.walkBelow || ref.disp < -walkLimit:
	case t.k.touches:
		r.also, r.tlo, r.thi = true, -ref.disp, -ref.disp
	default:
		r.lo, r.hi = -ref.disp, -ref.disp
	}
	t.proveValue(ref)
}

// proveValue is the part of prove that the verifier need not follow.
func (t *translator) proveValue(ref memRef) {
	n := ref.n
	if n == 0 {
		return
	}
	c := &t.c
	r := c.at(n)
	if !r.sane || r.proven {
		return
	}
	r.proven = true
	for _, v := range t.k.virtuals {
		// From here on one register does for both value and address.
		if l := c.san[v]; l.n == n {
			c.val[v] = l
		}
	}
}
