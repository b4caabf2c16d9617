package codebench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ub/sentry/machine"
)

// Bench is the program in this process. Its methods belong to one goroutine.
type Bench struct {
	m     *machine.Machine
	w     *machine.Window
	th    *machine.Thread
	area  []byte // of the thread, see newArea
	p     *program
	n     *native
	arena arena
	work  []Workload
	gc    int
	mask  sigset
	flags map[string]bool
}

// New compiles and loads the program. Until Close, the goroutine stays on its thread, which gets no signals, and there is no
// garbage collection: both would make translated code leave.
func New(dir string) (b *Bench, err error) {
	if err := machine.Supported(); err != nil {
		return nil, err
	}
	bin, err := build(dir)
	if err != nil {
		return nil, err
	}
	b = &Bench{flags: cpuFlags()}
	runtime.LockOSThread()
	b.gc = debug.SetGCPercent(-1)
	if b.mask, err = quiet(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
			b = nil
		}
	}()
	if b.p, err = load(bin); err != nil {
		return b, err
	}
	if b.work, err = b.p.workloads(); err != nil {
		return b, err
	}
	if b.n, err = newNative(b.p); err != nil {
		return b, err
	}
	if b.m, err = machine.New(machine.Options{Windows: 1, Threads: 2, ArenaSize: 64 << 20}); err != nil {
		return b, err
	}
	if b.w, err = b.m.NewWindow(); err != nil {
		return b, err
	}
	for _, m := range b.p.maps {
		if err := b.w.Map(m.start, m.end-m.start, int(b.p.file.Fd()), int64(m.start-textBase), m.read, m.write); err != nil {
			return b, err
		}
	}
	if b.th, err = b.m.NewThread(); err != nil {
		return b, err
	}
	if b.area, err = newArea(); err != nil {
		return b, err
	}
	if err := b.th.LoadVec(b.area); err != nil {
		return b, err
	}
	b.arena, err = findArena(uintptr(b.m.Env().Syms[0]))
	return b, err
}

// Close gives everything back.
func (b *Bench) Close() error {
	var errs []error
	if b.th != nil {
		b.th.Free()
	}
	if b.w != nil {
		b.w.Release()
	}
	if b.m != nil {
		errs = append(errs, b.m.Close())
	}
	if b.n != nil {
		b.n.close()
	}
	if b.p != nil {
		b.p.close()
	}
	debug.SetGCPercent(b.gc)
	_, err := setMask(b.mask)
	runtime.UnlockOSThread()
	return errors.Join(append(errs, err)...)
}

// cpuFlags returns the processor's features as /proc/cpuinfo names them.
func cpuFlags() map[string]bool {
	out := map[string]bool{}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			for _, f := range strings.Fields(value) {
				out[f] = true
			}
			break
		}
	}
	return out
}

// Workloads returns those that this processor can run.
func (b *Bench) Workloads() []Workload {
	return slices.DeleteFunc(slices.Clone(b.work), func(w Workload) bool {
		return slices.ContainsFunc(w.Needs, func(f string) bool { return !b.flags[f] })
	})
}

// Result is a workload measured.
type Result struct {
	Workload
	Native   []float64 // ns per iteration, by round
	Variants []Variant // in the order of the rules asked for
}

// Variant is the translation of a workload without some rules.
type Variant struct {
	Without Rule
	NS      []float64 // per iteration, by round
	// Natively is the share of the time in which what is not translated ran natively; Exits how often that was, per run.
	Natively float64
	Exits    float64
	// Why says what is not translated, or what else went wrong: then there may be no NS.
	Why string
	// Patched is how many places of the code were changed to leave rules out.
	Patched int
	// Bytes is the size of the translation.
	Bytes int
}

const (
	targetTime = time.Millisecond // of one native run: short, so that little happens to the machine meanwhile
	growRuns   = 2048             // iterations, at most, of the runs in which paths grow
	// deadTime is after what time a run is taken for one that never ends: with rules left out, code may do anything.
	deadTime = 30 * time.Second
)

