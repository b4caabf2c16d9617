package sentry

import (
	"ub/btc"
	"ub/path"
	"ub/target"
)

// translateFor returns the plan for machines with vector level v: pure, from the program's bytes to a blob.
func translateFor(v target.Vec) func([]uint64, path.CodeReader, path.Hints, path.Limits) (*btc.Blob, error) {
	o := btc.Options{NoVectors: v < target.VecAVX, NoAVX512: v < target.VecAVX512}
	return func(entries []uint64, r path.CodeReader, h path.Hints, l path.Limits) (*btc.Blob, error) {
		p, err := path.Discover(entries, r, h, l)
		if err != nil {
			return nil, err
		}
		return btc.Translate(p, o)
	}
}
