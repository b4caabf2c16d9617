package hot

import "testing"

// A server's busy sites all keep their places, whatever their addresses: those that push each other out are new each time they are
// seen, and a trial of theirs never ends.
func TestBusySitesWithOneHashStay(t *testing.T) {
	const busy = 8
	set := func(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 >> (64 - setBits) }
	var keys []uint64
	for key := uint64(0x7000_0000_1000); len(keys) < busy; key += 2 {
		if set(key) == 3 {
			keys = append(keys, key)
		}
	}
	var tab table
	fresh := 0
	for round := range uint64(1000) {
		for i, key := range keys {
			if _, f := tab.find(key, round*busy+uint64(i)); f {
				fresh++
			}
		}
		// One that comes by now and then.
		if round%10 == 9 {
			for key := uint64(0x7100_0000_0000) + round*64; ; key += 2 {
				if set(key) == 3 {
					tab.find(key, round*busy)
					break
				}
			}
		}
	}
	if fresh != busy {
		t.Errorf("%d busy sites were new %d times", busy, fresh)
	}
}
