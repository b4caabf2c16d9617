// SPDX-License-Identifier: GPL-2.0-only
/* The program's registers: from where a chain keeps them to pt_regs. */
#include <linux/ptrace.h>
#include <linux/string.h>

#include "ub.h"

/* What enter.S leaves undone when it does a syscall, but for RAX. */
void ub_complete(struct ub_block *b)
{
	struct pt_regs *regs = b->regs;

	regs->cx = regs->ip;
	regs->r11 = regs->flags;
}

/* Copies the registers that a chain keeps to itself to pt_regs. */
void ub_sync(struct ub_block *b)
{
	struct pt_regs *regs = b->regs;

	if (!b->exact) {
		ub_complete(b);
		regs->ax = -ENOSYS;
	}
	regs->bp = b->rbp;
	regs->r12 = b->r12;
	regs->r13 = b->r13;
	regs->r14 = b->r14;
	regs->r15 = b->r15;
}

/*
 * Rebuilds the program's registers after a fault. Return: its record, which lasts
 * as long as the thread is inside.
 */
const struct ub_fault *ub_recover(struct ub_block *b)
{
	u32 index = (u32)b->fault << 16 | (u16)b->nat[5];
	struct pt_regs *regs = b->regs;
	const struct ub_fault *f;
	struct ub_blob *blob;
	u64 out[16];
	int i;

	f = ub_fault_find(index, &blob);
	if (WARN_ON_ONCE(!f))
		return NULL;
	memcpy(out, b->nat, sizeof(out));
	out[4] = b->rsp;
	out[5] = b->rbp;
	out[12] = b->r12;
	out[13] = b->r13;
	out[14] = b->r14;
	out[15] = b->r15;
	/* All indices were checked when the blob was installed. */
	for (i = 0; i < f->ndirty; i++) {
		const struct ub_dirty *d = &blob->dirty[f->first + i];

		out[d->virt] = b->nat[d->nat] + (s64)d->delta;
	}
	if (f->flags & UB_FAULT_F_STR)
		out[7] = b->nat[f->orig_di] + (b->nat[7] - b->nat[f->start_di]);
	if (f->flags & UB_FAULT_F_SI)
		out[6] = b->nat[f->orig_si] + (b->nat[6] - b->nat[f->start_si]);
	regs->ax = out[0];
	regs->cx = out[1];
	regs->dx = out[2];
	regs->bx = out[3];
	regs->sp = out[4];
	regs->si = out[6];
	regs->di = out[7];
	regs->r8 = out[8];
	regs->r9 = out[9];
	regs->r10 = out[10];
	regs->r11 = out[11];
	regs->ip = f->rip;
	regs->flags = b->flags | (b->nat_flags & UB_FLAGS);
	/* From here on the slots are right again, too. */
	b->rsp = out[4];
	b->rbp = out[5];
	b->r12 = out[12];
	b->r13 = out[13];
	b->r14 = out[14];
	b->r15 = out[15];
	return f;
}
