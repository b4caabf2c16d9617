// SPDX-License-Identifier: GPL-2.0-only
/*
 * The chain: syscall, translated code, syscall, ... until something wants the
 * thread in user mode. Most of them go round in ub_sym_syscall, in enter.S; what
 * is here is how a chain begins and ends, and what is looked at closer.
 *
 * Invariant: whenever others can look at the thread, pt_regs is what it would be if
 * the program had come to the same place natively. One exception: while the
 * thread runs in a chained syscall, RBP and R12 to R15 are in the block, and if
 * enter.S does the syscall, then RAX, RCX and R11 are what they were. No syscall
 * that is chained looks at them; what can see them is an interrupt that samples
 * (perf). When the thread sleeps, ub_sync() makes them right.
 */
#include <linux/context_tracking.h>
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/ptrace.h>
#include <linux/string.h>
#include <asm/barrier.h>
#include <asm/fpu/api.h>
#include <asm/fsgsbase.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/syscall.h>
#include <asm/tsc.h>

#include "ub.h"

DEFINE_PER_CPU(struct ub_block *, ub_chain);

/* Somebody whom xfer_to_guest_mode_handle_work() can tell of a signal. */
static struct kvm_vcpu *ub_vcpu;

int __init ub_chain_init(void)
{
	ub_vcpu = kvzalloc(sizeof(*ub_vcpu), GFP_KERNEL);
	if (!ub_vcpu)
		return -ENOMEM;
	ub_vcpu->run = (void *)get_zeroed_page(GFP_KERNEL);
	if (!ub_vcpu->run) {
		kvfree(ub_vcpu);
		return -ENOMEM;
	}
	ub_calls_init();
	preempt_notifier_inc();
	return 0;
}

void ub_chain_exit(void)
{
	preempt_notifier_dec();
	free_page((unsigned long)ub_vcpu->run);
	kvfree(ub_vcpu);
}

/* Adds what a chain has counted to its enrolment's sums. */
void ub_flush(struct ub_block *b)
{
	struct ub_counts *to = get_cpu_ptr(b->e->counts);
	const u64 *n = (u64 *)&b->n;
	u32 chained = b->chained + (b->given - b->left);
	u64 entries = ub_runs(b);
	unsigned int i;

	/* Negative if it was looked at while enter.S tried whether any is left. */
	b->n.chained = (s32)(chained - b->told_chained);
	b->told_chained = chained;
	b->n.entries = entries - b->told_entries;
	b->told_entries = entries;
	for (i = 0; i < sizeof(b->n) / sizeof(u64); i++)
		((u64 *)to)[i] += n[i];
	put_cpu_ptr(b->e->counts);
	memset(&b->n, 0, sizeof(b->n));
}

/*
 * C has the chain again: enter.S has counted syscalls by taking them from what
 * is left, and each of them was followed by translated code.
 */
static void ub_settle(struct ub_block *b)
{
	u32 n = b->given - b->left;

	/* enter.S has seen the end of the pass that C has begun. */
	if (n)
		b->pass.rip = 0;
	b->kept = 0;
	if (!b->given && !b->left)
		return;
	/* ub_sched_out() looks at the sum of both. */
	preempt_disable();
	b->chained += n;
	b->entries += n;
	b->given = 0;
	b->left = 0;
	preempt_enable();
}

/**
 * ub_forget() - have the next look-up be one in the tables
 * @b: the block
 *
 * b->known is where translated code went on before, for enter.S. It may be used
 * without a look at anything else as long as it is there: see expel.c. A thread
 * may just have found the address that it looked for, and be about to load where
 * to go: that is no user address, nor is it one in a blob.
 *
 * For the thread itself, or an interrupt on its processor.
 */
void ub_forget(struct ub_block *b)
{
	memset64((u64 *)b->known, (u64)ub_gone, sizeof(b->known) / 8);
	barrier();
}

/* Ends the chain. Return: 0, for the caller to return. */
static noinline unsigned long ub_end(struct ub_block *b, int why)
{
	struct ub_enrolment *e = b->e;
	struct ub_pass pass = b->pass;
	bool timed = b->last.rip &&
		     (why == UB_END_GATE || why == UB_END_NO_ENTRY);
	u64 began = timed ? rdtsc_ordered() : 0;

	ub_sync(b);
	b->n.ends[why]++;
	/* Together: in between, the notifiers would set ub_chain again. */
	preempt_disable();
	ub_flush(b);
	__this_cpu_write(ub_chain, NULL);
	preempt_notifier_unregister(&b->pn);
	preempt_enable();
	if (unlikely(timed))
		ub_pass_end_chain(b, began);
	percpu_ref_put(&e->ref);
	if (unlikely(pass.rip))
		ub_pass_go_on(&pass);
	return 0;
}

