/* SPDX-License-Identifier: GPL-2.0-only */
/* The inside of ub.ko. docs/kernel-module.md says how the parts work together. */
#ifndef UB_H
#define UB_H

#include <linux/bitops.h>
#include <linux/completion.h>
#include <linux/entry-common.h>
#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/static_call.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "ub_abi.h"
#include "ub_asm.h"

/* Limits of one UB_INSTALL, and of one enrolment. */
#define UB_MAX_CODE	(256u << 10)
#define UB_MAX_RELOCS	16384u
#define UB_MAX_ENTRIES	4096u
#define UB_MAX_FAULTS	65536u
#define UB_MAX_DIRTY	(4 * UB_MAX_FAULTS)
#define UB_MAX_RANGES	1024u
#define UB_MAX_SOURCE	(512u << 10)
#define UB_MAX_BLOBS	1024u
#define UB_MAX_FILES	16u
#define UB_MAX_GATES	1024u
#define UB_MAX_PASSES	1024u

/* User addresses, and the FS base, are below this. */
#define UB_USER_END	BIT(47)

/* Threads with any of this run natively. */
#define UB_WORK		(SYSCALL_WORK_ENTER | SYSCALL_WORK_EXIT)
/* Of EXIT_TO_USER_MODE_WORK, what is done only on the way to user mode. */
#define UB_WORK_LEAVE	(_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | \
			 _TIF_UPROBE | _TIF_PATCH_PENDING)

/**
 * struct ub_way - an element of a dispatch table
 * @key: the program address, negated (compared by adding: that needs no flags)
 * @native: where to go on. Of an unused way, and of one whose blob is gone,
 *	this is ub_miss.
 *
 * An entry is taken away by making its key UB_DEAD_KEY. Whoever has seen the key
 * before has an old epoch, and gets to the code or to ub_miss. The way is used
 * again only when no thread with an old epoch can be between its two loads.
 */
struct ub_way {
	u64 key;
	unsigned long native;
};

#define UB_TABLE_ALL	(UB_TABLE_WAYS << UB_TABLE_BITS)
#define UB_TABLE_SIZE	(UB_TABLE_ALL * sizeof(struct ub_way))

/* The key of an unused way: its address is no one that a program runs at. */
#define UB_NO_KEY	1ull
#define UB_DEAD_KEY	2ull

/* Sums, in each processor's own part of an enrolment; and those of one chain. */
struct ub_counts {
	u64 hooks;
	u64 chains;
	u64 chained;
	u64 entries;
	u64 exits[5];		/* UB_EXIT_..., but for syscalls */
	u64 ends[9];		/* UB_END_... */
};

/* Why a chain ended. UB_END_EXIT: translated code was left, see exits. */
enum {
	UB_END_EXIT, UB_END_NO_ENTRY, UB_END_SIGNAL, UB_END_RESTART,
	UB_END_WORK, UB_END_NEVER, UB_END_LIMIT, UB_END_OFF,
	UB_END_GATE,
};

/* How a pass through a gap goes: see pass.c. */
enum { UB_PASS_NATIVE, UB_PASS_SYSCALL, UB_PASS_MISS, UB_PASS_STOP };

/**
 * struct ub_pass - a pass that is timed
 * @rip: where the gap begins; 0: none is timed
 * @began: time stamp counter
 * @window: the number of the window; 0: passes are not timed
 * @exit: UB_PASS_..., what is known so far
 */
struct ub_pass {
	u64 rip, began, window;
	u32 exit;
};

/**
 * struct ub_block - the context block: RSP points at it in translated code
 *
 * It is on the kernel stack, under the frame of ub_run(), which calls C with
 * its stack below it. So it lasts as long as a chain, and interrupts that come in
 * translated code push below it as well.
 */
