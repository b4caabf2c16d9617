// SPDX-License-Identifier: GPL-2.0-only
/*
 * UB_INSTALL. Whatever user space gives is copied first and checked then; code is
 * verified as the bytes that will run, at the address where they will.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ub.h"
#include "ub_verify.h"

#define UB_JMP_REL32	0xe9

/* No enrolment gets more of the arena than this. */
#define UB_MAX_GRANULES	(UB_GRANULES / 2)

void ub_blob_free(struct ub_blob *blob)
{
	ub_source_unpin(blob);
	kvfree(blob->code);
	kvfree(blob->source);
	kvfree(blob->relocs);
	kvfree(blob->entries);
	kvfree(blob->faults);
	kvfree(blob->dirty);
	kvfree(blob->ranges);
	kfree(blob);
}

/* Copies an array of n elements of a size. */
static int ub_copy(void *to, u64 from, u32 n, size_t size)
{
	void *p = NULL;

	if (n) {
		p = vmemdup_user(u64_to_user_ptr(from), (size_t)n * size);
		if (IS_ERR(p))
			return PTR_ERR(p);
	}
	*(void **)to = p;
	return 0;
}

static int ub_check_ranges(struct ub_blob *blob, u32 *source_len, u32 *bad)
{
	u64 last = 0, sum = 0;
	u32 i;

	for (i = 0; i < blob->nranges; i++) {
		const struct ub_range *r = &blob->ranges[i];

		*bad = i;
		if (r->start < last || r->end <= r->start || r->end > UB_USER_END)
			return -EINVAL;
		last = r->end;
		sum += r->end - r->start;
		if (sum > UB_MAX_SOURCE)
			return -E2BIG;
	}
	*source_len = sum;
	return 0;
}

/* Copies all that the argument points at. What was copied is freed with blob. */
static int ub_copy_all(struct ub_blob *blob, struct ub_install *arg)
{
	u32 source_len;
	int ret;

	if (!arg->code_len || !arg->nentries || !arg->nranges || arg->reserved)
		return -EINVAL;
	if (arg->code_len > UB_MAX_CODE || arg->nrelocs > UB_MAX_RELOCS ||
	    arg->nentries > UB_MAX_ENTRIES || arg->nfaults > UB_MAX_FAULTS ||
	    arg->ndirty > UB_MAX_DIRTY || arg->nranges > UB_MAX_RANGES)
		return -E2BIG;
	if (arg->vec > ub_vec)
		return arg->vec > 2 ? -EINVAL : -EOPNOTSUPP;
	blob->vec = arg->vec;
	blob->code_len = arg->code_len;
	blob->nrelocs = arg->nrelocs;
	blob->nentries = arg->nentries;
	blob->nfaults = arg->nfaults;
	blob->ndirty = arg->ndirty;
	blob->nranges = arg->nranges;
	ret = ub_copy(&blob->ranges, arg->ranges, arg->nranges,
		      sizeof(*blob->ranges));
	if (ret)
		return ret;
	ret = ub_check_ranges(blob, &source_len, &arg->off);
	if (ret)
		return ret;
	ret = ub_copy(&blob->source, arg->source, source_len, 1);
	if (ret)
		return ret;
	ret = ub_copy(&blob->code, arg->code, arg->code_len, 1);
	if (ret)
		return ret;
	ret = ub_copy(&blob->relocs, arg->relocs, arg->nrelocs,
		      sizeof(*blob->relocs));
	if (ret)
		return ret;
	ret = ub_copy(&blob->entries, arg->entries, arg->nentries,
		      sizeof(*blob->entries));
	if (ret)
		return ret;
	ret = ub_copy(&blob->faults, arg->faults, arg->nfaults,
		      sizeof(*blob->faults));
	if (ret)
		return ret;
	return ub_copy(&blob->dirty, arg->dirty, arg->ndirty,
		       sizeof(*blob->dirty));
}

/* A register that a fault finds as it was: not RSP, which is ours, nor RBP. */
static bool ub_native_ok(u8 reg)
{
	return reg < 16 && reg != 4 && reg != 5;
}

