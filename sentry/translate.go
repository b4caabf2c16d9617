package sentry

import (
	"ub/btc"
	"ub/path"
	"ub/target"
)

// order is what a translation is made from, beside the code.
type order struct {
	entries []uint64
	hints   path.Hints
	stacks  path.Stacks
	known   func(addr uint64) bool // entries of other paths
	limits  path.Limits
}

// translator makes the blob of the path of some entries. full: there is more, beyond the limits.
type translator func(r path.CodeReader, o order) (b *btc.Blob, full bool, err error)

// translateFor returns the plan for machines with vector level v: pure, from the program's bytes to a blob.
func translateFor(v target.Vec) translator {
	opts := btc.Options{NoVectors: v < target.VecAVX, NoAVX512: v < target.VecAVX512}
	return func(r path.CodeReader, o order) (*btc.Blob, bool, error) {
		p, err := path.DiscoverAround(o.entries, r, o.hints, o.stacks, o.known, o.limits)
		if err != nil {
			return nil, false, err
		}
		b, err := btc.Translate(p, opts)
		return b, p.Full, err
	}
}
