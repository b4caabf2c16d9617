package x86

import (
	"flag"
	"math/rand/v2"
	"testing"
)

// randomCode makes bytes that are likely to start with an unusual instruction: a few prefixes, an opcode of a random
// map, anything after it.
func randomCode(rnd *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	n := 0
	put := func(x ...byte) { n += copy(b[n:], x) }
	prefixes := [...]byte{0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}
	for rnd.IntN(3) == 0 {
		put(prefixes[rnd.IntN(len(prefixes))])
		if n > 12 {
			break
		}
	}
	switch rnd.IntN(12) {
	case 0, 1, 2:
		put(0x40 | b[n]&15)
	case 3:
		put(0x40|b[n]&15, 0x0f)
	case 4:
		put(0x0f)
	case 5:
		put(0x0f, 0x38)
	case 6:
		put(0x0f, 0x3a)
	case 7:
		put(0xc4, b[n]&0xe0|byte(1+rnd.IntN(3)))
	case 8:
		put(0xc5)
	case 9:
		put(0x62, b[n]&0xf0|byte(rnd.IntN(8)), b[n+1]|4)
	case 10:
		put(0x8f, b[n]&0xe0|byte(8+rnd.IntN(3)), b[n+1]&^3)
	}
}

var (
	seed   = flag.Uint("seed", 2, "seed of the random tests")
	rounds = flag.Int("rounds", 1, "how many times as long the random tests run")
)

// TestRandom compares both decoders on instructions that no compiler emits.
func TestRandom(t *testing.T) {
	z := needZydis(t)
	rnd := rand.New(rand.NewPCG(1, uint64(*seed)))
	count := 3_000_000 * *rounds
	if testing.Short() {
		count = 100_000
	}
	var diffs tally
	ok, known := 0, 0
	var buf [MaxLen + 1]byte
	for range count {
		randomCode(rnd, buf[:])
		in, err := Decode(buf[:], 0x400000)
		diff, exists := z.difference(buf[:], &in, err)
		if diff != "" {
			diffs.add(t, buf[:], diff)
		}
		if exists {
			ok++
		}
		if in.Known {
			known++
		}
	}
	t.Logf("%d tried, %d instructions, %d known, %d differences", count, ok, known, diffs.total)
}
