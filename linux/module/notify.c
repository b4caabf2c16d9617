// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a program's code changes, what was made from it goes first.
 *
 * The kernel tells before it changes or takes away pages of an enrolled process.
 * Before that call returns, the blobs made from the range are out of the tables,
 * and no other thread runs them: the thread that changes the memory waits for
 * that. So nobody runs translated code that is older than what a load of the
 * program would see.
 */
#include <linux/mmu_notifier.h>

#include "ub.h"

static struct ub_enrolment *ub_of(struct mmu_notifier *mn)
{
	return container_of(mn, struct ub_enrolment, mn);
}

static bool ub_overlaps(const struct ub_blob *blob, unsigned long start,
			unsigned long end)
{
	u32 lo = 0, hi = blob->nranges;

	/* The ranges are sorted: find the first that ends after start. */
	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (blob->ranges[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < blob->nranges && blob->ranges[lo].start < end;
}

/* Takes a blob out of use, under e->lock. Its memory stays: see ub_reap(). */
void ub_drop(struct ub_enrolment *e, struct ub_blob *blob)
{
	ub_table_remove(e, blob);
	list_move(&blob->link, &e->dying);
	e->nblobs--;
	e->ngranules -= blob->granules;
	/* Only now: who sees the new epoch sees the table without the blob. */
	smp_wmb();
	WRITE_ONCE(e->epoch, e->epoch + 1);
}

static int ub_invalidate_start(struct mmu_notifier *mn,
			       const struct mmu_notifier_range *range)
{
	struct ub_enrolment *e = ub_of(mn);
	struct ub_blob *blob, *next;
	bool dropped = false;

	atomic_inc(&e->invalidations);
	/* Either we see what ub_install() is about to do, or it sees us. */
	smp_mb__after_atomic();
	switch (range->event) {
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
		/* Fork, write-back: the contents stay, and become less writable. */
		return 0;
	default:
		break;
	}
	if (range->end <= READ_ONCE(e->lo) || range->start >= READ_ONCE(e->hi))
		return 0;
	spin_lock(&e->lock);
	if (e->pending && ub_overlaps(e->pending, range->start, range->end))
		e->pending_hit = true;
	list_for_each_entry_safe(blob, next, &e->blobs, link) {
		if (!ub_overlaps(blob, range->start, range->end))
			continue;
		ub_drop(e, blob);
		ub_event_invalid(e, blob->id);
		e->invalidated++;
		dropped = true;
	}
	spin_unlock(&e->lock);
	if (!dropped)
		return 0;
	/* Only the OOM killer cannot wait, whose victim returns to no user code. */
	if (mmu_notifier_range_blockable(range))
		ub_expel(e);
	queue_work(ub_wq, &e->reap);
	return 0;
}

static void ub_invalidate_end(struct mmu_notifier *mn,
			      const struct mmu_notifier_range *range)
{
	atomic_dec(&ub_of(mn)->invalidations);
}

/* The last thread has left the mm: exec, or exit. */
static void ub_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct ub_enrolment *e = ub_of(mn);
	struct ub_blob *blob, *next;

	spin_lock(&e->lock);
	if (e->dead) {
		spin_unlock(&e->lock);
		return;
	}
	e->dead = true;
	WRITE_ONCE(e->limit, 0);
	list_for_each_entry_safe(blob, next, &e->blobs, link)
		ub_drop(e, blob);
	spin_unlock(&e->lock);
	ub_event_note(e, &e->gone_due);
	queue_work(ub_wq, &e->reap);
}

const struct mmu_notifier_ops ub_mn_ops = {
	.invalidate_range_start = ub_invalidate_start,
	.invalidate_range_end = ub_invalidate_end,
	.release = ub_release,
};
