// SPDX-License-Identifier: GPL-2.0-only
/* The life of an enrolment: one process, from UB_ENROL to the close of the file. */
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "ub.h"

/* What a chain is bounded by unless told otherwise. */
#define UB_MAX_CHAIN	65536

/* Who comes and goes. */
static DEFINE_MUTEX(ub_enrol_mutex);
static DEFINE_HASHTABLE(ub_by_mm, 7);
static DEFINE_SPINLOCK(ub_by_mm_lock);
unsigned int ub_enrolments;
bool ub_enabled = true;
struct workqueue_struct *ub_wq;

/* The enrolment of an mm. Under RCU, or with preemption disabled. */
struct ub_enrolment *ub_find(struct mm_struct *mm)
{
	struct ub_enrolment *e;

	hash_for_each_possible_rcu_notrace(ub_by_mm, e, node,
					   (unsigned long)mm) {
		if (e->mm == mm)
			return e;
	}
	return NULL;
}

/* e->limit says in one load whether to chain, and how far. Under e->lock. */
void ub_set_limit(struct ub_enrolment *e)
{
	bool on = READ_ONCE(ub_enabled) && e->enabled && !e->dead && !e->rseq;

	WRITE_ONCE(e->limit, on ? e->max_chain : 0);
}

/* The switch for everything. */
void ub_set_enabled(bool on)
{
	struct ub_enrolment *e;
	int i;

	mutex_lock(&ub_enrol_mutex);
	WRITE_ONCE(ub_enabled, on);
	hash_for_each(ub_by_mm, i, e, node) {
		spin_lock(&e->lock);
		ub_set_limit(e);
		spin_unlock(&e->lock);
	}
	mutex_unlock(&ub_enrol_mutex);
}

/*
 * Sets or clears the bit that makes ub_tramp look at a thread. New threads have
 * it from the one that made them; one that is just being made when its maker
 * gets the bit is marked at the next call.
 */
void ub_mark_threads(struct ub_enrolment *e, bool on)
{
	struct task_struct *leader, *t;

	rcu_read_lock();
	leader = pid_task(e->tgid, PIDTYPE_TGID);
	if (leader) {
		for_each_thread(leader, t) {
			if (on)
				set_bit(UB_WORK_BIT,
					&task_thread_info(t)->syscall_work);
			else
				clear_bit(UB_WORK_BIT,
					  &task_thread_info(t)->syscall_work);
		}
	}
	rcu_read_unlock();
}

/* Who frees an enrolment: whoever comes second, of the close and the last chain. */
enum { UB_LIVES, UB_UNUSED, UB_ORPHAN };

static void ub_free(struct ub_enrolment *e)
{
	ub_event_free(e);
	ub_window_free(e);
	vfree(e->table[0]);
	vfree(e->table[1]);
	free_percpu(e->counts);
	percpu_ref_exit(&e->ref);
	if (e->mm) {
		put_pid(e->tgid);
		mmdrop(e->mm);
	}
	kfree(e);
}

static void ub_free_work(struct work_struct *work)
{
	ub_free(container_of(work, struct ub_enrolment, free));
	/* Unloading waits for this work to end. */
	module_put(THIS_MODULE);
}

/*
 * The file is closed and the last chain has ended. Nobody who has found the
 * enrolment before can still be looking at it: percpu_ref_kill() has waited for
 * them in between.
 */
static void ub_ref_gone(struct percpu_ref *ref)
{
	struct ub_enrolment *e = container_of(ref, struct ub_enrolment, ref);

	if (atomic_xchg(&e->fate, UB_UNUSED) == UB_ORPHAN)
		queue_work(ub_wq, &e->free);
	else
		complete_all(&e->unused);
}

/**
 * ub_reap() - free the blobs that were taken away
 * @e: whose
 *
 * Several may do this at a time. May sleep.
 */
void ub_reap(struct ub_enrolment *e)
{
	struct ub_blob *blob, *next;
	LIST_HEAD(dying);

	spin_lock(&e->lock);
	list_splice_init(&e->dying, &dying);
	e->reaping++;
	spin_unlock(&e->lock);
	ub_expel(e);
	list_for_each_entry_safe(blob, next, &dying, link) {
		list_del(&blob->link);
		ub_code_free(blob);
		ub_blob_free(blob);
	}
	spin_lock(&e->lock);
	/* All that was ever taken away has had its time. */
	if (!--e->reaping && list_empty(&e->dying))
		ub_table_sweep(e);
	spin_unlock(&e->lock);
}

static void ub_reap_work(struct work_struct *work)
{
	ub_reap(container_of(work, struct ub_enrolment, reap));
}

/* Removes one blob, or all if id is 0. */
int ub_revoke(struct ub_enrolment *e, u64 id)
{
	struct ub_blob *blob, *next;
	int ret = id ? -ENOENT : 0;

	spin_lock(&e->lock);
	list_for_each_entry_safe(blob, next, &e->blobs, link) {
		if (id && blob->id != id)
			continue;
		ub_drop(e, blob);
		ret = 0;
	}
	spin_unlock(&e->lock);
	ub_reap(e);
	return ret;
}

static struct ub_enrolment *ub_alloc(void)
{
	struct ub_enrolment *e = kzalloc(sizeof(*e), GFP_KERNEL);
	int i;

