#include "textflag.h"

// func ticks() uint64
//
// RDTSC is not ordered with its neighbours. That is fine for what it is used for: times of microseconds, for policy.
TEXT ·ticks(SB), NOSPLIT, $0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET
