package path

import (
	"slices"
	"testing"
)

func TestMerge(t *testing.T) {
	even := func(i int) bool { return i%2 == 0 }
	for _, c := range []struct {
		queue        []int
		most         int
		merged, rest []int
	}{
		{nil, 4, nil, nil},
		{[]int{1, 2, 3, 4, 6, 5}, 4, []int{2, 4, 6}, []int{1, 3, 5}},
		{[]int{1, 2, 3, 4, 6, 5}, 2, []int{2, 4}, []int{1, 3, 6, 5}},
		{[]int{2, 4}, 0, nil, []int{2, 4}},
	} {
		all := slices.Clone(c.queue)
		merged, rest := Merge(all, c.most, even)
		if !slices.Equal(merged, c.merged) || !slices.Equal(rest, c.rest) {
			t.Errorf("%v, at most %d: %v, %v", c.queue, c.most, merged, rest)
		}
		for _, v := range all[len(rest):] {
			if v != 0 {
				t.Errorf("%v, at most %d: %d is still held behind the queue", c.queue, c.most, v)
			}
		}
	}
	// Those far behind wait.
	if merged, rest := Merge(make([]int, MaxMerge+5), 1<<20, even); len(merged) != MaxMerge || len(rest) != 5 {
		t.Errorf("%d of a long queue, %d are left", len(merged), len(rest))
	}
}

func TestUnique(t *testing.T) {
	if u := Unique([]uint64{3, 1, 3, 2, 1}); !slices.Equal(u, []uint64{3, 1, 2}) {
		t.Errorf("%v", u)
	}
}
