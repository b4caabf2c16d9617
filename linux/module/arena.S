/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The arena. It is a part of the module's text since only there it is executable
 * without a function that is not exported, and since only for addresses in a
 * module the kernel looks into the module's exception table. Here it is NOPs,
 * long ones, because objtool reads all of them; code.c fills it with
 * INT3 before anything else.
 */
#include <linux/objtool.h>

#include "ub_asm.h"

	.section .text.ub_arena, "ax", @progbits
	.p2align 12
	.globl ub_arena
ub_arena:
	ANNOTATE_NOENDBR
	.fill (UB_ARENA_KB << 10) / 8, 8, 0x0000000000841f0f
	.globl ub_arena_end
ub_arena_end:
	/* A page of its own. */
	.p2align 12

	.section .note.GNU-stack, "", @progbits
