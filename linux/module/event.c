// SPDX-License-Identifier: GPL-2.0-only
/*
 * What user space is told. A place (a program address, and what happens there) has
 * one element of a table of fixed size, which counts until it is read. So the
 * memory is bounded, nothing is told twice, and a place that is busier than others
 * takes the element of one that is not, when they compete for the same four.
 */
#include <linux/hash.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "ub.h"

#define UB_PLACE_BITS	10
#define UB_PLACE_WAYS	4

struct ub_place {
	u64 rip, from, first;
	u32 type, nr, count, tid;
	bool due;
};

#define UB_PLACES (UB_PLACE_WAYS << UB_PLACE_BITS)
/* Ids of dropped blobs that nobody has been told of yet. */
#define UB_DEAD_IDS (2 * UB_MAX_BLOBS)

int ub_event_init(struct ub_enrolment *e)
{
	spin_lock_init(&e->ev_lock);
	init_waitqueue_head(&e->ev_wait);
	e->places = vcalloc(UB_PLACES, sizeof(*e->places));
	e->dead_ids = kvcalloc(UB_DEAD_IDS, sizeof(u64), GFP_KERNEL);
	return e->places && e->dead_ids ? 0 : -ENOMEM;
}

void ub_event_free(struct ub_enrolment *e)
{
	vfree(e->places);
	kvfree(e->dead_ids);
}

static struct ub_place *ub_place(struct ub_enrolment *e, u32 type, u64 rip,
				 u32 times)
{
	struct ub_place *set, *least = NULL;
	int i;

	set = &e->places[hash_64(rip + type, UB_PLACE_BITS) * UB_PLACE_WAYS];
	for (i = 0; i < UB_PLACE_WAYS; i++) {
		if (set[i].type == type && set[i].rip == rip)
			return &set[i];
		if (!set[i].due && (!least || set[i].count < least->count))
			least = &set[i];
	}
	if (!least)
		return NULL;
	if (least->count > times) {
		/* Not at once, or two places could keep each other out. */
		least->count /= 2;
		return NULL;
	}
	*least = (struct ub_place){
		.type = type, .rip = rip, .first = ktime_get_ns(),
	};
	return least;
}

/**
 * ub_event() - count something that happened
 * @e: to whom
 * @type: UB_EV_HOT, UB_EV_MISS, UB_EV_FAULT or UB_EV_STOP
 * @nr: as in struct ub_event
 * @rip: as there
 * @from: as there
 * @times: how often
 *
 * Never waits: when another thread counts at the same moment, this is lost.
 */
void ub_event(struct ub_enrolment *e, u32 type, u32 nr, u64 rip, u64 from,
	      u32 times)
{
	struct ub_place *p;
	bool wake = false;

	if (!spin_trylock(&e->ev_lock))
		return;
	p = ub_place(e, type, rip, times);
	if (p) {
		p->nr = nr;
		p->from = from;
		p->tid = current->pid;
		if (p->count < U32_MAX - times)
			p->count += times;
		if (!p->due && p->count >= (type == UB_EV_HOT ?
					    READ_ONCE(e->hot) :
					    READ_ONCE(e->miss))) {
			p->due = true;
			e->ev_ready++;
			wake = true;
		}
	} else {
		e->ev_lost++;
	}
	spin_unlock(&e->ev_lock);
	if (wake)
		wake_up_interruptible(&e->ev_wait);
}

/* A blob was dropped. Under e->lock. */
void ub_event_invalid(struct ub_enrolment *e, u64 id)
{
	spin_lock(&e->ev_lock);
	if (e->ndead < UB_DEAD_IDS)
		e->dead_ids[e->ndead++] = id;
	else
		e->ev_lost++;
	spin_unlock(&e->ev_lock);
	wake_up_interruptible(&e->ev_wait);
}

/* Something that is told once. */
void ub_event_note(struct ub_enrolment *e, bool *due)
{
	WRITE_ONCE(*due, true);
	wake_up_interruptible(&e->ev_wait);
}

bool ub_event_ready(struct ub_enrolment *e)
{
	return READ_ONCE(e->ev_ready) || READ_ONCE(e->ndead) ||
	       READ_ONCE(e->ev_lost) != READ_ONCE(e->ev_lost_told) ||
	       READ_ONCE(e->rseq_due) || READ_ONCE(e->gone_due);
}

/**
 * ub_event_take() - take events that are due
 * @e: whose
 * @out: where to
 * @max: how many there is room for
 *
 * That the process has gone is told last. Return: how many it are.
 */
int ub_event_take(struct ub_enrolment *e, struct ub_event *out, int max)
{
	u64 now = ktime_get_ns();
	int n = 0, i;

	memset(out, 0, max * sizeof(*out));
	spin_lock(&e->ev_lock);
	while (e->ndead && n < max) {
		out[n].type = UB_EV_INVALID;
		out[n].count = 1;
		out[n++].rip = e->dead_ids[--e->ndead];
	}
	for (i = 0; i < UB_PLACES && e->ev_ready && n < max; i++) {
		struct ub_place *p = &e->places[i];

		if (!p->due)
			continue;
		out[n].type = p->type;
		out[n].nr = p->nr;
		out[n].rip = p->rip;
		out[n].from = p->from;
		out[n].count = p->count;
		out[n].ns = now - p->first;
		out[n++].tid = p->tid;
		memset(p, 0, sizeof(*p));
		e->ev_ready--;
	}
	if (n < max && e->ev_lost != e->ev_lost_told) {
		out[n].type = UB_EV_LOST;
		out[n++].count = e->ev_lost - e->ev_lost_told;
		e->ev_lost_told = e->ev_lost;
	}
	if (n < max && e->rseq_due) {
		e->rseq_due = false;
		out[n++].type = UB_EV_RSEQ;
	}
	if (n < max && e->gone_due) {
		e->gone_due = false;
		out[n++].type = UB_EV_GONE;
	}
	spin_unlock(&e->ev_lock);
	return n;
}
