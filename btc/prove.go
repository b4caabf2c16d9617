package btc

// What an access to program memory proves, and how far accesses may be from what is known.

// reaches reports whether an access at ref is near enough to what is known of its base register.
func (t *translator) reaches(ref memRef) bool {
	if ref.n == 0 {
		return true
	}
	r := t.c.at(ref.n)
	lo, hi := int64(r.lo)+int64(ref.disp), int64(r.hi)+int64(ref.disp)
	switch {
	case r.konst || r.fs:
		return true
	case r.touched:
		return lo >= -t.k.walkBelow && hi <= walkLimit
	}
	return lo >= -t.k.below && hi <= t.k.above
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
	if !r.konst && !r.fs && ref.disp <= walkLimit && ref.disp >= -walkLimit && !(t.k.exact && !r.touched && r.lo == r.hi) {
		r.lo, r.hi, r.touched = -ref.disp, -ref.disp, t.k.exact
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