static __always_inline void ub_go_inside(void)
{
	current->pagefault_disabled += UB_INSIDE;
	barrier();
}

/* After translated code: the things that were locked or disabled for it. */
static __always_inline void ub_go_outside(struct ub_block *b)
{
	barrier();
	current->pagefault_disabled -= UB_INSIDE;
	if (unlikely(b->fpu)) {
		b->fpu = false;
		b->table = b->e->table[0];
		fpregs_unlock();
	}
}

/**
 * ub_lock() - before code that uses vector registers
 * @b: the block
 *
 * enter.S need not ask whether they are in use: nothing is left to it, and it
 * comes to ub_unlock() then.
 *
 * A processor that ran ahead as if they were the program's already would have
 * its code see those of whoever had them before. It waits for the answer here.
 */
void ub_lock(struct ub_block *b)
{
	fpregs_lock();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	barrier_nospec();
	b->fpu = true;
	b->table = b->vectors;
	b->kept = b->left;
	b->given -= b->left;
	b->left = 0;
}

/* After it, at a syscall that enter.S does: the first of those that were kept. */
void ub_unlock(struct ub_block *b)
{
	b->given += b->kept;
	b->left = b->kept - 1;
	b->kept = 0;
	b->fpu = false;
	b->table = b->e->table[0];
	fpregs_unlock();
}

/*
 * Tells enter.S where it may go on, and how often: the last syscall of a chain is
 * C's, which ends it.
 */
static __always_inline void ub_remember(struct ub_block *b, u64 epoch,
					unsigned long native, bool vector)
{
	u64 rip = b->regs->ip;
	struct ub_known *k = &b->known[vector][(rip & UB_KNOWN_MASK) / sizeof(*k)];

	if (k->rip != rip) {
		WRITE_ONCE(k->rip, rip);
		WRITE_ONCE(k->native, native);
		barrier();
		/* Has somebody had us forget it between the look-up and here? */
		if (unlikely(READ_ONCE(b->e->epoch) != epoch))
			ub_forget(b);
	}
	WRITE_ONCE(b->limit, READ_ONCE(b->e->limit));
	if (b->limit > b->chained + 1) {
		preempt_disable();	/* as in ub_settle() */
		b->given = b->limit - b->chained - 1;
		b->left = b->given;
		preempt_enable();
	}
	b->exact = false;
}

/**
 * ub_next() - find out where to go on
 * @b: the block
 *
 * First it says that the thread is inside, then it looks: whoever takes code
 * away does it the other way round, see expel.c.
 *
 * Page faults are disabled inside. So a thread there waits for nothing but the
 * processor, and whoever waits for it to leave can do so under any lock. A page
 * that is not there is faulted in natively.
 *
 * Return: 0 if there is no code for where the program is, or @b->closed says that
 * it runs natively there all the same. The thread is not inside then.
 */
static unsigned long ub_next(struct ub_block *b)
{
	struct ub_enrolment *e = b->e;
	unsigned long native;
	bool vector = false;
	u64 epoch;

	ub_go_inside();
	epoch = READ_ONCE(e->epoch);
	if (unlikely(epoch != b->epoch)) {
		ub_forget(b);
		WRITE_ONCE(b->epoch, epoch);
	}
	barrier();
	b->closed = false;
	b->pass.window = 0;
	if (unlikely(rcu_access_pointer(e->window)))
		b->closed = ub_closed(e, b->regs->ip, &b->pass.window);
	native = ub_lookup(e->table[0], b->regs->ip);
	if (native == (unsigned long)ub_miss) {
		vector = true;
		native = ub_lookup(e->table[1], b->regs->ip);
		if (native == (unsigned long)ub_miss) {
			b->closed = false;
			ub_go_outside(b);
			return 0;
		}
	}
	if (unlikely(b->closed)) {
		ub_go_outside(b);
		return 0;
	}
	b->entries++;
	if (likely(b->plain && !b->pass.window))
		ub_remember(b, epoch, native, vector);
	if (vector)
		ub_lock(b);
	return native;
}

/*
 * Work that is to be done before user mode. Return: true if the chain may go
 * on; it has ended if not.
 */
static noinline bool ub_work(struct ub_block *b)
{
	unsigned long todo = read_thread_flags();

	/* These are done only on the way to user mode. */
	if (todo & UB_WORK_LEAVE) {
		ub_end(b, UB_END_SIGNAL);
		return false;
	}
	ub_flush(b);
	ub_sync(b);
	/*
	 * Rescheduling, task work, rseq's fields. Not leaving for these
	 * matters: TIF_NOTIFY_RESUME is set each time a thread has slept.
	 */
	if (xfer_to_guest_mode_handle_work(ub_vcpu)) {
		ub_end(b, UB_END_SIGNAL);
		return false;
	}
	return true;
}

