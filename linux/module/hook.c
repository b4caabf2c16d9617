// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hook: which syscalls a chain can begin after, and how we get there.
 *
 * Each hooked function begins with a call of ub_tramp, which ftrace puts there.
 * For a task without our bit that is five instructions. All other ways to get there
 * (kprobes, tracepoints, ftrace with registers) cost from 40 to 400, or are paid
 * by all syscalls.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/static_call.h>
#include <linux/version.h>
#include <asm/unistd.h>

#include "ub.h"

unsigned int ub_hooks;

/*
 * Syscalls that programs do in loops. In a chain any other may follow; these are
 * only where it can begin.
 */
static const unsigned short ub_starts[] = {
	__NR_read, __NR_write, __NR_readv, __NR_writev, __NR_pread64,
	__NR_pwrite64, __NR_preadv, __NR_pwritev, __NR_preadv2, __NR_pwritev2,
	__NR_lseek, __NR_sendfile, __NR_splice, __NR_copy_file_range,
	__NR_fsync, __NR_fdatasync,
	__NR_open, __NR_openat, __NR_close, __NR_stat, __NR_fstat, __NR_lstat,
	__NR_newfstatat, __NR_statx, __NR_access, __NR_faccessat,
	__NR_faccessat2, __NR_readlink, __NR_readlinkat, __NR_getdents64,
	__NR_fcntl, __NR_ioctl, __NR_dup, __NR_unlink, __NR_unlinkat,
	__NR_poll, __NR_ppoll, __NR_select, __NR_pselect6, __NR_epoll_wait,
	__NR_epoll_pwait, __NR_epoll_pwait2, __NR_epoll_ctl, __NR_futex,
	__NR_eventfd2, __NR_timerfd_settime,
	__NR_accept, __NR_accept4, __NR_connect, __NR_recvfrom, __NR_sendto,
	__NR_recvmsg, __NR_sendmsg, __NR_recvmmsg, __NR_sendmmsg, __NR_socket,
	__NR_setsockopt, __NR_getsockopt, __NR_shutdown,
	__NR_getpid, __NR_gettid, __NR_getppid, __NR_getuid, __NR_geteuid,
	__NR_getgid, __NR_getegid, __NR_getrusage, __NR_gettimeofday,
	__NR_clock_gettime, __NR_clock_nanosleep, __NR_nanosleep,
	__NR_sched_yield, __NR_rt_sigprocmask, __NR_rt_sigaction, __NR_kill,
	__NR_tgkill, __NR_mmap, __NR_munmap, __NR_mprotect, __NR_mremap,
	__NR_madvise, __NR_brk, __NR_getrandom, __NR_io_uring_enter,
	__NR_io_submit, __NR_io_getevents, __NR_umask, __NR_getcwd,
};

/* No kernel implements this one. */
#define UB_NR_NONE __NR_create_module

/*
 * All in one, so that the kernel's text is changed once. If that fails, since
 * somebody else has a direct call at one of them, each on its own.
 */
static struct ftrace_ops ub_all;
static struct ftrace_ops ub_each[ARRAY_SIZE(ub_starts)];
static bool ub_all_on, ub_each_on[ARRAY_SIZE(ub_starts)];

/* Before 6.4 the function for several places had a name of its own. */
static int ub_hook_on(struct ftrace_ops *ops)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return register_ftrace_direct(ops, (unsigned long)ub_tramp);
#else
	return register_ftrace_direct_multi(ops, (unsigned long)ub_tramp);
#endif
}

static void ub_hook_off(struct ftrace_ops *ops)
{
	int ret;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	ret = unregister_ftrace_direct(ops, (unsigned long)ub_tramp, true);
#else
	ret = unregister_ftrace_direct_multi(ops, (unsigned long)ub_tramp);
	ftrace_free_filter(ops);
#endif
	WARN_ON(ret);
}

static int ub_hook_all(const unsigned long *table)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(ub_starts); i++) {
		unsigned long ip = table[ub_starts[i]];

		/* A kernel may be configured without it. */
		if (ip != table[UB_NR_NONE] &&
		    !ftrace_set_filter_ip(&ub_all, ip, 0, 0))
			ub_hooks++;
	}
	if (!ub_hooks)
		return -ENOENT;
	ret = ub_hook_on(&ub_all);
	if (!ret) {
		ub_all_on = true;
		return 0;
	}
	ftrace_free_filter(&ub_all);
	ub_hooks = 0;
	for (i = 0; i < ARRAY_SIZE(ub_starts); i++) {
		unsigned long ip = table[ub_starts[i]];

		if (ip == table[UB_NR_NONE] ||
		    ftrace_set_filter_ip(&ub_each[i], ip, 0, 0))
			continue;
		if (!ub_hook_on(&ub_each[i])) {
			ub_each_on[i] = true;
			ub_hooks++;
			continue;
		}
		ftrace_free_filter(&ub_each[i]);
		pr_warn("%ps has another hook: no chain will begin with it\n",
			(void *)ip);
	}
	return ub_hooks ? 0 : ret;
}

static unsigned long ub_no_symbol(const char *name)
{
	return 0;
}

/* Direct calls, for the same reason as in chain.c. */
DEFINE_STATIC_CALL(ub_kallsyms, ub_no_symbol);

/* A kprobe may be put at a function by name, and then says where that is. */
static int ub_find_kallsyms(void)
{
	struct kprobe kp = {
		.symbol_name = "kallsyms_lookup_name",
		.flags = KPROBE_FLAG_DISABLED,
	};
	int ret = register_kprobe(&kp);

	if (ret)
		return ret;
	static_call_update(ub_kallsyms,
			   (unsigned long (*)(const char *))kp.addr);
	unregister_kprobe(&kp);
	return 0;
}

int ub_hook_init(void)
{
	unsigned long call, table;
	int ret;

	ret = ub_find_kallsyms();
	if (ret) {
		pr_err("the kernel was built without kprobes, or kallsyms (%d)\n",
		       ret);
		return ret;
	}
	/* The dispatcher: in stable kernels since 2024. The table: for tracing. */
	call = static_call(ub_kallsyms)("x64_sys_call");
	table = static_call(ub_kallsyms)("sys_call_table");
	if (!call || !table) {
		pr_err("the kernel has no x64_sys_call, or no sys_call_table\n");
		return -ENOENT;
	}
	ub_set_syscall(call);
	ret = ub_hook_all((const unsigned long *)table);
	if (ret)
		pr_err("no syscall can be hooked (%d)\n", ret);
	return ret;
}

void ub_hook_exit(void)
{
	unsigned int i;

	if (ub_all_on) {
		ub_hook_off(&ub_all);
	} else {
		for (i = 0; i < ARRAY_SIZE(ub_starts); i++) {
			if (ub_each_on[i])
				ub_hook_off(&ub_each[i]);
		}
	}
	/*
	 * No task is in a chain: those keep the module. But some may be on the
	 * way into ub_tramp or out of ub_run, preempted even. None of them
	 * sleeps there, so wait until each task has slept, or been in user mode.
	 */
	synchronize_rcu_tasks();
}