struct ub_block {
	/* The slots of the contract. */
	u64 rsp, r12, r13, r14, r15, rbp, scratch[2];
	u64 fs_base, addr_mask;
	/* For the trampolines. */
	struct pt_regs *regs;
	const struct ub_way *table;
	u64 hash_mask;
	u64 poll;		/* 0: leave at the next dispatch */
	u64 from;		/* of a miss: native address of the transfer */
	u64 fault;		/* high part of the fault's index */
	u64 nat[16];		/* native registers at a fault */
	u64 nat_flags;
	u64 flags;		/* those of the program that do not change */
	u32 left;		/* syscalls that enter.S may do before C does one */
	u32 given;		/* what @left began with */
	struct ub_known {
		u64 rip;
		unsigned long native;
	} known[2][UB_KNOWN_VECTOR / 16];	/* see ub_forget() */
	u32 kept;		/* what is left, while @fpu is set */
	bool fpu;		/* vector registers are the program's, and locked */
	const struct ub_way *vectors;	/* @table, while @fpu is set */
	/* For C. */
	struct ub_enrolment *e;
	u64 epoch;		/* of @e when the last look-up in its tables began */
	u64 entries;		/* runs of translated code so far, see ub_runs() */
	u64 tick;		/* runs when the timer last looked */
	u32 chained;		/* syscalls so far, but for given - left */
	u32 limit;		/* of @e when @left was set */
	bool exact;		/* pt_regs is, but for what ub_sync() copies always */
	bool plain;		/* enter.S may do syscalls for this thread */
	bool overrun;		/* was in translated code for a whole period */
	bool preempted;		/* is in e->preempted */
	struct ub_counts n;	/* not yet added to the enrolment's */
	u64 told_entries;	/* parts of entries and chained that are */
	u32 told_chained;
	bool closed;		/* the last look-up found a gap that runs natively */
	struct ub_pass pass, last;	/* @last: of this window, ended */
	u64 last_end;
	u32 last_nr;
	u64 begin;		/* what the chain's beginning took, in ticks */
	struct preempt_notifier pn;
	struct list_head link;	/* e->preempted */
};

/* What a program register is made from after a fault: see struct ub_fault. */
struct ub_blob {
	struct list_head link;	/* e->blobs or e->dying */
	struct ub_enrolment *e;
	u64 id;
	unsigned long base;
	u32 code_len;
	u32 vec;
	u32 granule, granules;
	u32 nentries, nfaults, ndirty, nranges, nrelocs, nfiles;
	u8 *code;		/* aside, until it is verified and copied */
	u8 *source;		/* until it is compared */
	struct ub_reloc *relocs;
	struct ub_entry *entries;
	struct ub_fault *faults;
	struct ub_dirty *dirty;
	struct ub_range *ranges;
	struct file *files[UB_MAX_FILES];	/* cannot be written to meanwhile */
};

struct ub_place;		/* event.c */
struct ub_window_now;		/* pass.c */

/**
 * struct ub_enrolment - one process
 *
 * Locks, outer ones first: the file's mutex (ioctls), mmap_lock of the process,
 * @lock (also taken by the MMU notifier), @ev_lock. @switch_lock is taken with a run
 * queue locked, so nothing is woken up under it.
 */
struct ub_enrolment {
	struct hlist_node node;		/* by mm, RCU */
	struct percpu_ref ref;		/* held by the file, and by chains */
	struct work_struct free;
	struct completion unused;	/* the last chain has ended */
	atomic_t fate;
	struct mm_struct *mm;
	struct pid *tgid;
	struct mmu_notifier mn;
	struct work_struct reap;

	/* Read by each chain, written seldom. */
	u32 limit;			/* 0: do not chain */
	u64 epoch;			/* grows when blobs are taken away */
	struct ub_way *table[2];	/* vector level none; all levels */
	struct ub_window_now __rcu *window;	/* NULL: no gates, no times */
	u32 hot, miss;
	bool rseq;			/* has rseq critical sections */
	struct ub_counts __percpu *counts;

