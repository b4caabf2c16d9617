// SPDX-License-Identifier: GPL-2.0-only
/*
 * The chain: syscall, translated code, syscall, ... until something wants the
 * thread in user mode.
 *
 * Invariant: whenever others can look at the thread, pt_regs is what it would be if
 * the program had come to the same place natively. One exception: while the
 * thread runs in a chained syscall, RBP and R12 to R15 are in the block. No
 * syscall that is chained looks at them; what can see them is an interrupt that
 * samples (perf).
 */
#include <linux/context_tracking.h>
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/nospec.h>
#include <linux/ptrace.h>
#include <linux/static_call.h>
#include <asm/fpu/api.h>
#include <asm/fsgsbase.h>
#include <asm/processor.h>
#include <asm/syscall.h>

#include "ub.h"

/* The part of struct ub_block that translated code and enter.S know. */
#define UB_AT(field, off) static_assert(offsetof(struct ub_block, field) == (off))
UB_AT(rsp, UB_B_RSP);
UB_AT(r12, UB_B_R12);
UB_AT(r13, UB_B_R13);
UB_AT(r14, UB_B_R14);
UB_AT(r15, UB_B_R15);
UB_AT(rbp, UB_B_RBP);
UB_AT(fs_base, 0x40);
UB_AT(addr_mask, 0x48);
UB_AT(tag_mask, 0x50);
UB_AT(regs, UB_B_REGS);
UB_AT(table, UB_B_TABLE);
UB_AT(hash_mask, UB_B_HASHMASK);
UB_AT(poll, UB_B_POLL);
UB_AT(from, UB_B_FROM);
UB_AT(fault, UB_B_FAULT);
UB_AT(nat, UB_B_NAT);
UB_AT(nat_flags, UB_B_NATFLAGS);
UB_AT(rcx, UB_B_RCX);
UB_AT(r11, UB_B_R11);
UB_AT(flags, UB_B_FLAGS);
static_assert(sizeof(struct ub_block) <= UB_BLOCK_SIZE);
static_assert(UB_BLOCK_SIZE % 16 == 8);
/* What ub_tramp assumes. */
static_assert(offsetof(struct task_struct, thread_info) == 0);
static_assert(offsetof(struct thread_info, syscall_work) == 8);

DEFINE_PER_CPU(struct ub_block *, ub_chain);

static long ub_no_syscall(const struct pt_regs *regs, unsigned int nr)
{
	return -ENOSYS;
}

/*
 * The kernel's own dispatcher. It is not exported, and an indirect call to it
 * may trap, since nothing in the kernel takes its address; a static call is
 * patched to be a direct one.
 */
DEFINE_STATIC_CALL(ub_syscall, ub_no_syscall);

void ub_set_syscall(unsigned long addr)
{
	static_call_update(ub_syscall,
			   (long (*)(const struct pt_regs *, unsigned int))addr);
}

/*
 * Syscalls that only native code does. There a chain ends before them, and the
 * program executes the instruction itself.
 */
static const unsigned short ub_never_list[] = {
	/* They replace the program, or do not return. */
	__NR_execve, __NR_execveat, __NR_exit, __NR_exit_group,
	/* The child begins with a copy of pt_regs and of this thread's flags. */
	__NR_clone, __NR_clone3, __NR_fork, __NR_vfork,
	/* They change pt_regs: all of it, segments and system flags included. */
	__NR_rt_sigreturn, __NR_restart_syscall,
	/* They change what has been checked when the chain began. */
	__NR_ptrace, __NR_seccomp, __NR_prctl, __NR_arch_prctl,
	/* They change how this thread must return to user mode. */
	__NR_iopl, __NR_ioperm, __NR_modify_ldt,
	/* Registers an area that is to be updated on each return to user mode. */
	__NR_rseq,
	/* Of later kernels. They look at the code that calls them: uretprobe, uprobe. */
	335, 336,
	/* And shadow stacks. */
	453,
};

#define UB_NR_MAX	512
static_assert(NR_syscalls <= UB_NR_MAX);
static DECLARE_BITMAP(ub_chainable, UB_NR_MAX);

