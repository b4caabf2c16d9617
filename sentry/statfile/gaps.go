package statfile

// Gap is one entry of the gap table: what the payoff controller knows of the gaps behind a site, or of those of one caller.
type Gap struct {
	Site   uint64 // program RIP behind the syscall instruction
	Caller uint64 // return address of the function that it is in; 0: all callers, ^0: those not listed apart
	Space  uint32 // address space
	State  uint8  // hot.State
	Why    uint8  // hot.Why
	Level  uint8  // of its path's limits

	Pairs, Setbacks uint16
	Extensions      uint32

	Entered, Bypassed, Misses, Stops uint64

	PayoffNS         int64  // saved per pass, by Pairs differences
	BaseNS, ActiveNS uint64 // what a pass takes without and with bypass

	Hist [16]uint32 // sampled native gaps by length: buckets of package hot, in ticks
}

const (
	// NumGaps is the number of entries of the gap table.
	NumGaps = 1024
	gapSize = 192
)

// used marks an entry that has been written.
const gapUsed = 1 << 63

// SetGap writes entry i of the table; each word is stored atomically, the entry as a whole is not.
func (s *File) SetGap(i int, v Gap) {
	w := s.gapWords(i)
	w[1].Store(v.Caller)
	w[2].Store(uint64(v.Space) | uint64(v.State)<<32 | uint64(v.Why)<<40 | uint64(v.Level)<<48 | gapUsed)
	w[3].Store(uint64(v.Pairs) | uint64(v.Setbacks)<<16 | uint64(v.Extensions)<<32)
	for k, x := range []uint64{v.Entered, v.Bypassed, v.Misses, v.Stops, uint64(v.PayoffNS), v.BaseNS, v.ActiveNS} {
		w[4+k].Store(x)
	}
	for k := range len(v.Hist) / 2 {
		w[11+k].Store(uint64(v.Hist[2*k]) | uint64(v.Hist[2*k+1])<<32)
	}
	w[0].Store(v.Site)
}

// Gaps returns the entries in use.
func (s *File) Gaps() []Gap {
	var out []Gap
	for i := range NumGaps {
		w := s.gapWords(i)
		t, n := w[2].Load(), w[3].Load()
		if t&gapUsed == 0 {
			continue
		}
		g := Gap{
			Site: w[0].Load(), Caller: w[1].Load(), Space: uint32(t), State: uint8(t >> 32), Why: uint8(t >> 40), Level: uint8(t >> 48 & 0x7f),
			Pairs: uint16(n), Setbacks: uint16(n >> 16), Extensions: uint32(n >> 32),
			Entered: w[4].Load(), Bypassed: w[5].Load(), Misses: w[6].Load(), Stops: w[7].Load(),
			PayoffNS: int64(w[8].Load()), BaseNS: w[9].Load(), ActiveNS: w[10].Load(),
		}
		for k := range len(g.Hist) / 2 {
			x := w[11+k].Load()
			g.Hist[2*k], g.Hist[2*k+1] = uint32(x), uint32(x>>32)
		}
		out = append(out, g)
	}
	return out
}

// SetTicksPerMicro tells how many ticks of the sandbox's clock make a microsecond: Hist counts in ticks.
func (s *File) SetTicksPerMicro(n uint64) { s.headerWord(ticksWord).Store(n) }

// TicksPerMicro returns what SetTicksPerMicro has set, 0 before.
func (s *File) TicksPerMicro() uint64 { return s.headerWord(ticksWord).Load() }

// ticksWord is where in the header that is.
const ticksWord = 3
