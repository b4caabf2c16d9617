#include "textflag.h"
#include "go_asm.h"

// Offsets in ucontext_t of the saved registers (uc_mcontext.gregs) and in siginfo_t.
#define UC_RSP	0xa0
#define UC_RIP	0xa8
#define SI_CODE	0x08
#define SI_ADDR	0x10

#define SIGBUS	7
#define BUS_MCEERR_AO	5

// INSIDE jumps to out unless the interrupted RIP is in the arena and the interrupted RSP is the start of a context
// block, which it then leaves in CX. Both tests are against fixed bounds: no memory of the interrupted code is read.
// When there is no Machine the sizes are 0 and nothing is inside.
#define INSIDE(out) \
	MOVQ	UC_RIP(DX), AX; \
	SUBQ	·arenaLo(SB), AX; \
	CMPQ	AX, ·arenaSize(SB); \
	JAE	out; \
	MOVQ	UC_RSP(DX), CX; \
	MOVQ	CX, AX; \
	SUBQ	·blocksLo(SB), AX; \
	CMPQ	AX, ·blocksSize(SB); \
	JAE	out; \
	LEAQ	-const_blockOffset(CX), AX; \
	TESTQ	$0xfff, AX; \
	JNE	out

// faultHandler handles SIGSEGV, SIGBUS, SIGFPE and SIGILL: DI = signal, SI = siginfo, DX = ucontext, as the kernel calls it, on
// the signal stack. A fault of translated code continues at the landing trampoline with everything else unchanged;
// any other goes to the handler that was there before, which finds registers and stack as the kernel left them (but
// for AX and CX, which are not arguments).
//
// It must not touch what belongs to Go: it runs at any time, with a g that is not expecting it, so it uses no stack, no
// g and no register that a C function must preserve.
TEXT ·faultHandler(SB), NOSPLIT|NOFRAME, $0
	// Sent by kill and the like (code <= 0), or a machine check reported to whoever runs: not caused by this RIP.
	CMPL	SI_CODE(SI), $0
	JLE	chain
	CMPL	DI, $SIGBUS
	JNE	caused
	CMPL	SI_CODE(SI), $BUS_MCEERR_AO
	JEQ	chain
caused:
	INSIDE(chain)
	MOVQ	UC_RIP(DX), AX
	MOVQ	AX, block_faultPC(CX)
	MOVQ	SI_ADDR(SI), AX
	MOVQ	AX, block_faultAddr(CX)
	MOVQ	·landing(SB), AX
	MOVQ	AX, UC_RIP(DX)
	RET
chain:
	MOVLQZX	DI, AX
	LEAQ	·previous(SB), CX
	MOVQ	(CX)(AX*8), AX
	JMP	AX

// urgHandler handles SIGURG, by which the Go runtime asks a thread to reach a safe point: translated code then leaves at
// its next poll. The runtime's own handler runs in any case. What block.disarm does is done here: the block's poll is
// cleared, and the page below it, which polls read, made unreadable by mprotect. The system call changes AX, CX and R11; the
// arguments are kept in R8 to R10, which neither it nor C functions need preserved.
TEXT ·urgHandler(SB), NOSPLIT|NOFRAME, $0
	INSIDE(chain)
	MOVQ	$0, block_poll(CX)
	MOVQ	DI, R8
	MOVQ	SI, R9
	MOVQ	DX, R10
	LEAQ	-(4096+const_blockOffset)(CX), DI
	MOVL	$4096, SI
	XORL	DX, DX		// PROT_NONE
	MOVL	$10, AX		// mprotect
	SYSCALL
	MOVQ	R8, DI
	MOVQ	R9, SI
	MOVQ	R10, DX
chain:
	MOVLQZX	DI, AX
	LEAQ	·previous(SB), CX
	MOVQ	(CX)(AX*8), AX
	JMP	AX

// func faultHandlerAddr() uintptr
TEXT ·faultHandlerAddr(SB), NOSPLIT, $0-8
	MOVQ	$·faultHandler(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func urgHandlerAddr() uintptr
TEXT ·urgHandlerAddr(SB), NOSPLIT, $0-8
	MOVQ	$·urgHandler(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
