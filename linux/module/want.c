// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a chain begins: what is decided at a hooked syscall of an enrolled
 * thread, before the syscall is done.
 */
#include <linux/hash.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>
#include <asm/prctl.h>
#include <asm/processor.h>

#include "ub.h"

/*
 * Whether rseq critical sections are in use. In translated code they would not
 * be aborted. User space need not reset the pointer at the end of one, so whoever
 * uses them between syscalls is found out before anything is translated.
 */
static noinline bool ub_has_rseq_cs(void)
{
#ifdef CONFIG_RSEQ
	struct rseq __user *rseq = current->rseq;
	u64 cs;

	if (rseq && !copy_from_user_nofault(&cs, &rseq->rseq_cs, sizeof(cs)))
		return cs != 0;
#endif
	return false;
}

static void ub_rseq_found(struct ub_enrolment *e)
{
	if (READ_ONCE(e->rseq))
		return;
	WRITE_ONCE(e->rseq, true);
	WRITE_ONCE(e->limit, 0);
	ub_event_note(e, &e->rseq_due);
}

/* The flags with which a program may be in translated code. */
#define UB_FLAGS_OK (UB_FLAGS | UB_FLAG_RF | X86_EFLAGS_FIXED | \
		     X86_EFLAGS_IF | X86_EFLAGS_ID)

/* Whether this thread's syscalls must be done natively, now. */
static bool ub_must_be_native(const struct pt_regs *regs)
{
	struct thread_info *ti = current_thread_info();

	/* Seccomp, audit, system call tracing, user dispatch. */
	if (READ_ONCE(ti->syscall_work) & UB_WORK)
		return true;
	/* Instructions that trap in user mode would not in translated code. */
	if (READ_ONCE(ti->flags) & (_TIF_SINGLESTEP | _TIF_BLOCKSTEP |
				    _TIF_FORCED_TF | _TIF_NOTSC |
				    _TIF_NOCPUID | _TIF_ADDR32))
		return true;
	/* A debugger may look, and write to code; breakpoints in registers. */
	if (current->ptrace || current->thread.ptrace_dr7)
		return true;
#ifdef CONFIG_X86_USER_SHADOW_STACK	/* since 6.6 */
	/* Translated calls and returns do not use it. */
	if (current->thread.features & ARCH_SHSTK_SHSTK)
		return true;
#endif
	/* Single steps, direction, alignment checks. */
	return regs->flags & ~UB_FLAGS_OK || regs->cs != __USER_CS ||
	       (unsigned int)regs->orig_ax >= NR_syscalls;
}

/* A thread with our bit that is not of an enrolled process: it has it from its parent. */
static noinline void ub_stray(void)
{
	struct ub_enrolment *e;

	clear_bit(UB_WORK_BIT, &current_thread_info()->syscall_work);
	/* Pairs with ub_mark_threads(), which comes after the enrolment is found. */
	smp_mb__after_atomic();
	e = ub_find(current->mm);
	if (e && e->tgid == task_tgid(current))
		set_bit(UB_WORK_BIT, &current_thread_info()->syscall_work);
}

/*
 * Counting each syscall of a site that has no code would cost more than all else
 * that it costs to be enrolled. So one in 16 counts for 16. The
 * golden ratio makes the choice: it keeps step with no loop of the program's.
 * Whoever wants to hear of small numbers gets exact ones.
 */
#define UB_SAMPLE	16

static bool ub_sampled(u32 n, u32 hot)
{
	return n * GOLDEN_RATIO_32 < U32_MAX / UB_SAMPLE ||
	       hot < 4 * UB_SAMPLE;
}

/**
 * ub_want() - decide whether a chain begins with a syscall
 * @regs: the syscall, not yet executed; it came from user mode
 *
 * Called by ub_tramp for threads of enrolled processes.
 *
 * Return: the enrolment, with a reference, or NULL for native execution.
 */
struct ub_enrolment *ub_want(struct pt_regs *regs)
{
	struct ub_enrolment *e;
	bool closed = false;
	u64 hooks, timed = 0;

	/* As good as rcu_read_lock(), and two instructions. */
	preempt_disable();
	e = ub_find(current->mm);
	if (unlikely(!e || e->tgid != task_tgid(current))) {
		ub_stray();
		goto native;
	}
	hooks = this_cpu_inc_return(e->counts->hooks);
	if (unlikely(READ_ONCE(e->summed)))
		ub_pass_arrive(e, regs);
	if (unlikely(!READ_ONCE(e->limit)))
		goto native;
	if (ub_lookup(e->table[1], regs->ip) == (unsigned long)ub_miss) {
		u32 hot = READ_ONCE(e->hot);

		if (ub_sampled(hooks, hot)) {
			if (unlikely(ub_has_rseq_cs()))
				ub_rseq_found(e);
			else
				ub_event(e, UB_EV_HOT, regs->orig_ax, regs->ip,
					 regs->sp, hot < 4 * UB_SAMPLE ?
					 1 : UB_SAMPLE);
		}
		goto native;
	}
	if (unlikely(rcu_access_pointer(e->window))) {
		closed = ub_closed(e, regs->ip, &timed);
		/* A chain that ends at once is what times a native pass. */
		if (closed && !timed)
			goto native;
	}
	if (unlikely(ub_must_be_native(regs)))
		goto native;
	if (!closed && !(this_cpu_inc_return(e->counts->chains) & 15) &&
	    unlikely(ub_has_rseq_cs())) {
		ub_rseq_found(e);
		goto native;
	}
	if (unlikely(!percpu_ref_tryget_live(&e->ref)))
		goto native;
	preempt_enable();
	return e;
native:
	preempt_enable();
	return NULL;
}
