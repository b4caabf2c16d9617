package hot

import (
	"math/rand/v2"
	"testing"
)

func TestSignTest(t *testing.T) {
	for _, tt := range []struct {
		wins, n uint32
		want    uint64 // of 2^n
	}{{0, 5, 32}, {5, 5, 1}, {4, 5, 6}, {6, 6, 1}, {9, 10, 11}, {12, 24, 9740686}, {24, 24, 1}, {32, 32, 1}, {0, 32, 1 << 32}} {
		if got := atLeast(tt.wins, tt.n); got != tt.want {
			t.Errorf("atLeast(%d, %d) = %d, want %d", tt.wins, tt.n, got, tt.want)
		}
	}
	if unlikely(5, 6, 20) || !unlikely(6, 6, 20) || unlikely(0, 0, 500) {
		t.Error("6 of 6 is the first certain case at 2 %")
	}
}

// More wins, or the same share of more differences, never make a decision less certain.
func TestConfidenceIsMonotone(t *testing.T) {
	for n := uint32(1); n <= maxPairs; n++ {
		for w := uint32(0); w < n; w++ {
			if atLeast(w+1, n) > atLeast(w, n) {
				t.Fatalf("%d wins of %d are more likely than %d", w+1, n, w)
			}
		}
		if n > 1 && atLeast(n, n) > 2*atLeast(n-1, n-1) {
			t.Fatalf("%d of %d", n, n)
		}
		for permille := uint32(1); permille < 500; permille++ {
			if unlikely(n, n, permille) && !unlikely(n, n, permille+1) {
				t.Fatalf("n %d permille %d", n, permille)
			}
		}
	}
	c := testConfig()
	c.MaxPairs = maxPairs
	var tr trial
	won := false
	for range maxPairs {
		tr.put(&c, 1000)
		if w := tr.wins(&c); won && !w {
			t.Fatal("another win has undone a decision")
		} else {
			won = w
		}
	}
	if !won {
		t.Error("only wins, and no decision")
	}
}

// The stated errors over a whole trial, by simulation: without any effect, few trials end with bypass.
func TestErrorOfTrials(t *testing.T) {
	c := testConfig()
	c.MinPayoff = 0
	rng := rand.New(rand.NewPCG(1, 2))
	ended := func(shift float64) (kept int) {
		for range 4000 {
			var tr trial
			for range c.MaxPairs {
				tr.put(&c, int64(1000*(rng.NormFloat64()+shift)))
				if tr.wins(&c) {
					kept++
					break
				}
				if tr.n == c.MaxPairs && tr.outranks(&c) {
					kept++
				}
				if tr.loses(&c, c.DropPermille) {
					break
				}
			}
		}
		return kept
	}
	if n := ended(0); n > 4000*6/100 {
		t.Errorf("%d of 4000 trials without an effect ended with bypass", n)
	}
	if n := ended(-1); n > 4 {
		t.Errorf("%d of 4000 trials of something worse by one standard deviation did", n)
	}
	if n := ended(3); n < 4000*95/100 {
		t.Errorf("only %d of 4000 trials of something better by three did", n)
	}
}

func TestPayoffIsNotMovedByOutliers(t *testing.T) {
	c := testConfig()
	var tr trial
	for i := range 20 {
		d := int64(1000 + i)
		if i%5 == 0 {
			d = -1_000_000
		}
		tr.put(&c, d)
	}
	if p := tr.payoff(); p < 900 || p > 1100 {
		t.Errorf("payoff %d", p)
	}
	if !tr.wins(&c) {
		t.Error("16 of 20 are no win")
	}
}

// What Redis' read gap has shown, in ticks: it pays, by far, where crossings are dear, and loses a little where they are cheap.
func TestWinsMuchAndLosesLittle(t *testing.T) {
	c := testConfig()
	c.MaxPairs, c.MinPayoff = 24, 150
	var early trial
	for i, d := range []int64{73779, -3451, -5041, 70369, -3131, -14137} {
		early.put(&c, d)
		if early.loses(&c, c.DropPermille) {
			t.Errorf("given up after %d differences", i+1)
		}
	}
	var tr trial
	for _, d := range []int64{16978, 16637, -2197, 36202, -2582, 14689, 34233, -15410, 8067, -11638, -22999, 6060,
		26503, -4407, -2898, 15021, 48463, 4451, 49122, -4552, -26508, 3736, 66073, 56015} {
		tr.put(&c, d)
		if tr.wins(&c) || tr.loses(&c, c.DropPermille) {
			t.Errorf("decided after %d differences", tr.n)
		}
	}
	if !tr.outranks(&c) {
		t.Error("not kept")
	}
	for i := range tr.d {
		tr.d[i] = -tr.d[i]
	}
	if tr.outranks(&c) {
		t.Error("the opposite is kept as well")
	}
}

// outranks is right about its probability: for every sum of ranks that eight differences can have.
func TestOutranks(t *testing.T) {
	c := testConfig()
	c.MinPayoff, c.MaxPairs = 0, 8
	var sums []int
	for signs := range 1 << 8 {
		sum := 0
		for i := range 8 {
			sum += (signs >> i & 1) * (i + 1)
		}
		sums = append(sums, sum)
	}
	for signs := range 1 << 8 {
		var tr trial
		atLeast := 0
		for _, sum := range sums {
			if sum >= sums[signs] {
				atLeast++
			}
		}
		for i := range 8 {
			tr.put(&c, int64(i+1)*int64((signs>>i&1)*2-1))
		}
		want := atLeast*1000 <= int(c.KeepPermille)*256 && tr.payoff() > 0
		if got := tr.outranks(&c); got != want {
			t.Errorf("signs %08b: %v; %d of 256 are as much", signs, got, atLeast)
		}
	}
}
