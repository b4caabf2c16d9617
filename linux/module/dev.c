// SPDX-License-Identifier: GPL-2.0-only
/* /dev/ub: see ub_abi.h. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "ub.h"

/* What file->private_data points at. */
struct ub_file {
	struct mutex mutex;	/* ioctls one after the other */
	struct ub_enrolment *e;	/* set once */
};

/* Events that one read(2) takes at a time. */
#define UB_READ_MAX	32

/*
 * Copies an argument from user space. The first versions of all structs are
 * the only ones so far, so a shorter one is wrong.
 */
static int ub_get(void *to, size_t size, void __user *from, u32 *user_size)
{
	int ret;

	if (get_user(*user_size, (u32 __user *)from))
		return -EFAULT;
	if (*user_size < size || *user_size > PAGE_SIZE)
		return -EINVAL;
	ret = copy_struct_from_user(to, size, from, *user_size);
	return ret == -E2BIG ? -EINVAL : ret;
}

static int ub_put(void __user *to, const void *from, size_t size)
{
	return copy_to_user(to, from, size) ? -EFAULT : 0;
}

static int ub_get_version(void __user *arg)
{
	struct ub_version v;
	u32 size;
	int ret;

	ret = ub_get(&v, sizeof(v), arg, &size);
	if (ret)
		return ret;
	v = (struct ub_version){
		.size = size,
		.abi = UB_ABI_VERSION,
		.facts = ub_facts,
		.vec = ub_vec,
		.enabled = READ_ONCE(ub_enabled),
		.hooks = ub_hooks,
		.enrolments = READ_ONCE(ub_enrolments),
		.ticks_khz = tsc_khz,
		.arena = UB_ARENA_KB << 10,
		.arena_free = ub_arena_free(),
		.max_code = UB_MAX_CODE,
		.max_relocs = UB_MAX_RELOCS,
		.max_entries = UB_MAX_ENTRIES,
		.max_faults = UB_MAX_FAULTS,
		.max_dirty = UB_MAX_DIRTY,
		.max_ranges = UB_MAX_RANGES,
		.max_source = UB_MAX_SOURCE,
		.max_blobs = UB_MAX_BLOBS,
		.max_gates = UB_MAX_GATES,
		.max_passes = UB_MAX_PASSES,
	};
	return ub_put(arg, &v, sizeof(v));
}

static int ub_do_enrol(struct ub_file *f, void __user *arg)
{
	struct ub_enrolment *e;
	struct ub_enrol a;
	u32 size;
	int ret;

	ret = ub_get(&a, sizeof(a), arg, &size);
	if (ret)
		return ret;
	if (a.reserved || a.pid <= 0)
		return -EINVAL;
	if (f->e)
		return -EBUSY;
	e = ub_enrol(a.pid);
	if (IS_ERR(e))
		return PTR_ERR(e);
	smp_store_release(&f->e, e);	/* for ub_read() and ub_poll() */
	return 0;
}

static int ub_do_install(struct ub_enrolment *e, void __user *arg)
{
	struct ub_install a;
	u32 size;
	int ret, err;

	ret = ub_get(&a, sizeof(a), arg, &size);
	if (ret)
		return ret;
	ret = ub_install(e, &a);
	err = ub_put(arg, &a, sizeof(a));
	if (err && !ret) {
		/* Nobody would know its id. */
		ub_revoke(e, a.id);
		ret = err;
	}
	return ret;
}

static int ub_do_revoke(struct ub_enrolment *e, void __user *arg)
{
	struct ub_revoke a;
	u32 size;
	int ret;

	ret = ub_get(&a, sizeof(a), arg, &size);
	if (ret)
		return ret;
	if (a.reserved)
		return -EINVAL;
	return ub_revoke(e, a.id);
}

