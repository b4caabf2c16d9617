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
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/version.h>

#include "ub.h"

unsigned int ub_hooks;

/*
 * Syscalls that programs do in loops. In a chain any other may follow; these are
 * only where it can begin.
 */
static const char * const ub_names[] = {
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv",
	"pwritev", "preadv2", "pwritev2", "lseek", "sendfile64", "splice",
	"copy_file_range", "fsync", "fdatasync",
	"open", "openat", "close", "newstat", "newfstat", "newlstat",
	"newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink",
	"readlinkat", "getdents64", "fcntl", "ioctl", "dup", "unlink", "unlinkat",
	"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait",
	"epoll_pwait2", "epoll_ctl", "futex", "eventfd2", "timerfd_settime",
	"accept", "accept4", "connect", "recvfrom", "sendto", "recvmsg",
	"sendmsg", "recvmmsg", "sendmmsg", "socket", "setsockopt", "getsockopt",
	"shutdown",
	"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid",
	"getrusage", "gettimeofday", "clock_gettime", "clock_nanosleep",
	"nanosleep", "sched_yield", "rt_sigprocmask", "rt_sigaction", "kill",
	"tgkill", "madvise", "brk", "io_uring_enter", "io_submit",
	"io_getevents", "umask", "getcwd",
};

/*
 * All in one, so that the kernel's text is changed once. If that fails, since
 * somebody else has a direct call at one of them, each on its own.
 */
static struct ftrace_ops ub_all;
static struct ftrace_ops ub_each[ARRAY_SIZE(ub_names)];
static bool ub_all_on;

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

static int ub_filter(struct ftrace_ops *ops, const char *name)
{
	char sym[40];
	int n = snprintf(sym, sizeof(sym), "__x64_sys_%s", name);

	return ftrace_set_filter(ops, sym, n, 0);
}

static int ub_hook_all(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(ub_names); i++) {
		/* A kernel may be configured without it. */
		if (!ub_filter(&ub_all, ub_names[i]))
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
	for (i = 0; i < ARRAY_SIZE(ub_names); i++) {
		if (ub_filter(&ub_each[i], ub_names[i]))
			continue;
		if (!ub_hook_on(&ub_each[i])) {
			ub_hooks++;
			continue;
		}
		ftrace_free_filter(&ub_each[i]);
		pr_warn("%s has another hook already: no chain will begin with it\n",
			ub_names[i]);
	}
	return ub_hooks ? 0 : ret;
}

/* The address of a function that is not exported. */
static int ub_address(const char *name, unsigned long *addr)
{
	struct kprobe kp = { .symbol_name = name };
	int ret = register_kprobe(&kp);

	if (ret)
		return ret;
	*addr = (unsigned long)kp.addr;
	unregister_kprobe(&kp);
	return 0;
}

int ub_hook_init(void)
{
	unsigned long addr;
	int ret;

	/* Stable kernels of 2024 and later have it. */
	ret = ub_address("x64_sys_call", &addr);
	if (ret) {
		pr_err("the kernel has no x64_sys_call (%d)\n", ret);
		return ret;
	}
	ub_set_syscall(addr);
	ret = ub_hook_all();
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
		for (i = 0; i < ARRAY_SIZE(ub_names); i++) {
			if (ub_each[i].flags & FTRACE_OPS_FL_ENABLED)
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
