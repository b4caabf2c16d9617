package machine

import "math/bits"

// table is a thread's dispatch table, read by the dispatch trampoline. Its memory is zero until bound, so it costs only
// the pages in use. Zero entries never match: an entry's key would be 0, whose set is set 0, and the entries of set 0
// are never zero (see clear).
type table [tableSize / tableEntrySize]tableEntry

type tableEntry struct {
	negKey uint64 // minus the program address
	code   uint64 // native address
}

// freeInSet0 is the negKey of a free entry of set 0: of key 1, which belongs to set 1 and so never matches here.
const freeInSet0 = ^uint64(0)

// tableSet returns the index of the first of the entries that may hold key, as the dispatch trampoline computes it.
func tableSet(key uint64) int {
	h := key + bits.RotateLeft64(key, -tableHashRot)
	return int(h&(1<<tableSetBits-1)) * tableWays
}

// bind makes key lead to code. The newest binding goes first in its set; the oldest is dropped when there are more than it holds.
// It returns the first index of the set.
func (t *table) bind(key, code uint64) int {
	i := tableSet(key)
	neg := -key
	set := t[i : i+tableWays]
	at := 0 // where it is, or the last place
	for at < tableWays-1 && set[at].code != 0 && set[at].negKey != neg {
		at++
	}
	copy(set[1:at+1], set[:at])
	set[0] = tableEntry{neg, code}
	return i
}

// clear empties the set whose first index is i.
func (t *table) clear(i int) {
	var e tableEntry
	if i == 0 {
		e.negKey = freeInSet0
	}
	for k := range tableWays {
		t[i+k] = e
	}
}

// Bind makes this thread's indirect transfers to program address rip continue at code without leaving translated code.
// Only the goroutine that calls Run may call it, and not while in Run. A binding lasts until Flush, until code's blob is
// retired, or until other bindings push it out: treat it as a hint that an ExitMiss may follow nevertheless.
func (t *Thread) Bind(rip uint64, code Code) {
	if code.in == nil || code.in.dead.Load() {
		return
	}
	// A blob retired after this check has changed Machine.epoch after b.epoch was last set, so the next Run flushes.
	set := tableSet(rip)
	for _, tb := range t.tables[code.in.vec:] {
		tb.bind(rip, code.addr)
	}
	if !t.bound[set/tableWays] {
		t.bound[set/tableWays] = true
		t.boundSets = append(t.boundSets, uint16(set))
	}
}

// Flush forgets all bindings. Only the goroutine that calls Run may call it, and not while in Run.
func (t *Thread) Flush() {
	for _, set := range t.boundSets {
		for _, tb := range t.tables {
			tb.clear(int(set))
		}
		t.bound[set/tableWays] = false
	}
	t.boundSets = t.boundSets[:0]
}