/* After a syscall, the first or a later one, that has returned ret. */
static unsigned long ub_after(struct ub_block *b, long ret)
{
	struct thread_info *ti = current_thread_info();
	unsigned long native;

	b->regs->ax = ret;
	/* -ERESTARTSYS to -ERESTART_RESTARTBLOCK: the kernel's exit code knows. */
	if (unlikely((unsigned long)ret - -516ul <= 4))
		return ub_end(b, UB_END_RESTART);
	if (unlikely(READ_ONCE(ti->syscall_work) & UB_WORK))
		return ub_end(b, UB_END_WORK);
	if (unlikely(READ_ONCE(ti->flags) & EXIT_TO_USER_MODE_WORK) &&
	    !ub_work(b))
		return 0;
	if (unlikely(b->chained >= READ_ONCE(b->e->limit)))
		return ub_end(b, READ_ONCE(b->e->limit) ? UB_END_LIMIT : UB_END_OFF);
	native = ub_next(b);
	if (unlikely(b->pass.window))
		ub_pass_begin(b, native);
	if (unlikely(!native))
		return ub_end(b, b->closed ? UB_END_GATE : UB_END_NO_ENTRY);
	return native;
}

/* Whether SYSCALL leaves RCX and R11 alone. */
static __always_inline bool ub_fred(void)
{
#ifdef X86_FEATURE_FRED		/* since 6.9 */
	return cpu_feature_enabled(X86_FEATURE_FRED);
#else
	return false;
#endif
}

/*
 * Whether enter.S may do syscalls for a thread. It takes the program's flags from
 * EFLAGS: in kernel mode all those that are not the program's have one value.
 */
static bool ub_plain(const struct ub_block *b)
{
	return b->flags == (X86_EFLAGS_FIXED | X86_EFLAGS_IF) && !ub_fred();
}

/**
 * ub_begin() - begin a chain: the hooked syscall itself, and what follows
 * @b: the block, with nothing but @regs in it
 * @e: from ub_want()
 *
 * Return: native address to go on at; 0 to go back to user mode.
 */
unsigned long ub_begin(struct ub_block *b, struct ub_enrolment *e)
{
	struct pt_regs *regs = b->regs;

	b->begin = READ_ONCE(e->summed) ? rdtsc_ordered() : 0;
	b->rsp = regs->sp;
	b->r12 = regs->r12;
	b->r13 = regs->r13;
	b->r14 = regs->r14;
	b->r15 = regs->r15;
	b->rbp = regs->bp;
	b->scratch[0] = 0;
	b->scratch[1] = 0;
	b->fs_base = rdfsbase();
	b->addr_mask = ub_addr_mask;
	b->table = e->table[0];
	b->vectors = e->table[1];
	b->hash_mask = UB_TABLE_MASK;
	b->poll = 1;
	b->e = e;
	b->epoch = READ_ONCE(e->epoch);
	ub_forget(b);
	b->entries = 0;
	b->tick = 0;
	b->chained = 0;
	b->left = 0;
	b->given = 0;
	b->kept = 0;
	b->limit = READ_ONCE(e->limit);
	b->told_entries = 0;
	b->told_chained = 0;
	b->pass.rip = 0;
	b->last.rip = 0;
	b->flags = regs->flags & ~(u64)(UB_FLAGS | UB_FLAG_RF);
	b->exact = true;
	b->plain = ub_plain(b);
	b->fpu = false;
	b->overrun = false;
	b->preempted = false;
	memset(&b->n, 0, sizeof(b->n));
	preempt_notifier_init(&b->pn, &ub_preempt_ops);
	preempt_disable();
	preempt_notifier_register(&b->pn);
	__this_cpu_write(ub_chain, b);
	ub_fuel_start();
	preempt_enable();
	if (unlikely(b->begin))
		b->begin = rdtsc_ordered() - b->begin;

	regs->ax = static_call(ub_syscall)(regs, regs->orig_ax);
	/* The contract has it below 2^47; a program can set it to anything. */
	if (unlikely(b->fs_base >= UB_USER_END))
		return ub_end(b, UB_END_WORK);
	return ub_after(b, regs->ax);
}

/* Has the program execute its syscall instruction itself. */
static noinline unsigned long ub_undo(struct ub_block *b, int why)
{
	b->regs->ip -= 2;
	b->regs->orig_ax = -1;
	return ub_end(b, why);
}

