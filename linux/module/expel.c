// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is in translated code, and how to get them out of it.
 *
 * A thread enters: it says that it is inside, then stores the epoch of its
 * enrolment into b->epoch, then looks up where to go. Code is taken away: its
 * entries leave the tables, then the epoch grows, then ub_expel() waits until no
 * thread is inside with an older epoch. Whoever is inside with the new one has seen
 * the tables without them.
 *
 * Threads that run are found through ub_chain, by an interrupt on their processor:
 * it sees that processor's stores in program order, so entering needs no
 * barrier. Threads that were preempted inside are in e->preempted. Between the two
 * a thread can be missed, which e->switches tells: then we look again.
 *
 * After most syscalls a thread takes its way from b->known, with a look at
 * neither epoch nor tables. It may do so because nobody waits in vain for that
 * to be forgotten: the same interrupt does it to threads that run, and those
 * that do not, wherever they are, do it when they get a processor and the epoch
 * is not theirs any more. So when ub_expel() returns, no thread can take a
 * way that was known before, and one that has taken it was found inside.
 *
 * A thread that is in one of its chain's syscalls is not inside, however long that
 * takes. One that is inside waits for nothing but the processor: it cannot
 * sleep, as page faults are disabled, and its way out takes no lock before it says
 * that it is out. So whoever waits here may hold any lock that can be slept with.
 */
#include <linux/delay.h>
#include <linux/smp.h>

#include "ub.h"

struct ub_expel_info {
	struct ub_enrolment *e;
	u64 epoch;
	atomic_t found;
};

static bool ub_stale(const struct ub_block *b, u64 epoch)
{
	return READ_ONCE(b->epoch) < epoch;
}

/* On each processor. */
static void ub_expel_here(void *arg)
{
	struct ub_expel_info *info = arg;
	struct ub_block *b = __this_cpu_read(ub_chain);

	if (!b || b->e != info->e || !ub_stale(b, info->epoch))
		return;
	ub_forget(b);
	if (ub_inside()) {
		atomic_inc(&info->found);
		/* Only a timer's interrupt can reach the registers. */
		ub_fuel_now();
	}
}

static u64 ub_preempted_stale(struct ub_enrolment *e, u64 epoch, bool *found)
{
	struct ub_block *b;
	unsigned long flags;
	u64 switches;

	raw_spin_lock_irqsave(&e->switch_lock, flags);
	list_for_each_entry(b, &e->preempted, link) {
		if (ub_stale(b, epoch))
			*found = true;
	}
	switches = e->switches;
	raw_spin_unlock_irqrestore(&e->switch_lock, flags);
	return switches;
}

/**
 * ub_expel() - wait until nobody is in code that was taken away before
 * @e: the enrolment
 *
 * May sleep. The caller is not inside itself, and has increased e->epoch.
 */
void ub_expel(struct ub_enrolment *e)
{
	struct ub_expel_info info = { .e = e, .epoch = READ_ONCE(e->epoch) };
	u64 before, after;
	bool found, told = false;

	/* The only thread that there is: it is here, in a syscall. */
	if (current->mm == e->mm && atomic_read(&e->mm->mm_users) == 1) {
		preempt_disable();
		ub_expel_here(&info);
		preempt_enable();
		return;
	}
	smp_mb(); /* before the interrupts: what was taken away is away */
	for (;;) {
		found = false;
		atomic_set(&info.found, 0);
		before = ub_preempted_stale(e, info.epoch, &found);
		/*
		 * All of them: mm_cpumask() may lack a processor that works in
		 * another mm for a moment, as text_poke() does in the middle of
		 * a syscall.
		 */
		on_each_cpu(ub_expel_here, &info, true);
		after = ub_preempted_stale(e, info.epoch, &found);
		if (atomic_read(&info.found))
			found = true;
		if (!found && before == after)
			break;
		if (found && !told) {
			told = true;
			e->expels++;
		}
		usleep_range(20, 100);
	}
}

static void ub_recall_here(void *arg)
{
	struct ub_expel_info *info = arg;
	struct ub_block *b = __this_cpu_read(ub_chain);

	if (b && b->e == info->e && ub_stale(b, info->epoch))
		ub_forget(b);
}

/**
 * ub_recall() - have every thread ask, at its next syscall, where it may go on
 * @e: the enrolment
 *
 * May sleep. The caller has increased e->epoch. Nobody is waited for: a thread may
 * still be in a gap that it has entered before.
 */
void ub_recall(struct ub_enrolment *e)
{
	struct ub_expel_info info = { .e = e, .epoch = READ_ONCE(e->epoch) };

	smp_mb(); /* as in ub_expel() */
	on_each_cpu(ub_recall_here, &info, true);
}

/*
 * This thread, in a chain, gets a processor. Interrupts are enabled, preemption
 * is not.
 */
static void ub_sched_in(struct preempt_notifier *pn, int cpu)
{
	struct ub_block *b = container_of(pn, struct ub_block, pn);
	struct ub_enrolment *e = b->e;
	unsigned long flags;

	__this_cpu_write(ub_chain, b);
	if (b->preempted) {
		raw_spin_lock_irqsave(&e->switch_lock, flags);
		list_del(&b->link);
		b->preempted = false;
		e->switches++;
		raw_spin_unlock_irqrestore(&e->switch_lock, flags);
	}
	if (READ_ONCE(b->epoch) != READ_ONCE(e->epoch) ||
	    READ_ONCE(b->limit) != READ_ONCE(e->limit))
		ub_forget(b);
	/* Nor may the processor run ahead to what is to be forgotten. */
	barrier_nospec();
	if (ub_inside() && ub_must_leave(b))
		ub_fuel_now();
	else
		ub_fuel_start();
}

/* It loses it. The run queue is locked, interrupts are disabled. */
static void ub_sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	struct ub_block *b = container_of(pn, struct ub_block, pn);
	struct ub_enrolment *e = b->e;

	__this_cpu_write(ub_chain, NULL);
	if (ub_inside()) {
		raw_spin_lock(&e->switch_lock);
		list_add(&b->link, &e->preempted);
		b->preempted = true;
		e->switches++;
		raw_spin_unlock(&e->switch_lock);
	} else {
		/* Others may look at the registers of a thread that waits. */
		ub_sync(b);
	}
	ub_flush(b);
}

struct preempt_ops ub_preempt_ops = {
	.sched_in = ub_sched_in,
	.sched_out = ub_sched_out,
};
