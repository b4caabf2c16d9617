package profile

import (
	"math"
	"testing"
)

func TestBuckets(t *testing.T) {
	for i := range numBuckets {
		low, next := bucketLow(i), bucketLow(i+1)
		if low >= next || bucketOf(low) != i || bucketOf(next-1) != i {
			t.Errorf("bucket %d is from %d to below %d, which are in %d and %d", i, low, next, bucketOf(low), bucketOf(next-1))
		}
		if i >= 4 && float64(next-low) > 0.25*float64(low) {
			t.Errorf("bucket %d is from %d to below %d: too wide", i, low, next)
		}
	}
	if got := bucketOf(math.MaxUint64); got != numBuckets-1 {
		t.Errorf("the longest time is in bucket %d, not the last", got)
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("median of nothing: %g", got)
	}
	h[bucketOf(100)] = 90
	h[bucketOf(1e6)] = 10
	for _, c := range []struct{ q, low, high float64 }{{0.5, 96, 112}, {0.9, 96, 112}, {0.99, 917504, 1048576}, {1, 917504, 1048576}} {
		if got := h.Quantile(c.q); got < c.low || got > c.high {
			t.Errorf("quantile %g is %g, not between %g and %g", c.q, got, c.low, c.high)
		}
	}
}

func TestOctavesHaveAll(t *testing.T) {
	var h Histogram
	for i := range h {
		h[i] = float64(i + 1)
	}
	var sum float64
	for e := range octaves {
		sum += h.octave(e)
	}
	if sum != h.total() {
		t.Errorf("octaves have %g of %g", sum, h.total())
	}
	h = Histogram{}
	h[bucketOf(5)], h[bucketOf(7)], h[bucketOf(9)] = 1, 1, 1
	b := bars(&h)
	if len(b) != 2 || b[0] != (Bar{4, 8, 2}) || b[1] != (Bar{8, 16, 1}) {
		t.Errorf("bars: %v", b)
	}
}