/* Translated code has reached a syscall that enter.S does not do. */
static unsigned long ub_step(struct ub_block *b)
{
	struct thread_info *ti = current_thread_info();
	struct pt_regs *regs = b->regs;
	u32 nr = regs->ax;

	if (unlikely(!ub_chainable(nr)))
		return ub_undo(b, UB_END_NEVER);
	/* Somebody may have begun to trace this thread meanwhile. */
	if (unlikely(READ_ONCE(ti->syscall_work) & UB_WORK))
		return ub_undo(b, UB_END_WORK);
	/* A signal that has come before the syscall is handled before it. */
	if (unlikely(READ_ONCE(ti->flags) & UB_WORK_LEAVE))
		return ub_undo(b, UB_END_SIGNAL);
	/* Now pt_regs becomes what the kernel's entry code makes it. */
	regs->orig_ax = regs->ax;
	regs->ax = -ENOSYS;
	if (!ub_fred()) {
		regs->cx = regs->ip;
		regs->r11 = regs->flags;
	}
	b->chained++;
	return ub_after(b, static_call(ub_syscall)(regs, nr));
}

/**
 * ub_left() - translated code was left, but not for enter.S to do a syscall
 * @b: the block; pt_regs is exact, unless @why is UB_EXIT_FAULT. At a syscall it
 *	is what it is before the instruction, but for RIP, which is behind it
 * @why: UB_EXIT_...
 *
 * Return: as ub_begin().
 */
unsigned long ub_left(struct ub_block *b, unsigned int why)
{
	struct ub_enrolment *e = b->e;
	struct pt_regs *regs = b->regs;
	struct ub_fault f = { .kind = UB_FAULT_POLL };
	bool overrun = b->overrun, asked = !b->poll, lost = false;
	unsigned long native;

	ub_settle(b);
	if (unlikely(b->pass.rip))
		ub_pass_left(b, why);
	if (why == UB_EXIT_FAULT) {
		const struct ub_fault *found = ub_recover(b);

		/* It is the blob's, which may go as soon as we are outside. */
		if (found)
			f = *found;
		else
			lost = true;
	}
	b->exact = true;
	ub_go_outside(b);
	if (why == UB_EXIT_SYSCALL)
		return ub_step(b);
	/* The program is not in a syscall: there is none to be restarted. */
	regs->orig_ax = -1;
	b->poll = 1;
	b->overrun = false;
	if (why == UB_EXIT_FAULT) {
		if (lost) {
			/* The registers are lost. So is the program. */
			send_sig(SIGKILL, current, 1);
			return ub_end(b, UB_END_SIGNAL);
		}
		/* A touch reads the anchor too. */
		if (f.kind != UB_FAULT_POLL &&
		    !(asked && f.kind == UB_FAULT_TOUCH)) {
			b->n.exits[UB_EXIT_FAULT]++;
			ub_event(e, UB_EV_FAULT, f.kind, f.rip, 0, 1);
			return ub_end(b, UB_END_EXIT);
		}
		why = UB_EXIT_FUEL;
		b->pass.rip = 0;
	}
	b->n.exits[why]++;
	if (READ_ONCE(current_thread_info()->syscall_work) & UB_WORK)
		return ub_end(b, UB_END_WORK);
	if (READ_ONCE(current_thread_info()->flags) & EXIT_TO_USER_MODE_WORK &&
	    !ub_work(b))
		return 0;
	if (!READ_ONCE(e->limit))
		return ub_end(b, UB_END_OFF);
	/* A program that stays away from syscalls gains nothing here. */
	if (overrun)
		return ub_end(b, UB_END_EXIT);
	/* In the other cases enter.S has looked in all tables. */
	native = why == UB_EXIT_FUEL ? ub_next(b) : 0;
	if (native)
		return native;
	if (why == UB_EXIT_MISS)
		ub_event(e, UB_EV_MISS, 0, regs->ip, b->from, 1);
	else if (why == UB_EXIT_STOP)
		ub_event(e, UB_EV_STOP, 0, regs->ip, 0, 1);
	return ub_end(b, UB_END_EXIT);
}

/**
 * ub_resume() - enter.S has done a syscall, and there is something to look at
 * @b: the block; pt_regs is what ub_sync() expects
 * @ret: what the syscall has returned
 *
 * Return: as ub_begin().
 */
unsigned long ub_resume(struct ub_block *b, long ret)
{
	ub_settle(b);
	/* That one was counted before it was clear where it would lead. */
	b->entries--;
	ub_complete(b);
	/* From here on ub_sync() leaves RAX alone. */
	WRITE_ONCE(b->exact, true);
	barrier();
	return ub_after(b, ret);
}
