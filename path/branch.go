package path

// Branch is what has been seen of an indirect transfer that translated code could not follow: where it has led, and how
// often. Whoever runs the code counts; the targets become Hints and entries of the path.
type Branch struct {
	targets []branchTarget // sorted by frequency
}

type branchTarget struct {
	rip  uint64
	n    uint64 // misses
	next uint64 // the number of misses at which more is translated for it
}

// MaxTargets bounds what is remembered of one branch, and so what a translation is told of it.
const MaxTargets = 8

// Missed counts n misses of the target to, and reports whether something should be translated for it: at first after that many,
// and then each time that their number has doubled, for those whose translation fails or does not last.
func (b *Branch) Missed(to, n, first uint64) bool {
	t := b.count(to, n, first)
	if t == nil || t.n < t.next {
		return false
	}
	t.next = 2 * t.n
	return true
}

// count counts the target. A new one takes the place of the rarest, once that has been worn down; until then it is nil.
func (b *Branch) count(to, n, first uint64) *branchTarget {
	i := 0
	for ; i < len(b.targets) && b.targets[i].rip != to; i++ {
	}
	switch {
	case i < len(b.targets):
		b.targets[i].n += n
	case i < MaxTargets:
		b.targets = append(b.targets, branchTarget{to, n, first})
	default:
		i--
		if last := &b.targets[i]; last.n > n {
			last.n -= n
			return nil
		}
		b.targets[i] = branchTarget{to, n, first}
	}
	for ; i > 0 && b.targets[i-1].n < b.targets[i].n; i-- {
		b.targets[i-1], b.targets[i] = b.targets[i], b.targets[i-1]
	}
	return &b.targets[i]
}

// AskAgain has targets that were missed in vain, at least so many times, translated when they are missed once more: those for
// which a path had no room, above all, have been missed so often that they would have to be for long.
func (b *Branch) AskAgain(least uint64) {
	for i := range b.targets {
		if t := &b.targets[i]; t.n >= least {
			t.next = min(t.next, t.n+1)
		}
	}
}

// Len is the number of targets.
func (b *Branch) Len() int { return len(b.targets) }

// List returns the targets, most frequent first.
func (b *Branch) List() []uint64 {
	out := make([]uint64, len(b.targets))
	for i, t := range b.targets {
		out[i] = t.rip
	}
	return out
}
