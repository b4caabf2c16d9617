package path

import (
	"slices"
	"testing"
)

func TestBranchTargets(t *testing.T) {
	var b Branch
	for i := range uint64(100) {
		b.Missed(i%3, 1, 4)
		b.Missed(7, 1, 4)
	}
	if l := b.List(); l[0] != 7 || len(l) != 4 {
		t.Errorf("targets %v", l)
	}
	for i := range uint64(1000) {
		b.Missed(100+i, 1, 4)
	}
	if l := b.List(); len(l) != MaxTargets || b.Len() != MaxTargets || l[0] != 7 {
		t.Errorf("targets %v", l)
	}
}

// TestBranchOrder: whatever comes in what numbers, the most frequent are in front.
func TestBranchOrder(t *testing.T) {
	var b Branch
	for i := range uint64(20) {
		for j := range i % 10 {
			b.Missed(0x1000+i%10, j+1, 4)
		}
		if !slices.IsSortedFunc(b.targets, func(x, y branchTarget) int { return int(y.n) - int(x.n) }) {
			t.Fatalf("%+v", b.targets)
		}
	}
}

// TestBranchDoubling: a target is asked for after the first few misses, and then ever more seldom, unless it is to be asked again.
func TestBranchDoubling(t *testing.T) {
	var b Branch
	var at []int
	for i := range 40 {
		if b.Missed(5, 1, 4) {
			at = append(at, i+1)
		}
	}
	if !slices.Equal(at, []int{4, 8, 16, 32}) {
		t.Errorf("asked at %v", at)
	}
	b.AskAgain(41)
	if b.Missed(5, 1, 4) {
		t.Error("asked again too early")
	}
	b.AskAgain(4)
	if !b.Missed(5, 1, 4) {
		t.Error("not asked again")
	}
}
