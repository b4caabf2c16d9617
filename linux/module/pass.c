// SPDX-License-Identifier: GPL-2.0-only
/*
 * Windows of time: which gaps are bypassed in them, and how long the passes through
 * those take, natively and with bypass. User space compares, see UB_WINDOW.
 *
 * A pass is timed from the return of a syscall to the next one. With bypass both
 * are seen by C, since enter.S does no syscalls while passes are timed. Natively
 * the first is one that a chain begins with and ends after, and the next a hooked
 * one of the same thread on the same processor; where a thread has moved, or
 * another one's pass was timed there meanwhile, the pass does not count. Between
 * the two may be a syscall that is not hooked. So passes are told apart by where
 * they end: who compares only those that end where some with bypass do compares
 * like with like.
 *
 * A window is read under RCU. Its number makes passes count only where they
 * began: all enrolments number theirs from one sequence.
 */
#include <linux/bsearch.h>
#include <linux/hash.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "ub.h"

#define UB_SUM_BITS	8
#define UB_SUM_WAYS	4
#define UB_SUMS		(UB_SUM_WAYS << UB_SUM_BITS)
static_assert(UB_SUMS == UB_MAX_PASSES);

/**
 * struct ub_window_now - what holds in a window; never changes
 * @rcu: for when it is over
 * @number: its own, not 0
 * @floor: gaps whose gate is not above it run natively
 * @timed: whether passes are timed
 * @ngates: gaps with a gate that is not UB_GATE_KEPT
 * @gates: address times 4, plus the gate; sorted
 */
struct ub_window_now {
	struct rcu_head rcu;
	u64 number;
	u32 floor;
	bool timed;
	u32 ngates;
	u64 gates[];
};

/* A pass that goes on natively, on this processor. */
struct ub_native_pass {
	struct task_struct *task;	/* NULL: there is none */
	struct ub_pass pass;
};

static DEFINE_PER_CPU(struct ub_native_pass, ub_native_pass);
static atomic64_t ub_windows = ATOMIC64_INIT(0);

static int ub_gate_compare(const void *key, const void *elem)
{
	u64 a = *(const u64 *)key, b = *(const u64 *)elem & ~3ull;

	return a < b ? -1 : a > b;
}

static bool ub_window_closes(const struct ub_window_now *w, u64 rip)
{
	const u64 *gate;
	u64 key = rip << 2;

	if (w->floor >= UB_GATE_KEPT)
		return true;
	gate = bsearch(&key, w->gates, w->ngates, sizeof(key), ub_gate_compare);
	return gate && (*gate & 3) <= w->floor;
}

/**
 * ub_closed() - whether a gap runs natively now
 * @e: the enrolment
 * @rip: where the gap begins
 * @timed: out: the window's number if passes are timed, else 0
 */
bool ub_closed(struct ub_enrolment *e, u64 rip, u64 *timed)
{
	const struct ub_window_now *w;
	bool closed = false;

	*timed = 0;
	rcu_read_lock();
	w = rcu_dereference(e->window);
	if (w) {
		if (w->timed)
			*timed = w->number;
		closed = ub_window_closes(w, rip);
	}
	rcu_read_unlock();
	return closed;
}

/*
 * The sum that a pass belongs to, a new one if there is none; NULL if its window has
 * ended, or there is no place. Under e->pass_lock.
 */
static struct ub_passes *ub_sum(struct ub_enrolment *e,
				const struct ub_pass *p, u64 end, u32 nr)
{
	struct ub_passes *s;
	u32 how = p->exit != UB_PASS_NATIVE;
	int i;

	if (p->window != e->summed || !e->sums)
		return NULL;
	s = &e->sums[hash_64(p->rip + 5 * end, UB_SUM_BITS) * UB_SUM_WAYS];
	for (i = 0; i < UB_SUM_WAYS; i++, s++) {
		if (!s->count) {
			s->rip = p->rip;
			s->end = end;
			s->nr = nr;
			s->how = how;
			return s;
		}
		if (s->rip == p->rip && s->end == end && s->nr == nr &&
		    s->how == how)
			return s;
	}
	e->passes_lost++;
	return NULL;
}

