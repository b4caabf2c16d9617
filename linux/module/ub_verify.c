// SPDX-License-Identifier: GPL-2.0
/*
 * The verification of a blob: decodes all of it without a gap, checks where
 * entries and jumps lead, cuts it into basic blocks, and hands on to ub_flow.c.
 */
#include "ub_verify_int.h"

const char *ub_verify_rule_name(u32 rule)
{
	static const char *const names[UB_NUM_RULES] = UB_RULE_NAMES;

	return rule < UB_NUM_RULES ? names[rule] : "?";
}

/*
 * How many there can be in code of n bytes. An instruction has at least 1 byte.
 * A block starts at offset 0, at an entry (4 bytes of ENDBR64), behind a jump
 * (2 bytes), or at its target, which is some instruction: of the n bytes, a
 * jump and one more instruction make 2 blocks of 3, which is the most that
 * there can be. To each head leads another jump back (2 bytes), and it begins
 * with a poll (3 bytes).
 */
static u32 max_blocks(u32 n)
{
	return n - n / 3 + 1;
}

static u32 max_heads(u32 n)
{
	return n / 5 + 1;
}

static size_t align8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

size_t ub_verify_workspace(u32 code_len)
{
	size_t n = code_len;

	if (code_len > UB_VERIFY_MAX_CODE)
		return 0;
	return align8(sizeof(struct ub_verifier)) +
	       n * sizeof(struct ub_inst) +
	       max_blocks(n) * sizeof(struct ub_block) +
	       max_heads(n) * align8(sizeof(struct ub_head)) +
	       (n + 2 * (size_t)max_blocks(n)) * sizeof(u32);
}

/* carve() hands out the workspace, what needs more alignment first. */
static void carve(struct ub_verifier *v, u32 len)
{
	u8 *p = (u8 *)v + align8(sizeof(*v));

	v->insts = (struct ub_inst *)p;
	p += len * sizeof(struct ub_inst);
	v->blocks = (struct ub_block *)p;
	p += max_blocks(len) * sizeof(struct ub_block);
	v->heads = (struct ub_head *)p;
	p += max_heads(len) * align8(sizeof(struct ub_head));
	v->at = (u32 *)p;
	v->queue.q = v->at + len;
	v->later.q = v->queue.q + max_blocks(len);
	v->queue.n = 0;
	v->later.n = 0;
	v->ninsts = 0;
	v->nblocks = 0;
	v->nheads = 0;
	v->visiting = UB_NO_BLOCK;
	v->steps = 0;
}

/* read_code() decodes the whole code. */
static u32 read_code(struct ub_verifier *v)
{
	u32 off, err;

	for (off = 0; off < v->len; off++)
		v->at[off] = UB_NO_INST;
	for (off = 0; off < v->len;) {
		struct ub_inst *in = &v->insts[v->ninsts];
		const struct ub_form *f;

		err = ub_decode(v->code, v->len, off, in);
		if (err)
			return ub_refuse(v, off, err);
		f = ub_form(in);
		if (f->vec > v->env->vec)
			return ub_refuse(v, off, UB_RULE_VECTOR);
		if (in->flags & UB_I_LOCK ||
		    (f->flags & UB_F_LOCKS && in->flags & UB_I_MEM))
			v->res->flags |= UB_VERIFY_HAS_LOCK;
		v->at[off] = v->ninsts++;
		off += in->len;
		if (!(v->ninsts & 1023))
			cond_resched();
	}
	return 0;
}

static void mark_leader(struct ub_verifier *v, u32 i)
{
	if (i < v->ninsts)
		v->insts[i].flags |= UB_I_LEADER;
}

static int is_sym(const struct ub_verifier *v, u64 addr)
{
	u32 i;

	for (i = 0; i < UB_NUM_SYMS; i++)
		if (v->env->syms[i] == addr && addr)
			return 1;
	return 0;
}

/* check_jump() checks where a jump leads, and marks the place. */
static u32 check_jump(struct ub_verifier *v, const struct ub_inst *in)
{
	u32 i;

	if (in->imm < 0 || in->imm >= v->len) {
		if (ub_form(in)->flow == UB_JMP && in->len == 5 &&
		    is_sym(v, v->env->base + (u64)in->imm))
			return 0;
		return UB_RULE_TARGET;
	}
	i = v->at[in->imm];
	if (i == UB_NO_INST)
		return UB_RULE_TARGET;
	if (in->imm <= in->off && !ub_is_poll(&v->insts[i]))
		return UB_RULE_BACKWARD;
	mark_leader(v, i);
	return 0;
}

