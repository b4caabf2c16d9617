#include "textflag.h"
#include "go_asm.h"

// func enter(b *block, epoch *uint64, trampoline uintptr) bool
//
// Enters translated code at b.code with the registers in b.regs, or returns false, having done nothing, when *epoch is
// not b.epoch or b.poll is 0.
//
// Why this is right with respect to the Go runtime:
//   - It is an ABI0 function, so the caller's wrapper expects no register to survive but SP and BP, and re-establishes
//     R14 (g) and X15 (zero) by itself. BP is saved in the frame by the assembler, since the frame is not empty.
//   - FS, by which the runtime finds g, is not touched. DF is clear on return because translated code cannot set it.
//   - It needs a few dozen bytes of stack at most (one CALL), so NOSPLIT holds. The stack cannot move meanwhile: only
//     the goroutine itself or a stopped one's stack is moved, and there is no safe point in here: assembly has none.
//   - Signals that arrive inside run on the signal stack (the runtime sets SA_ONSTACK) and find an RIP that belongs to
//     no Go function, at which the runtime neither preempts nor unwinds. RSP points at the context block only while RIP
//     is in the arena, so no handler ever unwinds a Go frame with that RSP.
//
// Order matters: seq becomes odd before epoch and poll are read. Retire, Release and StopAndWait change one of these,
// make every thread of the process execute a barrier (membarrier), and then read seq: either we see the change or they
// see us inside.
//
// GS base is written only when it is another window's: WRGSBASE costs more than all the rest of an entry and an exit
// (13 of 28 ns where it was measured), RDGSBASE next to nothing. Nobody else in the process uses GS, and the host's
// kernel keeps it per thread; goroutines change threads, so it cannot be remembered. A mispredicted branch would enter
// speculatively with another program's window, so the block's address is made 0 by data flow unless GS base is right:
// then all that follows speculatively has neither registers nor masks. That is most of what this costs (4 ns).
TEXT ·enter(SB), NOSPLIT, $8-25
	MOVQ	b+0(FP), DI
	MOVQ	epoch+8(FP), BX
	MOVQ	trampoline+16(FP), DX
	MOVQ	block_base(DI), CX
	XORL	R8, R8
	RDGSBASEQ	AX
	CMPQ	AX, CX
	JNE	window
enter:
	CMOVQNE	R8, DI		// never true but speculatively
	INCQ	block_seq(DI)
	MOVQ	(BX), AX
	CMPQ	AX, block_epoch(DI)
	JNE	stale
	CMPQ	block_poll(DI), $0
	JEQ	stale
	CALL	DX
	MOVB	$1, ret+24(FP)
	RET
window:
	WRGSBASEQ	CX
	CMPQ	AX, AX		// equal, for the CMOV
	JMP	enter
stale:
	INCQ	block_seq(DI)
	MOVB	$0, ret+24(FP)
	RET