/* Adds a pass that has ended to the sums, if its window has not. */
static void ub_pass_add(struct ub_enrolment *e, const struct ub_pass *p,
			u64 end, u32 nr, u64 now)
{
	u64 took = now - p->began;
	struct ub_passes *s;

	/* As in ub_event(): a pass that is lost now and then makes no difference. */
	if (!spin_trylock(&e->pass_lock))
		return;
	s = ub_sum(e, p, end, nr);
	if (s) {
		s->count++;
		s->misses += p->exit == UB_PASS_MISS;
		s->stops += p->exit == UB_PASS_STOP;
		s->sum += min(took, e->clip);
		if (took > e->clip) {
			s->tails++;
			s->excess += min(took, e->longest) - e->clip;
		}
	}
	spin_unlock(&e->pass_lock);
}

/**
 * ub_pass_end_chain() - a chain ends in front of a gap that runs natively
 * @b: the block
 * @began: when it began to end
 *
 * What that takes is the last bypassed gap's, since it would not be without.
 */
void ub_pass_end_chain(struct ub_block *b, u64 began)
{
	struct ub_enrolment *e = b->e;
	struct ub_passes *s;

	if (!spin_trylock(&e->pass_lock))
		return;
	s = ub_sum(e, &b->last, b->last_end, b->last_nr);
	if (s && s->count)
		s->sum += min(rdtsc_ordered() - began, e->clip);
	spin_unlock(&e->pass_lock);
}

/**
 * ub_pass_begin() - a syscall of a chain has been done, and passes are timed
 * @b: the block, with the number of the window
 * @bypassed: whether translated code is what comes next; if not, ub_end()
 */
void ub_pass_begin(struct ub_block *b, bool bypassed)
{
	b->pass.rip = 0;
	/* Natively only what would be bypassed in other windows is of interest. */
	if (!bypassed && !b->closed)
		return;
	b->pass.rip = b->regs->ip;
	b->pass.exit = bypassed ? UB_PASS_SYSCALL : UB_PASS_NATIVE;
	/* Of a chain's first gap the beginning of the chain is a part. */
	b->pass.began = rdtsc_ordered() - b->begin;
	b->begin = 0;
}

/**
 * ub_pass_left() - translated code was left in a pass that is timed
 * @b: the block
 * @why: UB_EXIT_...
 */
void ub_pass_left(struct ub_block *b, unsigned int why)
{
	u64 now = rdtsc_ordered();

	switch (why) {
	case UB_EXIT_SYSCALL:
		/* One that ends the chain has not saved a crossing. */
		if (!ub_chainable(b->regs->ax))
			b->pass.exit = UB_PASS_STOP;
		b->last = b->pass;
		b->last_end = b->regs->ip;
		b->last_nr = b->regs->ax;
		ub_pass_add(b->e, &b->last, b->last_end, b->last_nr, now);
		b->pass.rip = 0;
		break;
	case UB_EXIT_MISS:
		b->pass.exit = UB_PASS_MISS;
		break;
	case UB_EXIT_FUEL:
		/* That was the timer's doing. */
		b->pass.rip = 0;
		break;
	default:
		b->pass.exit = UB_PASS_STOP;
	}
}

/**
 * ub_pass_go_on() - a pass that is timed goes on natively from here
 * @pass: the pass, which began here if it is native altogether
 */
void ub_pass_go_on(const struct ub_pass *pass)
{
	struct ub_native_pass *n = get_cpu_ptr(&ub_native_pass);

	n->task = current;
	n->pass = *pass;
	if (pass->exit == UB_PASS_NATIVE)
		n->pass.began = rdtsc_ordered();
	put_cpu_ptr(&ub_native_pass);
}

/**
 * ub_pass_arrive() - a hooked syscall was reached natively
 * @e: the enrolment
 * @regs: the syscall
 *
 * With preemption disabled.
 */
void ub_pass_arrive(struct ub_enrolment *e, const struct pt_regs *regs)
{
	struct ub_native_pass *n = this_cpu_ptr(&ub_native_pass);
	u64 now;

	if (n->task != current)
		return;
	now = rdtsc_ordered();
	n->task = NULL;
	ub_pass_add(e, &n->pass, regs->ip, regs->orig_ax, now);
}