	spinlock_t lock;		/* what follows, and changes of the tables */
	bool dead;			/* exec or exit: the mm is gone */
	bool enabled;
	u32 max_chain;
	struct list_head blobs, dying;
	u32 nblobs, ngranules, ndead, reaping;
	u64 next_id;
	unsigned long lo, hi;		/* all source ranges lie in between */
	struct ub_blob *pending;	/* is being installed */
	bool pending_hit;		/* its source was invalidated meanwhile */
	atomic_t invalidations;		/* that have begun but not ended */
	u64 installs, refused, invalidated, expels;
	u64 crowded;			/* entries that found no place in a table */

	raw_spinlock_t switch_lock;
	struct list_head preempted;	/* chains preempted in translated code */
	u64 switches;			/* changes of that list */

	spinlock_t ev_lock;		/* the events */
	wait_queue_head_t ev_wait;
	struct ub_place *places;
	u64 *dead_ids;			/* for UB_EV_INVALID */
	u32 ev_ready;			/* places whose event is due */
	u64 ev_lost, ev_lost_told;
	bool gone_due, rseq_due;

	spinlock_t pass_lock;
	struct ub_passes *sums;
	u64 summed;			/* number of the window that they are of; 0: passes are not timed */
	u64 clip, longest, passes_lost;
};

struct pt_regs;

/* enter.S */
void ub_tramp(void);
void ub_miss(void);
void ub_gone(void);
void ub_sym_syscall(void);
void ub_sym_dispatch(void);
void ub_sym_stop(void);
void ub_landings(void);
extern char ub_dispatch_begin[], ub_dispatch_end[];

/* arena.S */
extern char ub_arena[], ub_arena_end[];

/* Called from enter.S. */
notrace struct ub_enrolment *ub_want(struct pt_regs *regs);
unsigned long ub_begin(struct ub_block *b, struct ub_enrolment *e);
unsigned long ub_resume(struct ub_block *b, long ret);
void ub_lock(struct ub_block *b);
void ub_unlock(struct ub_block *b);
unsigned long ub_left(struct ub_block *b, unsigned int why);

/* The chain of the task that runs on this processor. */
DECLARE_PER_CPU(struct ub_block *, ub_chain);

/* chain.c */
int ub_chain_init(void);
void ub_chain_exit(void);
void ub_flush(struct ub_block *b);
void ub_forget(struct ub_block *b);

/* regs.c */
void ub_complete(struct ub_block *b);
void ub_sync(struct ub_block *b);
const struct ub_fault *ub_recover(struct ub_block *b);

/* calls.c */
long ub_no_syscall(const struct pt_regs *regs, unsigned int nr);
DECLARE_STATIC_CALL(ub_syscall, ub_no_syscall);
void ub_calls_init(void);
void ub_set_syscall(unsigned long addr);
bool ub_chainable(unsigned int nr);
extern u32 ub_calls[UB_NR_MAX];

/* hook.c */
int ub_hook_init(void);
void ub_hook_exit(void);
extern unsigned int ub_hooks;

/* fuel.c */
extern unsigned long ub_anchor;
int ub_fuel_init(void);
void ub_fuel_exit(void);
void ub_fuel_start(void);
void ub_fuel_now(void);
bool ub_must_leave(struct ub_block *b);

/* expel.c */
extern struct preempt_ops ub_preempt_ops;
void ub_expel(struct ub_enrolment *e);
void ub_recall(struct ub_enrolment *e);

/* code.c */
int ub_code_init(void);
void ub_code_exit(void);
bool ub_in_arena(unsigned long ip);
u64 ub_arena_free(void);
int ub_code_alloc(struct ub_blob *blob);
void ub_code_write(struct ub_blob *blob);
void ub_code_free(struct ub_blob *blob);
const struct ub_fault *ub_fault_find(u32 index, struct ub_blob **blob);

/* table.c */
void ub_table_init(struct ub_enrolment *e);
void ub_table_add(struct ub_enrolment *e, const struct ub_blob *blob);
void ub_table_remove(struct ub_enrolment *e, const struct ub_blob *blob);
void ub_table_sweep(struct ub_enrolment *e);

