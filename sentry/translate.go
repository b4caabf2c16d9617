package sentry

import (
	"ub/btc"
	"ub/path"
	"ub/target"
)

// translator makes the blob of the path of some entries.
type translator func(entries []uint64, r path.CodeReader, h path.Hints, s path.Stacks, l path.Limits) (*btc.Blob, error)

// translateFor returns the plan for machines with vector level v: pure, from the program's bytes to a blob.
func translateFor(v target.Vec) translator {
	o := btc.Options{NoVectors: v < target.VecAVX, NoAVX512: v < target.VecAVX512}
	return func(entries []uint64, r path.CodeReader, h path.Hints, s path.Stacks, l path.Limits) (*btc.Blob, error) {
		p, err := path.DiscoverWith(entries, r, h, s, l)
		if err != nil {
			return nil, err
		}
		return btc.Translate(p, o)
	}
}