	if (!e)
		return NULL;
	e->counts = alloc_percpu(struct ub_counts);
	for (i = 0; i < 2; i++)
		e->table[i] = vmalloc(UB_TABLE_SIZE);
	if (percpu_ref_init(&e->ref, ub_ref_gone, 0, GFP_KERNEL) ||
	    ub_event_init(e) || !e->counts || !e->table[0] || !e->table[1]) {
		ub_free(e);
		return NULL;
	}
	ub_table_init(e);
	spin_lock_init(&e->lock);
	raw_spin_lock_init(&e->switch_lock);
	spin_lock_init(&e->pass_lock);
	INIT_LIST_HEAD(&e->blobs);
	INIT_LIST_HEAD(&e->dying);
	INIT_LIST_HEAD(&e->preempted);
	INIT_WORK(&e->reap, ub_reap_work);
	INIT_WORK(&e->free, ub_free_work);
	init_completion(&e->unused);
	e->epoch = 1;
	e->next_id = 1;
	e->lo = ULONG_MAX;
	e->enabled = true;
	e->max_chain = UB_MAX_CHAIN;
	e->hot = 64;
	e->miss = 8;
	e->mn.ops = &ub_mn_ops;
	return e;
}

/*
 * Whether another process uses task's memory, too: as long as a child of vfork()
 * has not executed a program of its own, it has its parent's. Threads of the
 * kernel have it for a moment only.
 */
static bool ub_shared(struct mm_struct *mm, struct task_struct *task)
{
	struct task_struct *p, *t;
	bool shared = false;

	rcu_read_lock();
	for_each_process_thread(p, t) {
		if (READ_ONCE(t->mm) == mm && t->signal != task->signal &&
		    !(t->flags & PF_KTHREAD))
			shared = true;
	}
	rcu_read_unlock();
	return shared;
}

/* Gives e the process; under ub_enrol_mutex. */
static int ub_attach(struct ub_enrolment *e, struct task_struct *task)
{
	struct mm_struct *mm;
	struct ub_enrolment *other;
	int ret;

	mm = get_task_mm(task);
	if (!mm)
		return task->flags & PF_KTHREAD ? -EOPNOTSUPP : -ESRCH;
	ret = -EOPNOTSUPP;
	if (test_tsk_thread_flag(task, TIF_ADDR32))
		goto out;
	ret = -EAGAIN;
	if (ub_shared(mm, task))
		goto out;
	rcu_read_lock();
	other = ub_find(mm);
	rcu_read_unlock();
	ret = -EBUSY;
	if (other)
		goto out;
	e->mm = mm;
	mmgrab(mm);
	e->tgid = get_pid(task_tgid(task));
	ret = mmu_notifier_register(&e->mn, mm);
	if (ret) {
		mmdrop(mm);
		put_pid(e->tgid);
		e->mm = NULL;
		goto out;
	}
	spin_lock(&e->lock);
	ub_set_limit(e);
	spin_unlock(&e->lock);
	spin_lock(&ub_by_mm_lock);
	hash_add_rcu(ub_by_mm, &e->node, (unsigned long)mm);
	spin_unlock(&ub_by_mm_lock);
	smp_mb(); /* see ub_stray() */
	ub_mark_threads(e, true);
out:
	mmput(mm);
	return ret;
}

/* Begins an enrolment. Return: it, or an error. */
struct ub_enrolment *ub_enrol(pid_t pid)
{
	struct task_struct *task;
	struct ub_enrolment *e;
	struct pid *p;
	int ret = -ESRCH;

	e = ub_alloc();
	if (!e)
		return ERR_PTR(-ENOMEM);
	p = find_get_pid(pid);
	task = get_pid_task(p, PIDTYPE_TGID);
	put_pid(p);
	if (task) {
		mutex_lock(&ub_enrol_mutex);
		ret = ub_attach(e, task);
		if (!ret)
			ub_enrolments++;
		mutex_unlock(&ub_enrol_mutex);
		put_task_struct(task);
	}
	if (!ret) {
		__module_get(THIS_MODULE);	/* until ub_free_work() */
		return e;
	}
	ub_free(e);
	return ERR_PTR(ret);
}

/*
 * Ends an enrolment. Afterwards no thread is in translated code; some may still
 * be in a syscall of a chain, and keep the memory, and the module, until it ends.
 */
void ub_unenrol(struct ub_enrolment *e)
{
	mutex_lock(&ub_enrol_mutex);
	spin_lock(&ub_by_mm_lock);
	hash_del_rcu(&e->node);
	spin_unlock(&ub_by_mm_lock);
	ub_mark_threads(e, false);
	ub_enrolments--;
	mutex_unlock(&ub_enrol_mutex);

	spin_lock(&e->lock);
	e->enabled = false;
	ub_set_limit(e);
	spin_unlock(&e->lock);
	ub_revoke(e, 0);
	/* Calls ub_release(), if the process is still there. No notifiers after. */
	mmu_notifier_unregister(&e->mn, e->mm);
	cancel_work_sync(&e->reap);
	ub_reap(e);
	percpu_ref_kill(&e->ref);
	/* As a rule it takes some milliseconds; a chain may sleep for ever. */
	wait_for_completion_timeout(&e->unused, HZ / 4);
	if (atomic_xchg(&e->fate, UB_ORPHAN) == UB_UNUSED) {
		wait_for_completion(&e->unused);
		ub_free(e);
		module_put(THIS_MODULE);
	}
}

int ub_enrol_init(void)
{
	ub_wq = alloc_workqueue("ub", WQ_UNBOUND, 0);
	return ub_wq ? 0 : -ENOMEM;
}

void ub_enrol_exit(void)
{
	/* The last free may still be running; the last reference still be going. */
	rcu_barrier();
	destroy_workqueue(ub_wq);
}
