package machine

import "ub/target"

// The trampolines are the trusted code at the start of the arena: the only code in it that no verifier looks at. All of
// it runs with RSP at a context block, but for the first instruction of entry and the last of leave.
//
// The program's flags are in RFLAGS wherever translated code may continue, so until leave has stored them only
// instructions that leave flags alone are used; in entry, the flags are loaded first and the registers after them.

// Offsets in the dispatch table. A set is a cache line of entries of 16 bytes: the key, negated, and the code to continue at. Being
// negated, key and target are compared by adding them and looking for 0, which needs no flags. A server dispatches to some 500
// targets: with sets of two, three of them shared one somewhere, and each pass through a gap had about one miss for that.
const (
	tableEntrySize = 16
	tableWays      = 4
	tableSetBits   = 11
	tableSetShift  = 6 // log2(tableWays * tableEntrySize)
	tableSize      = 1 << (tableSetBits + tableSetShift)
	tablesSize     = uintptr(target.NumVecs) * tableSize
	tableHashMask  = (1<<tableSetBits - 1) << tableSetShift
	tableHashRot   = 9 // target + target rotated right by this: calls to aligned functions differ in their higher bits
)

// trampolines holds the bytes of all trampolines and where each of them starts.
type trampolines struct {
	code    []byte
	entry   int
	landing int
	syms    [target.NumSyms]int
}

// makeTrampolines generates the trampolines. They are position independent and the same in every process.
func makeTrampolines() trampolines {
	var e emitter
	entryTrampoline(&e)
	loadVectorCold(&e)
	e.align(64)
	dispatchTrampoline(&e)
	e.align(64)
	exitTrampolines(&e)
	storeVectorCold(&e)
	t := trampolines{code: e.finish(), entry: e.labels["entry"], landing: e.labels["landing"]}
	t.syms[target.SymSyscall] = e.labels["syscall"]
	t.syms[target.SymDispatch] = e.labels["dispatch"]
	t.syms[target.SymStop] = e.labels["stop"]
	return t
}

// SymOffsets returns where each symbol's trampoline is, in bytes from the start of the arena, which is page-aligned. With
// them the external jumps of a blob can be named by somebody who has only its bytes.
func SymOffsets() [target.NumSyms]int { return makeTrampolines().syms }

// entryTrampoline: called from Go (enter_amd64.s) with RDI = context block and GS base set.
func entryTrampoline(e *emitter) {
	e.label("entry")
	e.store(rDI, offHostSP, rSP)
	e.mov(rSP, rDI)
	// Virtual registers and the FS base into their slots.
	for _, m := range virtualRegs {
		e.load(rAX, rSP, m.reg)
		e.store(rSP, m.slot, rAX)
	}
	e.load(rAX, rSP, offRegFSBase)
	e.store(rSP, target.SlotFSBase, rAX)
	loadVector(e)
	// Flags: OF by an addition that overflows just when it was set, the other five by SAHF, which leaves OF alone.
	// POPF would do it in one instruction, and costs more than all of entry.
	e.load(rAX, rSP, offFlags)
	e.raw(0x89, 0xc1)       // mov ecx, eax
	e.raw(0xc1, 0xe9, 11)   // shr ecx, 11     OF to bit 0
	e.raw(0x80, 0xe1, 0x01) // and cl, 1
	e.raw(0x88, 0xc4)       // mov ah, al      SF ZF AF PF CF for SAHF
	e.raw(0x80, 0xc1, 0x7f) // add cl, 0x7f    0x7f+1 overflows
	e.raw(0x9e)             // sahf
	for r := rAX; r <= r11; r++ {
		if r != rSP {
			e.load(r, rSP, offGPR+int32(r)*8)
		}
	}
	e.jmpMem(rSP, offCode)
}