/* check_control() checks entries and jumps, and marks where blocks start. */
static u32 check_control(struct ub_verifier *v)
{
	u32 i, err;

	for (i = 0; i < v->nentries; i++) {
		u32 e = v->entries[i];

		if (e >= v->len || v->at[e] == UB_NO_INST ||
		    !(ub_form(&v->insts[v->at[e]])->flags & UB_F_LANDING))
			return ub_refuse(v, e, UB_RULE_ENTRY);
		mark_leader(v, v->at[e]);
		if (!(i & 1023))
			cond_resched();
	}
	mark_leader(v, 0);
	for (i = 0; i < v->ninsts; i++) {
		struct ub_inst *in = &v->insts[i];

		if (ub_form(in)->flow == UB_NEXT)
			continue;
		mark_leader(v, i + 1);
		err = check_jump(v, in);
		if (err)
			return ub_refuse(v, in->off, err);
	}
	i = v->ninsts - 1;
	if (ub_form(&v->insts[i])->flow != UB_JMP)
		return ub_refuse(v, v->insts[i].off, UB_RULE_END);
	return 0;
}

/*
 * make_blocks() cuts the code at the leaders. The states stay as they are:
 * they are written before reached is set.
 */
static u32 make_blocks(struct ub_verifier *v)
{
	struct ub_block *b = v->blocks;
	u32 i, t;

	for (i = 0; i < v->ninsts; i++) {
		if (v->insts[i].flags & UB_I_LEADER) {
			if (v->nblocks == max_blocks(v->len))	/* cannot be */
				return ub_refuse(v, 0, UB_RULE_INPUT);
			b = &v->blocks[v->nblocks++];
			b->first = i;
			b->head = UB_NO_HEAD;
			b->reached = 0;
			b->queued = 0;
		}
		b->last = i;
		v->insts[i].block = v->nblocks - 1;
	}
	for (i = 0; i < v->ninsts; i++) {
		t = ub_jumps_to(v, &v->insts[i]);
		if (t == UB_NO_INST || t > i)
			continue;
		b = &v->blocks[v->insts[t].block];
		if (b->head != UB_NO_HEAD)
			continue;
		if (v->nheads == max_heads(v->len))	/* cannot be */
			return ub_refuse(v, 0, UB_RULE_INPUT);
		b->head = v->nheads;
		v->heads[v->nheads++].visited = 0;
	}
	return 0;
}

/* may_fault() tells whether an instruction may raise an exception. */
static int may_fault(const struct ub_inst *in)
{
	const struct ub_form *f = ub_form(in);

	if (f->fx == UB_FX_MOVS || f->fx == UB_FX_STOS ||
	    f->flags & UB_F_RAISES || f->vec)
		return 1;
	return in->msize && (in->flags & UB_I_PROGRAM || in->base == UB_RBP);
}

/* ub_check_faults() checks that whatever may fault has a landing place. */
u32 ub_check_faults(struct ub_verifier *v)
{
	const u32 *known = v->env->faults;
	u32 i, n = 0;

	if (!known)
		return 0;
	for (i = 0; i < v->ninsts; i++) {
		const struct ub_inst *in = &v->insts[i];

		while (n < v->env->nfaults && known[n] < in->off)
			n++;
		if (n < v->env->nfaults && known[n] == in->off)
			continue;
		if (may_fault(in))
			return ub_refuse(v, in->off, UB_RULE_FAULT);
		if (!(i & 1023))
			cond_resched();
	}
	return 0;
}

/* check_input() refuses what offsets here could not express, and the lower half. */
static u32 check_input(u32 len, const struct ub_verify_env *env)
{
	u64 upper = (u64)0xffff8000 << 32;

	return !len || len > UB_VERIFY_MAX_CODE || env->base < upper ||
	       env->base >= -(u64)len;
}

int ub_verify(const u8 *code, u32 len, const u32 *entries, u32 nentries,
	      const struct ub_verify_env *env, void *workspace, size_t size,
	      struct ub_verify_result *res)
{
	struct ub_verifier *v = workspace;

	res->rule = 0;
	res->off = 0;
	res->flags = 0;
	if (check_input(len, env)) {
		res->rule = UB_RULE_INPUT;
		return -EINVAL;
	}
	if (size < ub_verify_workspace(len) || (uintptr_t)workspace & 7)
		return -ENOMEM;
	v->code = code;
	v->len = len;
	v->entries = entries;
	v->nentries = nentries;
	v->env = env;
	v->res = res;
	carve(v, len);
	if (read_code(v) || check_control(v))
		return -EINVAL;
	if (make_blocks(v) || ub_flow(v) || ub_check_memory(v) ||
	    ub_check_faults(v))
		return -EINVAL;
	return 0;
}

int ub_verify_starts(const void *workspace, u32 off)
{
	const struct ub_verifier *v = workspace;

	return off < v->len && v->at[off] != UB_NO_INST;
}
