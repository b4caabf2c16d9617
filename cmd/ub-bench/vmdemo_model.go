package main

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// estimate makes times per unit, without and with bypass, of counts. The model:
//
//   - A crossing, with entry and exit, is what an empty system call takes, and empty instructions; it takes the time
//     crossing, whatever its instructions.
//   - All other instructions take nsInst each.
//
// Without bypass a unit makes Calls crossings, with it Avoid fewer. What it leaves out: caches, predictors, and that with page
// table isolation a crossing takes longer than on a host without it. Where that is so, give the time.
func estimate(r *vmRow, empty, crossing, nsInst float64) (off, on float64) {
	rest := func(instructions, crossings float64) float64 {
		return crossings*crossing + max(instructions-crossings*empty, 0)*nsInst
	}
	return rest(r.Off, r.Calls), rest(r.On, r.Calls-r.Avoid)
}

// hostCrossing measures an empty system call on this machine, in ns: the best of some batches.
func hostCrossing() float64 {
	const batch = 20000
	var best []float64
	for range 30 {
		began := time.Now()
		for range batch {
			_, _, _ = unix.RawSyscall(unix.SYS_GETUID, 0, 0, 0)
		}
		best = append(best, float64(time.Since(began).Nanoseconds())/batch)
	}
	return slices.Min(best)
}