// virtualRegs are the registers whose home is a slot: field of Regs and slot.
var virtualRegs = [...]struct{ reg, slot int32 }{
	{offGPR + rSP*8, target.SlotRSP},
	{offGPR + r12*8, target.SlotR12},
	{offGPR + r13*8, target.SlotR13},
	{offGPR + r14*8, target.SlotR14},
	{offGPR + r15*8, target.SlotR15},
}

// dispatchTrampoline: target.SymDispatch. R13 = target, R14 = native address of the transfer; R12 and R15 are free.
func dispatchTrampoline(e *emitter) {
	e.label("dispatch")
	e.mov(r12, rCX)
	e.load(rCX, rSP, target.SlotPoll)
	e.jrcxz("fuel")
	e.rorx(r15, r13, tableHashRot)
	e.lea(r15, r15, r13)
	e.pdepMem(r15, r15, rSP, offHashMask)
	e.load(rCX, rSP, offTable)
	e.lea(r15, r15, rCX)
	hits := [tableWays]string{"hit0", "hit1", "hit2", "hit3"}
	for i, hit := range hits {
		e.load(rCX, r15, int32(i)*tableEntrySize)
		e.lea(rCX, rCX, r13)
		e.jrcxz(hit)
	}
	e.mov(rCX, r12)
	e.storeImm(rSP, offReason, int32(ExitMiss))
	e.jmp("leave")
	for i, hit := range hits {
		e.label(hit)
		e.mov(rCX, r12)
		e.jmpMem(r15, int32(i)*tableEntrySize+8)
	}
	e.label("fuel")
	e.mov(rCX, r12)
	e.storeImm(rSP, offReason, int32(ExitFuel))
	e.jmp("leave")
}

// exitTrampolines: target.SymStop, target.SymSyscall, the landing place of faults, and the way back to Go they share.
func exitTrampolines(e *emitter) {
	// The signal handler makes a faulting thread continue here, with all registers and flags as they were at the
	// fault. The virtual registers may be in R12..R15, so those are kept too; Run sorts it out.
	e.label("landing")
	for i, r := range []int{r12, r13, r14, r15} {
		e.store(rSP, offNat+int32(i)*8, r)
	}
	e.storeImm(rSP, offReason, int32(ExitFault))
	e.jmp("save")

	e.label("stop")
	e.storeImm(rSP, offReason, int32(ExitStop))
	e.jmp("leave")

	e.align(64)
	e.label("syscall")
	e.storeImm(rSP, offReason, int32(ExitSyscall))

	e.label("leave")
	e.store(rSP, offRIP, r13)
	e.store(rSP, offFrom, r14)

	e.label("save")
	for r := rAX; r <= r11; r++ {
		if r != rSP {
			e.store(rSP, offGPR+int32(r)*8, r)
		}
	}
	e.raw(0x9f)             // lahf
	e.raw(0x0f, 0x90, 0xc0) // seto al
	e.raw(0x0f, 0xb6, 0xc8) // movzx ecx, al
	e.raw(0x0f, 0xb6, 0xc4) // movzx eax, ah
	e.raw(0xc1, 0xe1, 11)   // shl ecx, 11
	e.raw(0x09, 0xc8)       // or eax, ecx
	e.load(rCX, rSP, offFlags)
	e.raw(0x48, 0x81, 0xe1) // and rcx, imm32 (sign-extended)
	e.imm32(^(flagsArith | flagRF))
	e.raw(0x48, 0x09, 0xc8) // or rax, rcx
	e.store(rSP, offFlags, rAX)
	storeVector(e)
	for _, m := range virtualRegs {
		e.load(rAX, rSP, m.slot)
		e.store(rSP, m.reg, rAX)
	}
	// From here on nothing of a blob is used any more (stores become visible in order, so whoever sees seq even knows
	// that this thread has left); trampolines are never freed.
	e.incMem(rSP, offSeq)
	e.load(rSP, rSP, offHostSP)
	e.raw(0xc3) // ret
}
