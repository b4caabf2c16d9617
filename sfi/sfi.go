// Package sfi decides whether the finished bytes of a blob may run inside the Sentry, or in Linux' kernel mode.
//
// It proves, on those bytes alone, that whatever the registers hold and whatever the program's memory holds, the code
// touches nothing but the program's memory, a few slots of the context block and the poll word, executes nothing but instructions of the
// allow-list (forms.txt), and leaves only through the trampolines. docs/sfi.md is the policy with its reasons;
// docs/btc-machine.md and, for Linux, docs/kernel-module.md are the contracts with the runtime that the proof rests on.
//
// How: opcode.go and decode.go read the bytes from the first to the last, once, into a list of instructions; control.go checks where
// jumps and entries lead; flow.go computes what is known about each register at each place; memory.go checks each memory
// operand against that. There is no recursion, and every loop is bounded by the length of the code.
package sfi

import (
	"sync"

	"ub/target"
)

// MaxCode is the size of the largest blob that Verify looks at, in bytes.
const MaxCode = 1 << 20

// Env is what a blob may know about its surroundings.
type Env struct {
	// Syms are the absolute addresses of the trampolines, by target.Sym. 0: there is none.
	Syms [target.NumSyms]uint64
	// Vec is the vector state that the runtime loads before the blob is entered and stores after it: that of the blob's
	// level. What is above it belongs to the host.
	Vec target.Vec
	// Kernel is where the blob will run. The zero value is the Sentry.
	Kernel target.Kernel
	// Faults are the offsets of the instructions for which the runtime knows what to do when they raise an exception,
	// ascending. nil: that is not checked.
	Faults []uint32
}

// Verify checks the final bytes of a blob that will run at base. entries are the offsets in code at which it may be
// entered, with arbitrary contents of all registers but RSP and the GS base (in Linux RSP and RBP). It returns nil or an *Error, the first
// that it finds. Verify keeps no reference to code or entries, may run in several goroutines at once, and takes a time
// proportional to len(code).
func Verify(code []byte, base uint64, entries []uint32, env Env) error {
	v := verifiers.Get().(*verifier)
	defer v.release()
	v.firstOnly = true
	v.run(code, base, entries, env)
	if len(v.errs) != 0 {
		return v.errs[0]
	}
	return nil
}

// verifier is the state of one verification. Its slices are kept for the next one.
type verifier struct {
	table   *table
	machine *machine
	code    []byte
	base    uint64
	env     Env

	insts   []inst
	at      []int32 // by offset: index in insts of the instruction that starts there, or -1
	blocks  []block
	heads   []head
	queue   heap  // blocks whose state has changed, still to be visited in this sweep
	later   heap  // and in the next one
	current int32 // the block that is being visited
	steps   int   // instructions that the dataflow has stepped over, at most maxSteps times len(insts)

	firstOnly bool // stop at the first error
	errs      []*Error
}

var verifiers = sync.Pool{New: func() any { return new(verifier) }}

func (v *verifier) release() {
	v.code, v.errs = nil, nil
	verifiers.Put(v)
}

// fail notes an error, if there is one, and tells whether to stop.
func (v *verifier) fail(err *Error) bool {
	if err != nil {
		v.errs = append(v.errs, err)
	}
	return err != nil && v.firstOnly
}

// run goes through the phases. Each of them relies on what the earlier ones have established.
func (v *verifier) run(code []byte, base uint64, entries []uint32, env Env) {
	v.code, v.base, v.env = code, base, env
	v.insts, v.blocks, v.errs = v.insts[:0], v.blocks[:0], nil
	v.queue, v.later, v.current, v.steps = v.queue[:0], v.later[:0], -1, 0
	if v.fail(v.checkInput()) || len(v.errs) != 0 {
		return
	}
	v.table, v.machine = tableFor(env.Kernel), &machines[env.Kernel]
	decoded := v.decode()
	if !decoded && v.firstOnly {
		return
	}
	if v.checkControl(decoded, entries) {
		return
	}
	v.makeBlocks()
	if v.solve(entries) {
		v.checkMemory()
		v.checkFaults()
	}
}

// checkInput refuses what the offsets of this package could not express. Code in the upper half could not be the Sentry's, and
// that in the lower half not Linux'.
func (v *verifier) checkInput() *Error {
	switch n := uint64(len(v.code)); {
	case n == 0:
		return refuse(0, RuleInput, "the blob is empty")
	case v.env.Kernel >= target.NumKernels:
		return refuse(0, RuleInput, "no kernel %d", v.env.Kernel)
	case n > MaxCode:
		return refuse(0, RuleInput, "%d bytes are more than %d", n, MaxCode)
	case v.env.Kernel == target.Linux && (v.base < 0xffff<<48|1<<47 || v.base >= -n):
		return refuse(0, RuleInput, "base %#x is not an address of the upper half", v.base)
	case v.env.Kernel == target.Sentry && v.base >= 1<<47-n:
		return refuse(0, RuleInput, "base %#x is not an address of the lower half", v.base)
	}
	return nil
}

// decode reads the whole code, without a gap. It tells whether it came to the end.
func (v *verifier) decode() bool {
	v.at = append(v.at[:0], make([]int32, len(v.code))...)
	for i := range v.at {
		v.at[i] = -1
	}
	for off := uint32(0); off < uint32(len(v.code)); {
		v.insts = append(v.insts, inst{})
		in := &v.insts[len(v.insts)-1]
		if err := v.table.decode(v.code, off, in); err != nil {
			v.insts = v.insts[:len(v.insts)-1]
			v.fail(err)
			return false
		}
		if need := in.form.vec; need > v.env.Vec {
			if v.fail(refuse(off, RuleVector, "%s needs the vector level %v, the blob has %v: these registers belong to the host", in.form.mnemonic, need, v.env.Vec)) {
				return false
			}
		}
		v.at[off] = int32(len(v.insts) - 1)
		off += uint32(in.len)
	}
	return true
}