/* Somebody whom xfer_to_guest_mode_handle_work() can tell of a signal. */
static struct kvm_vcpu *ub_vcpu;

int ub_chain_init(void)
{
	int i;

	ub_vcpu = kvzalloc(sizeof(*ub_vcpu), GFP_KERNEL);
	if (!ub_vcpu)
		return -ENOMEM;
	ub_vcpu->run = (void *)get_zeroed_page(GFP_KERNEL);
	if (!ub_vcpu->run) {
		kvfree(ub_vcpu);
		return -ENOMEM;
	}
	/* x32 numbers are above. */
	bitmap_set(ub_chainable, 0, NR_syscalls);
	for (i = 0; i < ARRAY_SIZE(ub_never_list); i++)
		__clear_bit(ub_never_list[i], ub_chainable);
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
	unsigned int i;

	b->n.chained = b->chained - b->told_chained;
	b->told_chained = b->chained;
	b->n.entries = b->entries - b->told_entries;
	b->told_entries = b->entries;
	for (i = 0; i < sizeof(b->n) / sizeof(u64); i++)
		((u64 *)to)[i] += n[i];
	put_cpu_ptr(b->e->counts);
	memset(&b->n, 0, sizeof(b->n));
}

/* Copies the registers that a chain keeps to itself to pt_regs. */
void ub_sync(struct ub_block *b)
{
	struct pt_regs *regs = b->regs;

	regs->bp = b->rbp;
	regs->r12 = b->r12;
	regs->r13 = b->r13;
	regs->r14 = b->r14;
	regs->r15 = b->r15;
}

/* Ends the chain. Return: 0, for the caller to return. */
static noinline unsigned long ub_end(struct ub_block *b, int why)
{
	struct ub_enrolment *e = b->e;

	WRITE_ONCE(b->inside, 0);
	ub_sync(b);
	b->n.ends[why]++;
	/* Together: in between, the notifiers would set ub_chain again. */
	preempt_disable();
	ub_flush(b);
	__this_cpu_write(ub_chain, NULL);
	preempt_notifier_unregister(&b->pn);
	preempt_enable();
	percpu_ref_put(&e->ref);
	return 0;
}

