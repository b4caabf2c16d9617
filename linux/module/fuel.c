// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuel: what makes a thread leave translated code that does not leave by itself.
 *
 * Each processor has a timer, which runs while chains do there and stops when
 * none did for a period. When it finds that it has interrupted translated code
 * whose thread is wanted elsewhere, it moves the anchor, in the registers that the
 * interrupt has saved, to the page behind it, which is not mapped. The next poll
 * faults, and the landing knows the program's state there. Translated code and
 * chains pay nothing for this.
 *
 * A thread that goes to another processor takes the timer along: see sched_in
 * in expel.c.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/ptrace.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <asm/irq_regs.h>

#include "ub.h"
#include "ub_policy.h"

/*
 * The last quadword of a page, 0. What follows is never mapped. Translated code
 * has the address in RBP, and takes its low six bits for a count: an address
 * shifted by UB_TAG_SHIFT is its tag. So it is moved by UB_ANCHOR_STEP.
 */
unsigned long ub_anchor;

#define UB_ANCHOR_STEP	64

static unsigned int fuel_us = 4000;
module_param(fuel_us, uint, 0444);
MODULE_PARM_DESC(fuel_us, "period at which running translated code is looked at, in microseconds (100 to 100000)");

struct ub_fuel {
	struct hrtimer timer;
	bool ran;		/* a chain began or came here since the last tick */
};

static DEFINE_PER_CPU(struct ub_fuel, ub_fuel);

/**
 * ub_must_leave() - whether a thread is wanted outside of translated code
 * @b: its block
 *
 * For the processor that the thread runs on.
 */
bool ub_must_leave(struct ub_block *b)
{
	struct thread_info *ti = task_thread_info(current);

	return READ_ONCE(ti->flags) & EXIT_TO_USER_MODE_WORK ||
	       READ_ONCE(ti->syscall_work) & UB_WORK ||
	       !READ_ONCE(b->e->limit) ||
	       READ_ONCE(b->epoch) != READ_ONCE(b->e->epoch) ||
	       /* Locked vector registers keep softirqs from running. */
	       (b->fpu && local_softirq_pending());
}

static enum hrtimer_restart ub_tick(struct hrtimer *timer)
{
	struct ub_fuel *fuel = container_of(timer, struct ub_fuel, timer);
	struct ub_block *b = __this_cpu_read(ub_chain);
	struct pt_regs *regs = get_irq_regs();

	/* After its processor has gone: the timer was moved to another one. */
	if (fuel != this_cpu_ptr(&ub_fuel))
		return HRTIMER_NORESTART;
	if (!b && !fuel->ran)
		return HRTIMER_NORESTART;
	fuel->ran = false;
	hrtimer_forward_now(timer, ns_to_ktime(fuel_us * NSEC_PER_USEC));
	if (!b)
		return HRTIMER_RESTART;
	/* A switch: enter.S does not look at it. */
	if (READ_ONCE(b->limit) != READ_ONCE(b->e->limit))
		ub_forget(b);
	if (!ub_inside())
		return HRTIMER_RESTART;
	/* The same run as at the last tick? */
	if (b->tick == ub_runs(b))
		b->overrun = true;
	b->tick = ub_runs(b);
	if (!b->overrun && !ub_must_leave(b))
		return HRTIMER_RESTART;
	b->poll = 0;
	if (regs && !user_mode(regs) &&
	    (ub_in_arena(regs->ip) ||
	     (regs->ip >= (unsigned long)ub_dispatch_begin &&
	      regs->ip < (unsigned long)ub_dispatch_end)))
		regs->bp = ub_anchor + UB_ANCHOR_STEP;
	return HRTIMER_RESTART;
}

/* A chain is on this processor. Preemption is disabled. */
void ub_fuel_start(void)
{
	struct ub_fuel *fuel = this_cpu_ptr(&ub_fuel);

	fuel->ran = true;
	if (!hrtimer_is_queued(&fuel->timer))
		hrtimer_start(&fuel->timer, ns_to_ktime(fuel_us * NSEC_PER_USEC),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

/* Makes the timer fire as soon as interrupts are enabled. Preemption is disabled. */
void ub_fuel_now(void)
{
	struct ub_fuel *fuel = this_cpu_ptr(&ub_fuel);

	fuel->ran = true;
	hrtimer_start(&fuel->timer, 0, HRTIMER_MODE_REL_PINNED_HARD);
}

int ub_fuel_init(void)
{
	void *page;
	int cpu;

	fuel_us = clamp(fuel_us, 100u, 100000u);
	/* vmalloc leaves the page behind each of its areas unmapped. */
	page = vzalloc(PAGE_SIZE);
	if (!page)
		return -ENOMEM;
	if (is_vmalloc_addr(page + PAGE_SIZE) &&
	    vmalloc_to_page(page + PAGE_SIZE)) {
		pr_err("no guard page behind the anchor\n");
		vfree(page);
		return -ENOMEM;
	}
	ub_anchor = (unsigned long)page + PAGE_SIZE - sizeof(u64);
	BUILD_BUG_ON((PAGE_SIZE - sizeof(u64)) % UB_ANCHOR_STEP !=
		     UB_TAG_SHIFT);
	BUILD_BUG_ON(UB_ANCHOR_STEP + 8 * UB_MAX_TAG > PAGE_SIZE);
	for_each_possible_cpu(cpu) {
		struct hrtimer *timer = &per_cpu_ptr(&ub_fuel, cpu)->timer;

		/* Since 6.13 this is one function, and later the only one. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
		hrtimer_setup(timer, ub_tick, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
#else
		hrtimer_init(timer, CLOCK_MONOTONIC,
			     HRTIMER_MODE_REL_PINNED_HARD);
		timer->function = ub_tick;
#endif
	}
	return 0;
}

void ub_fuel_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		hrtimer_cancel(&per_cpu_ptr(&ub_fuel, cpu)->timer);
	vfree((void *)(ub_anchor & PAGE_MASK));
}