static bool ub_fault_ok(const struct ub_blob *blob, const struct ub_fault *f)
{
	u32 i;

	if (f->rip >= UB_USER_END || f->off >= blob->code_len ||
	    f->kind > UB_FAULT_STRING || f->reserved || f->ndirty > 6 ||
	    f->flags & ~(UB_FAULT_F_STR | UB_FAULT_F_SI))
		return false;
	if (f->first > blob->ndirty || f->ndirty > blob->ndirty - f->first)
		return false;
	for (i = 0; i < f->ndirty; i++) {
		const struct ub_dirty *d = &blob->dirty[f->first + i];

		if (d->virt != 4 && d->virt != 5 &&
		    (d->virt < 12 || d->virt > 15))
			return false;
		if (!ub_native_ok(d->nat) || d->reserved)
			return false;
	}
	if (f->flags & UB_FAULT_F_STR &&
	    !(ub_native_ok(f->orig_di) && ub_native_ok(f->start_di)))
		return false;
	if (f->flags & UB_FAULT_F_SI &&
	    !(ub_native_ok(f->orig_si) && ub_native_ok(f->start_si)))
		return false;
	return true;
}

/*
 * Checks all records but the code. They come from a translator that is not
 * trusted: what passes can make a program go wrong, and nothing else.
 */
static int ub_check(const struct ub_blob *blob, u32 *bad)
{
	u32 i;

	for (i = 0; i < blob->nrelocs; i++) {
		const struct ub_reloc *r = &blob->relocs[i];

		*bad = i;
		/* Symbols are reached by jmp rel32 (the verifier decides that). */
		if (r->sym >= UB_NUM_SYMS || blob->code_len < 4 ||
		    r->off > blob->code_len - 4 || !r->off ||
		    blob->code[r->off - 1] != UB_JMP_REL32 ||
		    (i && r->off < blob->relocs[i - 1].off + 4))
			return -EINVAL;
	}
	for (i = 0; i < blob->nentries; i++) {
		const struct ub_entry *e = &blob->entries[i];

		*bad = i;
		if (e->rip >= UB_USER_END || e->off >= blob->code_len ||
		    e->reserved || (i && e->rip <= blob->entries[i - 1].rip))
			return -EINVAL;
	}
	for (i = 0; i < blob->nfaults; i++) {
		*bad = i;
		if (!ub_fault_ok(blob, &blob->faults[i]) ||
		    (i && blob->faults[i].off <= blob->faults[i - 1].off))
			return -EINVAL;
	}
	*bad = 0;
	return 0;
}

static void ub_env(const struct ub_blob *blob, struct ub_verify_env *env)
{
	env->base = blob->base;
	env->syms[UB_SYM_SYSCALL] = (unsigned long)ub_sym_syscall;
	env->syms[UB_SYM_DISPATCH] = (unsigned long)ub_sym_dispatch;
	env->syms[UB_SYM_STOP] = (unsigned long)ub_sym_stop;
	env->vec = blob->vec;
}

static int ub_verify_blob(struct ub_blob *blob, struct ub_install *arg)
{
	struct ub_verify_result res = {};
	struct ub_verify_env env;
	size_t size = ub_verify_workspace(blob->code_len);
	u32 *entries, *faults, i;
	void *space;
	int ret = -ENOMEM;

	ub_env(blob, &env);
	for (i = 0; i < blob->nrelocs; i++) {
		const struct ub_reloc *r = &blob->relocs[i];
		s32 disp = env.syms[r->sym] - (blob->base + r->off + 4);

		memcpy(blob->code + r->off, &disp, sizeof(disp));
	}
	space = kvmalloc(size, GFP_KERNEL);
	entries = kvmalloc_array(blob->nentries, sizeof(*entries), GFP_KERNEL);
	/* One more: without any it must still be an array. */
	faults = kvmalloc_array(blob->nfaults + 1, sizeof(*faults), GFP_KERNEL);
	if (space && entries && faults) {
		for (i = 0; i < blob->nentries; i++)
			entries[i] = blob->entries[i].off;
		for (i = 0; i < blob->nfaults; i++)
			faults[i] = blob->faults[i].off;
		env.faults = faults;
		env.nfaults = blob->nfaults;
		ret = ub_verify(blob->code, blob->code_len, entries,
				blob->nentries, &env, space, size, &res);
		/* Else what is accepted would depend on where the code lies. */
		for (i = 0; i < blob->nrelocs && !ret; i++)
			if (!ub_verify_starts(space, blob->relocs[i].off - 1)) {
				arg->off = i;
				ret = -EBADMSG;
			}
	}
	kvfree(faults);
	kvfree(entries);
	kvfree(space);
	if (ret == -EBADMSG)
		return -EINVAL;	/* a relocation that is no jump's */
	if (ret == -EINVAL) {
		arg->rule = res.rule;
		arg->off = res.off;
		ret = -ENOEXEC;
	}
	if (!ret && res.flags & UB_VERIFY_HAS_LOCK &&
	    ub_facts & UB_FACT_SPLIT_LOCK)
		ret = -EOPNOTSUPP;
	return ret;
}

