// SPDX-License-Identifier: GPL-2.0-only
/*
 * What enter.S must know of C: Kbuild makes ub_offsets.h of this. Our own offsets
 * are in ub_asm.h, being part of the contract with translated code.
 */
#include <linux/kbuild.h>

#include "ub.h"

/* The part of struct ub_block that translated code and enter.S know. */
#define UB_AT(field, off) static_assert(offsetof(struct ub_block, field) == (off))
UB_AT(rsp, UB_B_RSP);
UB_AT(r12, UB_B_R12);
UB_AT(r13, UB_B_R13);
UB_AT(r14, UB_B_R14);
UB_AT(r15, UB_B_R15);
UB_AT(rbp, UB_B_RBP);
UB_AT(fs_base, 0x40);
UB_AT(addr_mask, 0x48);
UB_AT(regs, UB_B_REGS);
UB_AT(table, UB_B_TABLE);
UB_AT(hash_mask, UB_B_HASHMASK);
UB_AT(poll, UB_B_POLL);
UB_AT(from, UB_B_FROM);
UB_AT(fault, UB_B_FAULT);
UB_AT(nat, UB_B_NAT);
UB_AT(nat_flags, UB_B_NATFLAGS);
UB_AT(flags, UB_B_FLAGS);
UB_AT(left, UB_B_LEFT);
UB_AT(known, UB_B_KNOWN);
UB_AT(kept, UB_B_KEPT);
UB_AT(fpu, UB_B_FPU);
UB_AT(vectors, UB_B_VECTORS);
static_assert(sizeof(struct ub_known) == 16);
static_assert(sizeof(struct ub_block) <= UB_BLOCK_SIZE);
static_assert(UB_BLOCK_SIZE % 16 == 8);

static void __used ub_offsets(void)
{
	OFFSET(UB_TASK_FLAGS, task_struct, thread_info.flags);
	OFFSET(UB_TASK_CALL_WORK, task_struct, thread_info.syscall_work);
	OFFSET(UB_TASK_FAULTS, task_struct, pagefault_disabled);
	DEFINE(UB_TASK_WORK, EXIT_TO_USER_MODE_WORK);
	DEFINE(UB_CALL_WORK, UB_WORK);
}