static int ub_do_control(struct ub_enrolment *e, void __user *arg)
{
	struct ub_control a;
	u32 size;
	int ret;

	ret = ub_get(&a, sizeof(a), arg, &size);
	if (ret)
		return ret;
	if (a.set & ~(UB_SET_ENABLED | UB_SET_HOT | UB_SET_MISS | UB_SET_CHAIN) ||
	    (a.set & UB_SET_ENABLED && a.enabled > 1) ||
	    (a.set & UB_SET_HOT && !a.hot) || (a.set & UB_SET_MISS && !a.miss) ||
	    (a.set & UB_SET_CHAIN && !a.max_chain))
		return -EINVAL;
	spin_lock(&e->lock);
	if (a.set & UB_SET_ENABLED)
		e->enabled = a.enabled;
	if (a.set & UB_SET_HOT)
		WRITE_ONCE(e->hot, a.hot);
	if (a.set & UB_SET_MISS)
		WRITE_ONCE(e->miss, a.miss);
	if (a.set & UB_SET_CHAIN)
		e->max_chain = a.max_chain;
	ub_set_limit(e);
	a.enabled = e->enabled;
	a.hot = e->hot;
	a.miss = e->miss;
	a.max_chain = e->max_chain;
	spin_unlock(&e->lock);
	ub_mark_threads(e, true);
	return ub_put(arg, &a, sizeof(a));
}

static int ub_do_stats(struct ub_enrolment *e, void __user *arg)
{
	struct ub_counts sum = {};
	struct ub_stats s;
	unsigned int i;
	u32 size;
	int ret, cpu;

	ret = ub_get(&s, sizeof(s), arg, &size);
	if (ret)
		return ret;
	for_each_possible_cpu(cpu) {
		const u64 *n = (u64 *)per_cpu_ptr(e->counts, cpu);

		for (i = 0; i < sizeof(sum) / sizeof(u64); i++)
			((u64 *)&sum)[i] += READ_ONCE(n[i]);
	}
	s = (struct ub_stats){
		.size = size,
		.hooks = sum.hooks,
		.chains = sum.chains,
		.chained = sum.chained,
		.entries = sum.entries,
		.exit_miss = sum.exits[UB_EXIT_MISS],
		.exit_stop = sum.exits[UB_EXIT_STOP],
		.exit_fault = sum.exits[UB_EXIT_FAULT],
		.exit_fuel = sum.exits[UB_EXIT_FUEL],
		.end_no_entry = sum.ends[UB_END_NO_ENTRY],
		.end_signal = sum.ends[UB_END_SIGNAL],
		.end_restart = sum.ends[UB_END_RESTART],
		.end_work = sum.ends[UB_END_WORK],
		.end_never = sum.ends[UB_END_NEVER],
		.end_limit = sum.ends[UB_END_LIMIT],
		.end_off = sum.ends[UB_END_OFF],
		.end_gate = sum.ends[UB_END_GATE],
	};
	/* Not counted, as it is the way out that must be cheap. */
	s.exit_syscall = sum.chained + sum.ends[UB_END_NEVER];
	spin_lock(&e->lock);
	s.blobs = e->nblobs;
	s.code_bytes = (u64)e->ngranules << UB_GRANULE_SHIFT;
	s.installs = e->installs;
	s.refused = e->refused;
	s.invalidated = e->invalidated;
	s.expels = e->expels;
	s.events_lost = e->ev_lost;
	s.crowded = e->crowded;
	spin_unlock(&e->lock);
	return ub_put(arg, &s, sizeof(s));
}

static int ub_do_window(struct ub_enrolment *e, void __user *arg)
{
	struct ub_window a;
	u32 size;
	int ret, err;

	ret = ub_get(&a, sizeof(a), arg, &size);
	if (ret)
		return ret;
	a.npasses = 0;
	a.lost = 0;
	ret = ub_window(e, &a);
	err = ub_put(arg, &a, sizeof(a));
	return ret ? ret : err;
}

