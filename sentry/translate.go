package sentry

import (
	"ub/btc"
	"ub/path"
)

// translate is the plan: pure, from the program's bytes to a blob.
func translate(entries []uint64, r path.CodeReader, h path.Hints, l path.Limits) (*btc.Blob, error) {
	p, err := path.Discover(entries, r, h, l)
	if err != nil {
		return nil, err
	}
	return btc.Translate(p, btc.Options{})
}