/* From here on invalidations of the blob's source are noticed. */
static int ub_watch(struct ub_enrolment *e, struct ub_blob *blob)
{
	int tries;

	spin_lock(&e->lock);
	e->pending = blob;
	e->pending_hit = false;
	WRITE_ONCE(e->lo, min_t(u64, e->lo, blob->ranges[0].start));
	WRITE_ONCE(e->hi, max_t(u64, e->hi, blob->ranges[blob->nranges - 1].end));
	spin_unlock(&e->lock);
	/* Pairs with ub_invalidate_start(). */
	smp_mb();
	/* Those that had begun before may be in the midst of changing it. */
	for (tries = 0; atomic_read(&e->invalidations); tries++) {
		if (tries == 50)
			return -EAGAIN;
		if (schedule_timeout_interruptible(1) && signal_pending(current))
			return -EINTR;
	}
	return 0;
}

/* Makes the code reachable, unless its source has changed. */
static int ub_publish(struct ub_enrolment *e, struct ub_blob *blob)
{
	int ret = 0;

	spin_lock(&e->lock);
	e->pending = NULL;
	if (e->dead) {
		ret = -ESRCH;
	} else if (e->pending_hit) {
		ret = -EAGAIN;
	} else {
		blob->id = e->next_id++;
		list_add_tail(&blob->link, &e->blobs);
		e->nblobs++;
		e->ngranules += blob->granules;
		e->installs++;
		ub_table_add(e, blob);
	}
	spin_unlock(&e->lock);
	return ret;
}

static int ub_install_mm(struct ub_enrolment *e, struct ub_blob *blob)
{
	int ret;

	if (!mmget_not_zero(e->mm))
		return -ESRCH;
	ret = ub_watch(e, blob);
	if (!ret)
		ret = ub_source_pin(e, blob);
	if (!ret)
		ret = ub_source_same(e, blob);
	if (ret) {
		spin_lock(&e->lock);
		e->pending = NULL;
		spin_unlock(&e->lock);
	} else {
		ub_code_write(blob);
		ret = ub_publish(e, blob);
	}
	mmput(e->mm);
	return ret;
}

/**
 * ub_install() - install a blob
 * @e: the enrolment; one install at a time
 * @arg: in and out
 */
int ub_install(struct ub_enrolment *e, struct ub_install *arg)
{
	struct ub_blob *blob;
	int ret;

	arg->id = 0;
	arg->base = 0;
	arg->rule = 0;
	arg->off = 0;
	blob = kzalloc(sizeof(*blob), GFP_KERNEL);
	if (!blob)
		return -ENOMEM;
	blob->e = e;
	ret = ub_copy_all(blob, arg);
	if (!ret)
		ret = ub_check(blob, &arg->off);
	if (!ret && (e->nblobs >= UB_MAX_BLOBS ||
		     e->ngranules >= UB_MAX_GRANULES))
		ret = -ENOSPC;
	if (!ret)
		ret = ub_code_alloc(blob);
	if (!ret) {
		ret = ub_verify_blob(blob, arg);
		if (ret == -ENOEXEC)
			e->refused++;
	}
	if (!ret)
		ret = ub_install_mm(e, blob);
	if (ret) {
		ub_code_free(blob);
		ub_blob_free(blob);
		return ret;
	}
	ub_mark_threads(e, true);
	arg->id = blob->id;
	arg->base = blob->base;
	return 0;
}
