package btc_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"syscall"
	"testing"
	"time"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
)

// loopCode has the programs of BenchmarkCode: RDI iterations each, RSI the data. In assembly: testdata/loops.s.
const loopCode = "415541544989fc4531ed4c89e7e81e0000004901c549ffcc75f04c89e8415c415dc366662e0f1f8400000000000f1f005553" +
	"4883ec1848897c24084889fb488d6b03488b4424084801e84883c4185b5dc366662e0f1f8400000000000f1f400041544156" +
	"4989f631c04531e4430fb60c266bc01f01c849ffc44181e4ff03000048ffcf75e7415e415cc3660f1f4400004883ec284889" +
	"3c2448c744240800000000488b442408488d044048030424488944240848ff0c2475e8488b4424084883c428c366662e0f1f" +
	"8400000000006690488b3648ffcf75f84889f0c30f1f400031c0837e0805740648034610eb04482b4618ff46088366080748" +
	"ffcf75e4c3"

var loopPrograms = []struct {
	name string
	off  uint64
}{{"calls", 0}, {"bytes", 0x60}, {"locals", 0x90}, {"chase", 0xd0}, {"fields", 0xe0}}

// BenchmarkCode compares the speed of translated code with that of the program's own: ns per iteration of a loop, and
// the ratio.
func BenchmarkCode(b *testing.B) {
	code, err := hex.DecodeString(loopCode)
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range []struct {
		name string
		o    btc.Options
	}{{"", btc.Options{}}, {"-notag", btc.Options{NoTagCheck: true}}, {"-nosuper", btc.Options{NoSuperblocks: true}}} {
		for _, l := range loopPrograms {
			b.Run(l.name+o.name, func(b *testing.B) {
				w := newWorld(b)
				w.opts = o.o
				w.setCode(code)
				at := dataAt(512)
				for _, m := range [][]byte{w.native, w.btc} {
					binary.LittleEndian.PutUint64(m[512:], at)
				}
				const n = 5_000_000
				s := state{rip: lowBase + l.off}
				s.gpr[7], s.gpr[6], s.gpr[4] = n, at, dataAt(4*pageSize+2048)
				binary.LittleEndian.PutUint64(w.native[4*pageSize+2048:], lowBase+uint64(len(code)))
				copy(w.btc, w.native)
				var native, translated time.Duration
				for range b.N {
					start := time.Now()
					if out := w.o.run(b, s); out.sig != syscall.SIGTRAP {
						b.Fatalf("%v at %#x", out.sig, out.rip)
					}
					native += time.Since(start)
					translated += w.timed(b, s)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(native.Nanoseconds())/float64(b.N)/n, "ns-native")
				b.ReportMetric(float64(translated.Nanoseconds())/float64(b.N)/n, "ns-btc")
				b.ReportMetric(float64(translated)/float64(native), "ratio")
			})
		}
	}
}

// timed runs translated code from s to the end, entering again wherever the Go runtime made it leave.
func (w *world) timed(b *testing.B, s state) time.Duration {
	w.th.Flush()
	hints := path.Hints{}
	var blobs []*machine.Installed
	defer func() {
		for _, in := range blobs {
			w.m.Retire(in)
		}
	}()
	codes := map[uint64]machine.Code{}
	var spent time.Duration
	for exits := 0; ; exits++ {
		c, ok := codes[s.rip]
		if !ok {
			_, in, err := w.translate(b, []uint64{s.rip}, hints)
			if err != nil {
				return spent
			}
			blobs = append(blobs, in)
			c, _ = in.Entry(s.rip)
			codes[s.rip] = c
		}
		start := time.Now()
		x, next := w.enter(c, s)
		spent += time.Since(start)
		if x.Reason == machine.ExitMiss {
			hints[x.From] = append(hints[x.From], next.rip)
		}
		if x.Reason == machine.ExitStop || x.Reason == machine.ExitFault || exits > 10000 {
			if w.code[next.rip-lowBase] != 0xcc {
				b.Fatal(fmt.Sprintf("%v at %#x", x.Reason, next.rip))
			}
			return spent
		}
		s = next
	}
}
