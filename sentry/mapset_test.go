package sentry

import (
	"fmt"
	"math/rand"
	"testing"

	"gvisor.dev/gvisor/pkg/sentry/memmap"
)

// fakeFile is a file by identity only.
type fakeFile struct {
	memmap.File
	name string
}

// TestMapSetAgainstPages compares the set with the plain definition: an array of pages.
func TestMapSetAgainstPages(t *testing.T) {
	const pages, page = 64, 0x1000
	files := []*fakeFile{{name: "a"}, {name: "b"}}
	type slot struct {
		file  memmap.File
		off   uint64
		write bool
	}
	for seed := range int64(50) {
		rng := rand.New(rand.NewSource(seed))
		var s mapSet
		var want [pages]slot
		for step := range 300 {
			a := rng.Intn(pages)
			n := 1 + rng.Intn(min(12, pages-a))
			if rng.Intn(3) == 0 {
				had := false
				for p := a; p < a+n; p++ {
					had = had || want[p].file != nil
					want[p] = slot{}
				}
				if got := s.remove(uint64(a)*page, uint64(a+n)*page); got != had {
					t.Fatalf("seed %d step %d: remove reported %v, want %v", seed, step, got, had)
				}
			} else {
				// Offsets equal to the address plus a constant, so that neighbours often continue each other.
				f, shift, w := files[rng.Intn(2)], uint64(rng.Intn(2))*page, rng.Intn(2) == 0
				for p := a; p < a+n; p++ {
					want[p] = slot{f, uint64(p)*page + shift, w}
				}
				s.insert(mapping{start: uint64(a) * page, end: uint64(a+n) * page, file: f, off: uint64(a)*page + shift, read: true, write: w})
			}
			for p := range want {
				var got slot
				if m := s.at(uint64(p)*page + 0x123); m != nil {
					got = slot{m.file, m.fileRange(uint64(p)*page, uint64(p+1)*page).start, m.write}
				}
				if got != want[p] {
					t.Fatalf("seed %d step %d: page %d is %+v, want %+v", seed, step, p, got, want[p])
				}
			}
			for i := range s.m {
				if s.m[i].start >= s.m[i].end || i > 0 && (s.m[i-1].end > s.m[i].start || s.m[i-1].continues(&s.m[i])) {
					t.Fatalf("seed %d step %d: not sorted, disjoint and joined: %v", seed, step, s.m)
				}
			}
			lo, hi := uint64(a)*page, uint64(a+n)*page
			var covered uint64
			s.overlapping(lo, hi, func(m mapping) {
				if m.start < lo || m.end > hi || m.off != s.at(m.start).fileRange(m.start, m.end).start {
					t.Fatalf("overlapping(%#x, %#x) gave %+v", lo, hi, m)
				}
				covered += m.end - m.start
			})
			var wantCovered uint64
			for p := a; p < a+n; p++ {
				if want[p].file != nil {
					wantCovered += page
				}
			}
			if covered != wantCovered {
				t.Fatalf("seed %d step %d: overlapping covers %#x, want %#x", seed, step, covered, wantCovered)
			}
		}
	}
}

func TestFileRangeOverlap(t *testing.T) {
	a, b := &fakeFile{name: "a"}, &fakeFile{name: "b"}
	r := fileRange{a, 10, 20}
	for _, tc := range []struct {
		s    fileRange
		want bool
	}{
		{fileRange{a, 0, 10}, false}, {fileRange{a, 0, 11}, true}, {fileRange{a, 19, 30}, true},
		{fileRange{a, 20, 30}, false}, {fileRange{b, 10, 20}, false}, {fileRange{a, 12, 13}, true},
	} {
		if got := r.overlaps(tc.s); got != tc.want {
			t.Errorf("%v overlaps %v = %v", r, tc.s, got)
		}
	}
}

func BenchmarkMapSetChange(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := &fakeFile{}
			var s mapSet
			for i := range n {
				s.insert(mapping{start: uint64(i) * 0x2000, end: uint64(i)*0x2000 + 0x1000, file: f})
			}
			for i := 0; b.Loop(); i++ {
				a := uint64(i%n) * 0x2000
				s.remove(a, a+0x1000)
				s.insert(mapping{start: a, end: a + 0x1000, file: f})
			}
		})
	}
}
