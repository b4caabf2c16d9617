package profile

import "math/bits"

// numBuckets is the size of a histogram of times in nanoseconds: four buckets for each power of two, up to 2^41 ns.
const numBuckets = 160

// bucketOf returns the bucket of ns. The eBPF program does the same.
func bucketOf(ns uint64) int {
	if ns < 4 {
		return int(ns)
	}
	e := bits.Len64(ns) - 1
	return min(4*(e-1)+int(ns>>(e-2)&3), numBuckets-1)
}

// bucketLow returns the smallest time of bucket i.
func bucketLow(i int) uint64 {
	if i < 4 {
		return uint64(i)
	}
	return uint64(4+i%4) << (i/4 - 1)
}

// bucketMid returns the time that stands for those of bucket i.
func bucketMid(i int) float64 {
	return float64(bucketLow(i)+bucketLow(i+1)-1) / 2
}

// Histogram counts times by bucket. Counts are estimates for the whole run, so no integers.
type Histogram [numBuckets]float64

// total returns the number of times.
func (h *Histogram) total() float64 {
	var n float64
	for _, v := range h {
		n += v
	}
	return n
}

// Quantile returns a time in ns that a share q of all are not above, within a quarter of a power of two; 0 if there is none.
func (h *Histogram) Quantile(q float64) float64 {
	rest := q * h.total()
	if rest <= 0 {
		return 0
	}
	last := 0
	for i, n := range h {
		if n == 0 {
			continue
		}
		if rest <= n {
			low, high := float64(bucketLow(i)), float64(bucketLow(i+1))
			return low + (high-low)*rest/n
		}
		rest -= n
		last = i
	}
	return float64(bucketLow(last + 1)) // rounding
}

// octave returns the number of times from 2^e to below 2^(e+1), times below 2 for e = 0.
func (h *Histogram) octave(e int) float64 {
	from, to := 4*(e-1), 4*e
	if e < 2 {
		from, to = 2*e, 2*e+2
	}
	var n float64
	for i := from; i < to; i++ {
		n += h[i]
	}
	return n
}

// octaves is the number of powers of two that a histogram covers.
const octaves = numBuckets/4 + 1