// Measure measures a workload, natively and without each of the rules by turns.
func (b *Bench) Measure(w Workload, rounds int, without []Rule) (*Result, error) {
	dead := time.AfterFunc(deadTime+time.Duration(rounds)*time.Second, func() {
		fmt.Fprintf(os.Stderr, "codebench: %s does not end\n", w.Name)
		os.Exit(3)
	})
	defer dead.Stop()
	res := &Result{Workload: w}
	n := b.calibrate(w)
	small := min(n, growRuns)
	wantSmall, want := b.call(w, small), b.call(w, n)

	var engines []*engine
	for _, rules := range without {
		e := b.newEngine(w.addr, rules.options())
		defer e.drop()
		v := Variant{Without: rules}
		if err := e.grow(small); err != nil {
			v.Why = err.Error()
		}
		for _, in := range e.blobs {
			v.Bytes += len(in.Blob.Code)
		}
		if v.Why == "" && rules&^Tags != 0 {
			for _, in := range e.blobs {
				code, k, err := patched(b.m.Bytes(in), in.Blob, rules)
				if err == nil {
					err = b.arena.write(in, code)
				}
				if err != nil {
					v.Why = err.Error()
				}
				v.Patched += k
			}
		}
		if v.Why == "" {
			if got, _ := e.run(small, false, func(bool) {}); got != wantSmall {
				v.Why = fmt.Sprintf("WRONG: the result is %#x, natively %#x", got, wantSmall)
			}
			e.c = counts{}
		}
		engines = append(engines, e)
		res.Variants = append(res.Variants, v)
	}
	natively := make([]time.Duration, len(without))
	total := make([]time.Duration, len(without))
	for range rounds {
		began := cpuTime()
		b.call(w, n)
		res.Native = append(res.Native, float64(cpuTime()-began)/float64(n))
		for i, e := range engines {
			v := &res.Variants[i]
			if v.Why != "" {
				continue
			}
			// What the others have bound is not of use, and what is missed at first is bound then.
			b.th.Flush()
			e.run(small, false, func(bool) {})
			e.c = counts{}
			var nativeBegan time.Duration
			began := cpuTime()
			got, _ := e.run(n, false, func(begin bool) {
				if begin {
					nativeBegan = cpuTime()
				} else {
					natively[i] += cpuTime() - nativeBegan
				}
			})
			took := cpuTime() - began
			total[i] += took
			v.NS = append(v.NS, float64(took)/float64(n))
			v.Exits += float64(e.c.outside()) / float64(rounds)
			if got != want {
				v.Why = fmt.Sprintf("WRONG: the result is %#x, natively %#x", got, want)
			}
		}
	}
	for i, e := range engines {
		v := &res.Variants[i]
		if total[i] > 0 {
			v.Natively = float64(natively[i]) / float64(total[i])
		}
		if v.Why == "" {
			v.Why = e.c.why()
		}
	}
	return res, nil
}

// why names the place where a run left translated code most often.
func (c *counts) why() string {
	best, n := "", 0
	for s, k := range c.at {
		if k > n || k == n && s < best {
			best, n = s, k
		}
	}
	return best
}

// cpuTime is the processor time of this thread. What others take of the processor is not in it.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // every Linux has it
	}
	return time.Duration(t.Nano())
}

// call runs a workload natively.
func (b *Bench) call(w Workload, n uint64) uint64 {
	var gpr [16]uint64
	gpr[7], gpr[4] = n, b.n.call()
	return b.n.run(&gpr, w.addr, 0x202, b.p.fsBase, 0)
}

// calibrate returns the number of iterations that take about targetTime natively.
func (b *Bench) calibrate(w Workload) uint64 {
	for n := uint64(16); ; n *= 2 {
		began := cpuTime()
		b.call(w, n)
		if d := cpuTime() - began; d >= targetTime/2 || n >= 1<<30 {
			return max(n, uint64(float64(n)*float64(targetTime)/float64(d+1)))
		}
	}
}
