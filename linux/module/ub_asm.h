/* SPDX-License-Identifier: GPL-2.0-only */
/* What C and assembly both know. */
#ifndef UB_ASM_H
#define UB_ASM_H

/*
 * Offsets in struct ub_block. The first slots are the contract with translated
 * code (docs/kernel-module.md); C checks all of them when it is compiled.
 */
#define UB_B_RSP	0x00
#define UB_B_R12	0x08
#define UB_B_R13	0x10
#define UB_B_R14	0x18
#define UB_B_R15	0x20
#define UB_B_RBP	0x28
#define UB_B_REGS	0x50
#define UB_B_TABLE	0x58
#define UB_B_HASHMASK	0x60
#define UB_B_POLL	0x68
#define UB_B_FROM	0x70
#define UB_B_FAULT	0x78
#define UB_B_NAT	0x80
#define UB_B_NATFLAGS	0x100
#define UB_B_FLAGS	0x108
#define UB_B_LEFT	0x110
#define UB_B_KNOWN	0x118
#define UB_B_KEPT	0x218
#define UB_B_FPU	0x21c
#define UB_B_VECTORS	0x220
/* The whole block; a multiple of 16, plus 8 to align what ub_run() calls. */
#define UB_BLOCK_SIZE	0x388

/*
 * The ways that a chain knows: 8, of 16 bytes, by bits of the address. Those to
 * code with vector registers are apart, so that no processor runs ahead to them
 * before ub_lock() has seen to the registers. More ways would collide less, but
 * each chain begins by clearing them, and many are short.
 */
#define UB_KNOWN_MASK	0x70
#define UB_KNOWN_VECTOR	0x80

/* Syscalls that may be chained have numbers below this. */
#define UB_NR_MAX	512

/*
 * Added to task_struct.pagefault_disabled of a thread that is, or may be, in
 * translated code. That disables page faults, as 1 would.
 */
#define UB_INSIDE	0x10000

/* Why translated code was left. */
#define UB_EXIT_SYSCALL	0
#define UB_EXIT_MISS	1
#define UB_EXIT_STOP	2
#define UB_EXIT_FAULT	3
#define UB_EXIT_FUEL	4

/* The flags that belong to the program: CF PF AF ZF SF OF. */
#define UB_FLAGS	0x8d5
/* An instruction has run since: RF is gone. */
#define UB_FLAG_RF	0x10000

/*
 * The bit of thread_info.syscall_work that marks the threads of enrolled
 * processes. The kernel uses the bits from 0 up, and looks at none but its own.
 */
#define UB_WORK_BIT	31

/* The arena of translated code, in KiB, and what it is allocated in. */
#ifndef UB_ARENA_KB
#define UB_ARENA_KB	4096
#endif
#define UB_GRANULE_SHIFT	8

/*
 * Entries of the exception table for each granule. Translated code has up to
 * one instruction that can fault for each 10 bytes; a blob that has more gets
 * more granules than its code needs.
 */
#define UB_GRANULE_FAULTS	24
#define UB_GRANULES	((UB_ARENA_KB << 10) >> UB_GRANULE_SHIFT)

/*
 * A fault's index in the exception table reaches its landing place in two parts:
 * the table can put 16 bits of it into RBP, the rest is which landing it is.
 */
#define UB_LANDINGS	((UB_GRANULES * UB_GRANULE_FAULTS + 0xffff) >> 16)
#define UB_LANDING_SHIFT	4

/*
 * The dispatch tables: 1 << UB_TABLE_BITS sets of ways of 16 bytes, a cache line
 * each. A server has a thousand entries: were there two ways, a dozen of them
 * would find no place, and chains end where they are needed.
 */
#define UB_TABLE_BITS	12
#define UB_TABLE_WAYS	4
#define UB_TABLE_SHIFT	6
#define UB_TABLE_ROT	9
#define UB_TABLE_MASK	(((1 << UB_TABLE_BITS) - 1) << UB_TABLE_SHIFT)

#endif