static long ub_ioctl(struct file *file, unsigned int cmd, unsigned long ptr)
{
	struct ub_file *f = file->private_data;
	void __user *arg = (void __user *)ptr;
	struct ub_enrolment *e;
	long ret;

	if (cmd == UB_GET_VERSION)
		return ub_get_version(arg);
	if (mutex_lock_interruptible(&f->mutex))
		return -EINTR;
	e = f->e;
	ret = -ENOTCONN;
	switch (cmd) {
	case UB_ENROL:
		ret = ub_do_enrol(f, arg);
		break;
	case UB_INSTALL:
		if (e)
			ret = ub_do_install(e, arg);
		break;
	case UB_REVOKE:
		if (e)
			ret = ub_do_revoke(e, arg);
		break;
	case UB_CONTROL:
		if (e)
			ret = ub_do_control(e, arg);
		break;
	case UB_STATS:
		if (e)
			ret = ub_do_stats(e, arg);
		break;
	case UB_WINDOW:
		if (e)
			ret = ub_do_window(e, arg);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&f->mutex);
	return ret;
}

static ssize_t ub_read(struct file *file, char __user *to, size_t size,
		       loff_t *pos)
{
	struct ub_file *f = file->private_data;
	/* Pairs with ub_do_enrol(). */
	struct ub_enrolment *e = smp_load_acquire(&f->e);
	struct ub_event *ev;
	ssize_t done = 0;
	int n;

	if (!e)
		return -ENOTCONN;
	if (size < sizeof(*ev))
		return -EINVAL;
	ev = kcalloc(UB_READ_MAX, sizeof(*ev), GFP_KERNEL);
	if (!ev)
		return -ENOMEM;
	for (;;) {
		n = min_t(size_t, (size - done) / sizeof(*ev), UB_READ_MAX);
		if (n)
			n = ub_event_take(e, ev, n);
		if (n) {
			if (copy_to_user(to + done, ev, n * sizeof(*ev))) {
				done = -EFAULT;
				break;
			}
			done += n * sizeof(*ev);
			continue;
		}
		if (done || READ_ONCE(e->dead))
			break;
		if (file->f_flags & O_NONBLOCK) {
			done = -EAGAIN;
			break;
		}
		done = wait_event_interruptible(e->ev_wait, ub_event_ready(e) ||
						READ_ONCE(e->dead));
		if (done)
			break;
	}
	kfree(ev);
	return done;
}

static __poll_t ub_poll(struct file *file, poll_table *wait)
{
	struct ub_file *f = file->private_data;
	/* Pairs with ub_do_enrol(). */
	struct ub_enrolment *e = smp_load_acquire(&f->e);
	__poll_t mask = 0;

	if (!e)
		return EPOLLERR;
	poll_wait(file, &e->ev_wait, wait);
	if (ub_event_ready(e))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(e->dead))
		mask |= EPOLLHUP;
	return mask;
}

static int ub_open(struct inode *inode, struct file *file)
{
	struct ub_file *f;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	f = kzalloc(sizeof(*f), GFP_KERNEL);
	if (!f)
		return -ENOMEM;
	mutex_init(&f->mutex);
	file->private_data = f;
	return stream_open(inode, file);
}

static int ub_close(struct inode *inode, struct file *file)
{
	struct ub_file *f = file->private_data;

	if (f->e)
		ub_unenrol(f->e);
	kfree(f);
	return 0;
}

static const struct file_operations ub_fops = {
	.owner = THIS_MODULE,
	.open = ub_open,
	.release = ub_close,
	.unlocked_ioctl = ub_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.read = ub_read,
	.poll = ub_poll,
	.llseek = noop_llseek,
};

static struct miscdevice ub_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ub",
	.fops = &ub_fops,
	.mode = 0600,
};

int ub_dev_init(void)
{
	return misc_register(&ub_misc);
}

void ub_dev_exit(void)
{
	misc_deregister(&ub_misc);
}

static int ub_set_param(const char *val, const struct kernel_param *kp)
{
	bool on;
	int ret = kstrtobool(val, &on);

	if (!ret)
		ub_set_enabled(on);
	return ret;
}

static const struct kernel_param_ops ub_enabled_ops = {
	.set = ub_set_param,
	.get = param_get_bool,
};

module_param_cb(enabled, &ub_enabled_ops, &ub_enabled, 0644);
MODULE_PARM_DESC(enabled, "whether enrolled processes run translated code (the switch for everything)");