static int ub_gates_get(struct ub_window_now *w, const struct ub_window *a)
{
	struct ub_gate *g;
	u64 before = 0;
	int ret = 0;
	u32 i;

	if (!a->ngates)
		return 0;
	g = vmemdup_user(u64_to_user_ptr(a->gates), a->ngates * sizeof(*g));
	if (IS_ERR(g))
		return PTR_ERR(g);
	for (i = 0; i < a->ngates; i++) {
		if (g[i].rip <= before || g[i].rip >= UB_USER_END ||
		    g[i].gate >= UB_GATE_KEPT || g[i].reserved) {
			ret = -EINVAL;
			break;
		}
		before = g[i].rip;
		w->gates[i] = g[i].rip << 2 | g[i].gate;
	}
	kvfree(g);
	return ret;
}

/* Takes the sums of the window that ends: those that have something, to the front. */
static void ub_sums_take(struct ub_enrolment *e, const struct ub_window_now *w,
			 struct ub_window *a, struct ub_passes *out)
{
	u32 i;

	spin_lock(&e->pass_lock);
	for (i = 0; e->sums && i < UB_SUMS; i++) {
		if (!e->sums[i].count)
			continue;
		if (a->npasses < a->room)
			out[a->npasses++] = e->sums[i];
		else
			e->passes_lost++;
	}
	if (e->sums)
		memset(e->sums, 0, UB_SUMS * sizeof(*e->sums));
	a->lost = e->passes_lost;
	e->passes_lost = 0;
	WRITE_ONCE(e->summed, w && w->timed ? w->number : 0);
	e->clip = a->clip;
	e->longest = a->longest;
	spin_unlock(&e->pass_lock);
}

/**
 * ub_window() - end a window, and begin another one
 * @e: the enrolment
 * @a: see UB_WINDOW
 *
 * Under the file's mutex. Return: 0, or an error; then nothing has happened.
 */
int ub_window(struct ub_enrolment *e, struct ub_window *a)
{
	struct ub_window_now *w = NULL, *old;
	struct ub_passes *out = NULL, *sums = NULL;
	int ret = 0;

	if (a->floor > UB_GATE_KEPT || a->timed > 1 || a->longest < a->clip)
		return -EINVAL;
	if (a->ngates > UB_MAX_GATES || a->room > UB_SUMS)
		return -E2BIG;
	if (a->floor >= UB_GATE_KEPT || a->timed || a->ngates) {
		w = kvzalloc(struct_size(w, gates, a->ngates), GFP_KERNEL);
		if (!w)
			return -ENOMEM;
		ret = ub_gates_get(w, a);
		w->number = atomic64_inc_return(&ub_windows);
		w->floor = a->floor;
		w->timed = a->timed;
		w->ngates = a->ngates;
	}
	if (!ret && a->room) {
		out = kvcalloc(a->room, sizeof(*out), GFP_KERNEL);
		if (!out)
			ret = -ENOMEM;
	}
	if (!ret && a->timed && !e->sums) {
		sums = kvcalloc(UB_SUMS, sizeof(*sums), GFP_KERNEL);
		if (!sums)
			ret = -ENOMEM;
	}
	if (ret) {
		kvfree(w);
		kvfree(out);
		return ret;
	}
	spin_lock(&e->pass_lock);
	if (sums)
		e->sums = sums;
	spin_unlock(&e->pass_lock);

	spin_lock(&e->lock);
	old = rcu_replace_pointer(e->window, w, lockdep_is_held(&e->lock));
	/* Who sees the new epoch sees the new window, see ub_next(). */
	smp_wmb();
	WRITE_ONCE(e->epoch, e->epoch + 1);
	spin_unlock(&e->lock);
	ub_recall(e);
	ub_sums_take(e, w, a, out);
	if (old)
		kvfree_rcu(old, rcu);
	if (a->npasses && copy_to_user(u64_to_user_ptr(a->passes), out,
				       a->npasses * sizeof(*out)))
		ret = -EFAULT;
	kvfree(out);
	return ret;
}

/* The enrolment is being freed. */
void ub_window_free(struct ub_enrolment *e)
{
	kvfree(rcu_dereference_protected(e->window, true));
	kvfree(e->sums);
}
