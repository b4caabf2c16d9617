package path

// Order is what a path is found from, beside the code. With the same code, the same order gives the same path.
type Order struct {
	// Entries are the addresses at which the path is to be entered, the most important first; at least one.
	Entries []uint64
	Hints   Hints
	Stacks  Stacks
	// Known names what other paths have: it is left out, but for Entries. nil: there is none.
	Known func(addr uint64) bool
	// Limits: zero ones mean DefaultLimits'.
	Limits Limits
}

// MaxMerge is how many waiting requests Merge looks at: it takes a search for each.
const MaxMerge = 32

// Merge takes from a queue of requests for translation up to most of those that the next one serves besides, and returns them
// and what is left, in their order and in the queue's memory. Paths grow in many places at once, and each translation of a path
// takes as long as its first one, however little is new.
func Merge[R any](queue []R, most int, serves func(R) bool) (merged, rest []R) {
	rest = queue[:0]
	for i, r := range queue {
		if i < MaxMerge && len(merged) < most && serves(r) {
			merged = append(merged, r)
		} else {
			rest = append(rest, r)
		}
	}
	clear(queue[len(rest):])
	return merged, rest
}

// Unique returns the first of each of some addresses, in their order.
func Unique(in []uint64) []uint64 {
	var out []uint64
	seen := map[uint64]bool{}
	for _, v := range in {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
