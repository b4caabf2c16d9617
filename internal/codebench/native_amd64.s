#include "textflag.h"

// context's fields, see native.go.
#define GPR(n) (8*n)(R15)
#define HOSTSP 144(R15)
#define HOSTBP 152(R15)
#define HOSTFS 160(R15)
#define FLAGS 128(R15)
#define FSBASE 136(R15)
#define XSAVE 168(R15)
#define MXCSR 176(R15)

// func runNative(c *context)
//
// Everything is the program's until it comes to the gate, which jumps to nativeReturn with R11 = c and R10 spoilt: all
// that a function may change. No signal may arrive: handlers expect the FS base of Go.
TEXT ·runNative(SB), NOSPLIT, $0-8
	MOVQ c+0(FP), R15
	MOVQ SP, HOSTSP
	MOVQ BP, HOSTBP
	BYTE $0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xc0 // RDFSBASE RAX
	MOVQ AX, HOSTFS
	MOVQ FSBASE, AX
	BYTE $0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd0 // WRFSBASE RAX
	STMXCSR MXCSR
	MOVQ XSAVE, CX
	TESTQ CX, CX
	JEQ novector
	MOVL $0xe6, AX // SSE, AVX and the three parts of AVX-512; those that do not exist are ignored
	MOVL $0, DX
	BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0x29 // XRSTOR64 [RCX]
novector:
	PUSHQ FLAGS
	POPFQ
	MOVQ GPR(0), AX
	MOVQ GPR(1), CX
	MOVQ GPR(2), DX
	MOVQ GPR(3), BX
	MOVQ GPR(4), SP
	MOVQ GPR(5), BP
	MOVQ GPR(6), SI
	MOVQ GPR(7), DI
	MOVQ GPR(8), R8
	MOVQ GPR(9), R9
	MOVQ GPR(10), R10
	MOVQ GPR(11), R11
	MOVQ GPR(12), R12
	MOVQ GPR(13), R13
	MOVQ GPR(14), R14
	MOVQ GPR(15), R15
	BYTE $0xff; BYTE $0x24; BYTE $0x25; LONG $0x17200800 // JMP *[gateAt + jumpOff]

// nativeReturn continues runNative: RSP is that of after its CALL.
TEXT ·nativeReturn(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ R11, R15
	MOVQ AX, GPR(0)
	MOVQ HOSTFS, AX
	BYTE $0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd0 // WRFSBASE RAX
	LDMXCSR MXCSR
	MOVQ HOSTSP, SP
	XCHGQ BP, HOSTBP // what it holds afterwards does not matter
	CLD
	RET

// func nativeReturnAddr() uintptr
TEXT ·nativeReturnAddr(SB), NOSPLIT, $0-8
	LEAQ ·nativeReturn(SB), AX
	MOVQ AX, ret+0(FP)
	RET
