package sentry

import (
	"ub/btc"
	"ub/path"
	"ub/target"
)

// translator makes the blob of the path of some entries. full: there is more, beyond the limits.
type translator func(r path.CodeReader, o path.Order) (b *btc.Blob, full bool, err error)

// translateFor returns the plan for machines with vector level v: pure, from the program's bytes to a blob.
func translateFor(v target.Vec) translator {
	opts := btc.Options{NoVectors: v < target.VecAVX, NoAVX512: v < target.VecAVX512}
	return func(r path.CodeReader, o path.Order) (*btc.Blob, bool, error) {
		p, err := o.Discover(r)
		if err != nil {
			return nil, false, err
		}
		b, err := btc.Translate(p, opts)
		return b, p.Full, err
	}
}