/* ub_next() for code that uses vector registers. */
static noinline unsigned long ub_next_vector(struct ub_block *b)
{
	unsigned long native = ub_lookup(b->e->table[1], b->regs->ip);

	if (native == (unsigned long)ub_miss) {
		WRITE_ONCE(b->inside, 0);
		return 0;
	}
	fpregs_lock();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	b->fpu = true;
	b->table = b->e->table[1];
	b->entries++;
	pagefault_disable();
	return native;
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
 * Return: 0 if there is no code for where the program is. The thread is not
 * inside then.
 */
static __always_inline unsigned long ub_next(struct ub_block *b)
{
	struct ub_enrolment *e = b->e;
	unsigned long native;

	WRITE_ONCE(b->inside, READ_ONCE(e->epoch));
	native = ub_lookup(e->table[0], b->regs->ip);
	if (unlikely(native == (unsigned long)ub_miss))
		return ub_next_vector(b);
	b->entries++;
	pagefault_disable();
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
	if (todo & (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | _TIF_UPROBE |
		    _TIF_PATCH_PENDING)) {
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
static __always_inline unsigned long ub_after(struct ub_block *b, long ret)
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
	if (unlikely(!native))
		return ub_end(b, UB_END_NO_ENTRY);
	return native;
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
	b->tag_mask = 1ull << 63;
	b->table = e->table[0];
	b->hash_mask = UB_TABLE_MASK;
	b->poll = 1;
	b->e = e;
	b->inside = 0;
	b->entries = 0;
	b->tick = 0;
	b->chained = 0;
	b->told_entries = 0;
	b->told_chained = 0;
	b->flags = regs->flags & ~(u64)(UB_FLAGS | UB_FLAG_RF);
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

	regs->ax = static_call(ub_syscall)(regs, regs->orig_ax);
	/* The contract has it below 2^47; a program can set it to anything. */
	if (unlikely(b->fs_base >= UB_USER_END))
		return ub_end(b, UB_END_WORK);
	return ub_after(b, regs->ax);
}

/* Rebuilds the program's registers after a fault. Return: its record. */
static const struct ub_fault *ub_recover(struct ub_block *b)
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

/* After translated code: the things that were locked or disabled for it. */
static __always_inline void ub_out(struct ub_block *b)
{
	pagefault_enable();
	if (unlikely(b->fpu)) {
		b->fpu = false;
		b->table = b->e->table[0];
		fpregs_unlock();
	}
}

/**
 * ub_left() - translated code was left in another way than by a syscall
 * @b: the block; pt_regs is exact, unless @why is UB_EXIT_FAULT
 * @why: UB_EXIT_...
 *
 * Return: as ub_begin().
 */
unsigned long ub_left(struct ub_block *b, unsigned int why)
{
	struct ub_enrolment *e = b->e;
	struct pt_regs *regs = b->regs;
	const struct ub_fault *f;
	bool overrun = b->overrun, asked = !b->poll;
	unsigned long native;

	ub_out(b);
	/* The program is not in a syscall: there is none to be restarted. */
	regs->orig_ax = -1;
	b->poll = 1;
	b->overrun = false;
	if (why == UB_EXIT_FAULT) {
		f = ub_recover(b);
		WRITE_ONCE(b->inside, 0);
		if (!f) {
			/* The registers are lost. So is the program. */
			send_sig(SIGKILL, current, 1);
			return ub_end(b, UB_END_SIGNAL);
		}
		/* A touch reads the anchor too. */
		if (f->kind != UB_FAULT_POLL &&
		    !(asked && f->kind == UB_FAULT_TOUCH)) {
			b->n.exits[UB_EXIT_FAULT]++;
			ub_event(e, UB_EV_FAULT, f->kind, f->rip, 0, 1);
			return ub_end(b, UB_END_EXIT);
		}
		why = UB_EXIT_FUEL;
	}
	WRITE_ONCE(b->inside, 0);
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
	/* A dispatch looks only among code of its own vector level. */
	native = why == UB_EXIT_STOP ? 0 : ub_next(b);
	if (native)
		return native;
	if (why == UB_EXIT_MISS)
		ub_event(e, UB_EV_MISS, 0, regs->ip, b->from, 1);
	else if (why == UB_EXIT_STOP)
		ub_event(e, UB_EV_STOP, 0, regs->ip, 0, 1);
	return ub_end(b, UB_END_EXIT);
}

/* Has the program execute its syscall instruction itself. */
static noinline unsigned long ub_undo(struct ub_block *b, int why)
{
	struct pt_regs *regs = b->regs;

	regs->ip -= 2;
	regs->ax = regs->orig_ax;
	regs->cx = b->rcx;
	regs->r11 = b->r11;
	regs->orig_ax = -1;
	return ub_end(b, why);
}

/**
 * ub_step() - translated code has reached a syscall
 * @b: the block; pt_regs is what the kernel's entry code makes it
 *
 * Return: as ub_begin().
 */
unsigned long ub_step(struct ub_block *b)
{
	struct pt_regs *regs = b->regs;
	u32 nr = regs->orig_ax;

	ub_out(b);
	WRITE_ONCE(b->inside, 0);
	if (unlikely(nr >= UB_NR_MAX))
		return ub_undo(b, UB_END_NEVER);
	nr = array_index_nospec(nr, UB_NR_MAX);
	if (unlikely(!test_bit(nr, ub_chainable)))
		return ub_undo(b, UB_END_NEVER);
	/* Somebody may have begun to trace this thread meanwhile. */
	if (unlikely(READ_ONCE(current_thread_info()->syscall_work) & UB_WORK))
		return ub_undo(b, UB_END_WORK);
#ifdef X86_FEATURE_FRED		/* since 6.9: there these registers stay */
	if (cpu_feature_enabled(X86_FEATURE_FRED)) {
		regs->cx = b->rcx;
		regs->r11 = b->r11;
	}
#endif
	b->chained++;
	return ub_after(b, static_call(ub_syscall)(regs, nr));
}