/* install.c, source.c */
int ub_install(struct ub_enrolment *e, struct ub_install *arg);
void ub_blob_free(struct ub_blob *blob);
int ub_source_pin(struct ub_enrolment *e, struct ub_blob *blob);
void ub_source_unpin(struct ub_blob *blob);
int ub_source_same(struct ub_enrolment *e, struct ub_blob *blob);

/* enrol.c */
int ub_enrol_init(void);
void ub_enrol_exit(void);
notrace struct ub_enrolment *ub_find(struct mm_struct *mm);
struct ub_enrolment *ub_enrol(pid_t pid);
void ub_unenrol(struct ub_enrolment *e);
void ub_mark_threads(struct ub_enrolment *e, bool on);
void ub_set_limit(struct ub_enrolment *e);
void ub_set_enabled(bool on);
void ub_reap(struct ub_enrolment *e);
int ub_revoke(struct ub_enrolment *e, u64 id);
extern unsigned int ub_enrolments;
extern bool ub_enabled;
extern struct workqueue_struct *ub_wq;

/* notify.c */
extern const struct mmu_notifier_ops ub_mn_ops;
void ub_drop(struct ub_enrolment *e, struct ub_blob *blob);

/* event.c */
int ub_event_init(struct ub_enrolment *e);
void ub_event_free(struct ub_enrolment *e);
void ub_event(struct ub_enrolment *e, u32 type, u32 nr, u64 rip, u64 from,
	      u32 times);
void ub_event_invalid(struct ub_enrolment *e, u64 id);
void ub_event_note(struct ub_enrolment *e, bool *due);
bool ub_event_ready(struct ub_enrolment *e);
int ub_event_take(struct ub_enrolment *e, struct ub_event *out, int max);

/* pass.c */
bool ub_closed(struct ub_enrolment *e, u64 rip, u64 *timed);
void ub_pass_begin(struct ub_block *b, bool bypassed);
void ub_pass_left(struct ub_block *b, unsigned int why);
void ub_pass_end_chain(struct ub_block *b, u64 began);
void ub_pass_go_on(const struct ub_pass *pass);
void ub_pass_arrive(struct ub_enrolment *e, const struct pt_regs *regs);
int ub_window(struct ub_enrolment *e, struct ub_window *a);
void ub_window_free(struct ub_enrolment *e);

/* dev.c */
int ub_dev_init(void);
void ub_dev_exit(void);

/* facts.c */
int ub_facts_init(void);
extern u64 ub_addr_mask;		/* PDEP's, see facts.c */
extern u32 ub_facts, ub_vec;

/* Whether this thread is in translated code, or on the way in or out. */
static __always_inline bool ub_inside(void)
{
	return READ_ONCE(current->pagefault_disabled) & UB_INSIDE;
}

/* How often a chain has gone to translated code, those times in enter.S included. */
static __always_inline u64 ub_runs(const struct ub_block *b)
{
	return READ_ONCE(b->entries) +
	       (u32)(READ_ONCE(b->given) - READ_ONCE(b->left));
}

/* The set of a table that an address belongs to. */
static __always_inline struct ub_way *ub_set(const struct ub_way *table, u64 rip)
{
	u64 hash = ror64(rip, UB_TABLE_ROT) + rip;

	return (void *)table + ((hash << UB_TABLE_SHIFT) & UB_TABLE_MASK);
}

/**
 * ub_lookup() - where to go on for a program address
 * @table: one of an enrolment's tables
 * @rip: the address
 *
 * Return: the native address; that of ub_miss if there is none.
 */
static __always_inline unsigned long ub_lookup(const struct ub_way *table,
					       u64 rip)
{
	const struct ub_way *w = ub_set(table, rip);
	int i;

	for (i = 0; i < UB_TABLE_WAYS; i++) {
		if (READ_ONCE(w[i].key) + rip == 0)
			return READ_ONCE(w[i].native);
	}
	return (unsigned long)ub_miss;
}

#endif
