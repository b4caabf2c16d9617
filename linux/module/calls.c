// SPDX-License-Identifier: GPL-2.0-only
/* Which syscalls are done in a chain, and by whom. */
#include <linux/cache.h>
#include <linux/nospec.h>
#include <linux/static_call.h>
#include <asm/unistd.h>

#include "ub.h"

long ub_no_syscall(const struct pt_regs *regs, unsigned int nr)
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

/*
 * What may be chained: there each number is in its own place, and in all other
 * places there is one that belongs to another. So enter.S needs one comparison.
 */
u32 ub_calls[UB_NR_MAX] __ro_after_init;

static_assert(NR_syscalls <= UB_NR_MAX);

/* Whether a syscall may be chained. */
bool ub_chainable(unsigned int nr)
{
	return nr < UB_NR_MAX &&
	       ub_calls[array_index_nospec(nr, UB_NR_MAX)] == nr;
}

void __init ub_calls_init(void)
{
	unsigned int i;

	/* x32 numbers are above. */
	for (i = 0; i < UB_NR_MAX; i++)
		ub_calls[i] = i < NR_syscalls ? i : i ^ 1;
	for (i = 0; i < ARRAY_SIZE(ub_never_list); i++)
		ub_calls[ub_never_list[i]] = ub_never_list[i] ^ 1;
}
