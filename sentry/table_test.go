package sentry

import "testing"

// TestEntryCacheKeepsBusySites: as many sites as a server has go through their gaps in turn, at addresses that are random in
// each run, and nearly none is forgotten between its turns.
func TestEntryCacheKeepsBusySites(t *testing.T) {
	const sites, runs = 24, 200
	lost := 0
	rip := uint64(1)
	for range runs {
		var c entryCache
		tb := &table{}
		var rips []uint64
		for range sites {
			rip = rip*6364136223846793005 + 1442695040888963407
			rips = append(rips, rip>>17&0x3ffffffffff)
		}
		for range 3 {
			for _, r := range rips {
				e := c.lookup(nil, tb, r, 0)
				if e.vec++; e.rip != r {
					t.Fatalf("the entry of %#x is %+v", r, e)
				}
			}
		}
		for _, r := range rips {
			if c.lookup(nil, tb, r, 0).vec != 3 {
				lost++
			}
		}
	}
	// With one way and 64 slots it is more than one in four.
	if lost > sites*runs/1000 {
		t.Errorf("%d of %d were forgotten", lost, sites*runs)
	}
	var c entryCache
	a, b := &table{}, &table{}
	c.lookup(nil, a, 0x1000, 0).vec = 2
	if c.lookup(nil, a, 0x1000, 7).vec != 0 || c.lookup(nil, a, 0x1000, 0).vec != 2 {
		t.Error("callers are not told apart")
	}
	if c.changed = false; c.lookup(nil, b, 0x1000, 0).vec != 0 || !c.changed {
		t.Error("what belongs to another table is still there")
	}
}
