/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of ub.ko to user space: /dev/ub.
 *
 * An open file is the enrolment of one process: it begins with UB_ENROL and
 * ends with the last close of the file, or when the process calls execve or
 * exits. The file's owner needs CAP_SYS_ADMIN when it opens the device.
 *
 * Every argument is a struct that begins with its size as the caller knows it.
 * A size that is less than that of the struct's first version, or a bigger one
 * with something but zeros in what the module does not know, is -EINVAL. Fields
 * marked "out" are written also when the call fails, as far as they are known.
 * Whatever is reserved must be 0. All arrays are copied before they are looked
 * at. Multi-byte fields are naturally aligned; no struct has padding.
 */
#ifndef UB_ABI_H
#define UB_ABI_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* Grows when something changes for a caller that did nothing wrong. */
#define UB_ABI_VERSION	4

#define UB_IOC		0xb7
#define UB_GET_VERSION	_IO(UB_IOC, 0)	/* struct ub_version */
#define UB_ENROL	_IO(UB_IOC, 1)	/* struct ub_enrol */
#define UB_INSTALL	_IO(UB_IOC, 2)	/* struct ub_install */
#define UB_REVOKE	_IO(UB_IOC, 3)	/* struct ub_revoke */
#define UB_CONTROL	_IO(UB_IOC, 4)	/* struct ub_control */
#define UB_STATS	_IO(UB_IOC, 5)	/* struct ub_stats */
#define UB_WINDOW	_IO(UB_IOC, 6)	/* struct ub_window */

/* What ub_version.facts says of this machine and kernel. */
#define UB_FACT_SPLIT_LOCK	0x1	/* split locks trap: code with LOCK is refused */
#define UB_FACT_PTI		0x2	/* user mode has its own page tables */
#define UB_FACT_IBT		0x4	/* the kernel tracks indirect branches */
#define UB_FACT_SMAP		0x8	/* always set: the module needs it */
#define UB_FACT_FRED		0x10	/* the FRED entry code is in use */

/* UB_GET_VERSION. Works on any open file, enrolled or not. Everything is out. */
struct ub_version {
	__u32 size;
	__u32 abi;		/* UB_ABI_VERSION */
	__u32 facts;		/* UB_FACT_... */
	__u32 vec;		/* highest vector level (0 none, 1 avx, 2 avx512) */
	__u32 enabled;		/* the global switch */
	__u32 hooks;		/* number of syscalls after which a chain can begin */
	__u32 enrolments;	/* open now */
	__u32 ticks_khz;	/* ticks in a millisecond, see UB_WINDOW */
	__u64 arena;		/* bytes that all blobs share */
	__u64 arena_free;
	__u32 max_code;		/* limits of UB_INSTALL */
	__u32 max_relocs;
	__u32 max_entries;
	__u32 max_faults;
	__u32 max_dirty;
	__u32 max_ranges;
	__u32 max_source;	/* bytes in all ranges together */
	__u32 max_blobs;	/* of one enrolment */
	__u32 max_gates;	/* limits of UB_WINDOW */
	__u32 max_passes;
};

/*
 * UB_ENROL: all threads of the process, now and later. Its children are not
 * enrolled. -ESRCH: no such process; -EBUSY: enrolled already, or this file is in
 * use; -EOPNOTSUPP: a kernel thread or a 32-bit process; -EAGAIN: its memory is
 * another process's, too, since it has not executed its own program yet.
 */
struct ub_enrol {
	__u32 size;
	__s32 pid;		/* of the process, as the caller sees it */
	__u64 reserved;
};

/* The displacement of a jmp rel32, at off, to be pointed at a symbol (target.Sym). */
struct ub_reloc {
	__u32 off;
	__u32 sym;		/* 0 Syscall, 1 Dispatch, 2 Stop */
};

/* The code at off continues the program at rip. Sorted by rip, without doubles. */
struct ub_entry {
	__u64 rip;
	__u32 off;
	__u32 reserved;
};

/* btc.RegLoc: register virt of the program is native register nat, plus delta. */
struct ub_dirty {
	__u8 virt;		/* 4, 5, 12..15 */
	__u8 nat;		/* 0..15 without 4 and 5 */
	__u16 reserved;
	__s32 delta;
};

/* btc.FaultKind */
#define UB_FAULT_ACCESS	0
#define UB_FAULT_TOUCH	1
#define UB_FAULT_POLL	2
#define UB_FAULT_DIVIDE	3
#define UB_FAULT_STRING	4

/* ub_fault.flags */
#define UB_FAULT_F_STR	0x1	/* orig_di and start_di are meant */
#define UB_FAULT_F_SI	0x2	/* and orig_si and start_si too */

/*
 * btc.Fault: how to tell the program's registers when the instruction at off
 * faults. Sorted by off, without doubles.
 */
struct ub_fault {
	__u64 rip;
	__u32 off;
	__u32 first;		/* the first of its ndirty elements in the array dirty */
	__u8 kind;
	__u8 ndirty;		/* at most 6 */
	__u8 flags;
	__u8 orig_di;
	__u8 start_di;
	__u8 orig_si;
	__u8 start_si;
	__u8 reserved;
};

/* Program addresses [start, end) whose bytes the code was made from. */
struct ub_range {
	__u64 start;
	__u64 end;
};

/*
 * UB_INSTALL. An entry for a rip that has one already takes its place. Errors:
 *	-ENOEXEC	the verifier refuses the code: see rule and off
 *	-EAGAIN		the program's mappings were changing meanwhile: try again
 *	-ESTALE		the program's memory does not hold the source bytes
 *	-EACCES		a source range is not in private, executable mappings that
 *			cannot be written to, or its file is open for writing
 *	-EOPNOTSUPP	vec is more than there is; LOCK where split locks trap
 *	-ENOSPC		the arena, or the enrolment's share of it, is full
 *	-E2BIG		a limit of ub_version is exceeded
 *	-ESRCH		the process has gone, or has another program now
 *	-EINVAL		a record is not what it must be: see off for its index
 */
struct ub_install {
	__u32 size;
	__u32 vec;		/* target.Vec */
	__u64 code;		/* u8[code_len] */
	__u64 relocs;		/* struct ub_reloc[nrelocs], sorted by off */
	__u64 entries;		/* struct ub_entry[nentries] */
	__u64 faults;		/* struct ub_fault[nfaults] */
	__u64 dirty;		/* struct ub_dirty[ndirty] */
	__u64 ranges;		/* struct ub_range[nranges], sorted, disjoint */
	__u64 source;		/* u8[sum of the ranges' lengths] */
	__u32 code_len;
	__u32 nrelocs;
	__u32 nentries;
	__u32 nfaults;
	__u32 ndirty;
	__u32 nranges;
	__u64 reserved;
	__u64 id;		/* out: never 0, never used again by this enrolment */
	__u64 base;		/* out: native address of the code */
	__u32 rule;		/* out, with -ENOEXEC: the rule that is broken */
	__u32 off;		/* out, with -ENOEXEC: where; with -EINVAL: an index */
};

/*
 * UB_REVOKE: removes one blob, or all of them (id 0). When it returns no thread
 * runs the code any more. -ENOENT: there is none (it may have been invalidated).
 */
struct ub_revoke {
	__u32 size;
	__u32 reserved;
	__u64 id;
};

/* ub_control.set: which fields are to be set. All are returned, in any case. */
#define UB_SET_ENABLED	0x1
#define UB_SET_HOT	0x2
#define UB_SET_MISS	0x4
#define UB_SET_CHAIN	0x8

struct ub_control {
	__u32 size;
	__u32 set;		/* UB_SET_... */
	__u32 enabled;		/* 0: the process runs natively, blobs are kept */
	__u32 hot;		/* native syscalls of a site that make an event; sampled from 64 on */
	__u32 miss;		/* misses, faults, stops of one place that make one */
	__u32 max_chain;	/* syscalls after which the thread goes back to user mode */
};

/* ub_gate.gate, ub_window.floor. A gap that is not named has UB_GATE_KEPT. */
#define UB_GATE_NATIVE	0
#define UB_GATE_PROBE	1
#define UB_GATE_TRIAL	2
#define UB_GATE_KEPT	3

/* The gap behind the syscall that returns to rip. */
struct ub_gate {
	__u64 rip;
	__u32 gate;
	__u32 reserved;
};

/*
 * Passes through a gap in one window, from the return of a syscall to rip, to where
 * the next one, nr, returns to. Natively only those count that would be
 * bypassed in another window: that have an entry.
 */
struct ub_passes {
	__u64 rip;
	__u64 end;
	__u32 nr;
	__u32 how;		/* 0: natively, 1: bypassed at least in part */
	__u32 count;
	__u32 misses;		/* that left translated code for want of an entry */
	__u32 stops;		/* that left it for another reason */
	__u32 tails;		/* that took longer than clip */
	__u64 sum;		/* of what they took in ticks, each at most clip; and ends of chains */
	__u64 excess;		/* of what the tails took beyond it, up to longest */
};

/*
 * UB_WINDOW: ends one window of time and begins another. In each, gaps whose gate is
 * above its floor are bypassed if there is code, and all others run natively. Passes
 * can be timed, by the time stamp counter; then each syscall costs some more. Until
 * the first call, and with nothing but zeros, all are bypassed and none is timed.
 * Errors: -E2BIG: a limit of ub_version is exceeded; -EINVAL: gates that are not sorted,
 * or UB_GATE_KEPT, or not of user addresses. But for -EFAULT, when passes are written,
 * nothing has happened after one.
 */
struct ub_window {
	__u32 size;
	__u32 floor;		/* UB_GATE_... */
	__u32 timed;		/* 0 or 1 */
	__u32 ngates;
	__u64 gates;		/* struct ub_gate[ngates]: all there are, sorted by rip */
	__u64 clip;		/* see ub_passes: for the window that begins */
	__u64 longest;
	__u64 passes;		/* out: struct ub_passes[npasses] of the one that ends */
	__u32 room;		/* how many there may be */
	__u32 npasses;		/* out */
	__u64 lost;		/* out: passes that found no place */
};

/* UB_STATS: sums since enrolment. Everything but size is out. */
struct ub_stats {
	__u32 size;
	__u32 blobs;		/* installed now */
	__u64 code_bytes;	/* of the arena, in use now */
	__u64 hooks;		/* hooked syscalls that came from user mode */
	__u64 chains;		/* of them, those that entered translated code */
	__u64 chained;		/* syscalls reached by translated code */
	__u64 entries;		/* times translated code was entered */
	/* Ways in which a run of translated code, or a chain, ended. */
	__u64 exit_syscall;
	__u64 exit_miss;	/* no entry for the target of a jump */
	__u64 exit_stop;	/* an instruction that is not translated */
	__u64 exit_fault;	/* an access, a touch, a division, a string instruction */
	__u64 exit_fuel;	/* asked to leave at a poll */
	__u64 end_no_entry;	/* after a syscall: no entry for where it returns to */
	__u64 end_signal;
	__u64 end_restart;	/* the syscall wants to be restarted */
	__u64 end_work;		/* ptrace, seccomp, audit, tracing */
	__u64 end_never;	/* a syscall that is never chained */
	__u64 end_limit;	/* max_chain */
	__u64 end_off;		/* a switch, or the process has changed */
	__u64 end_gate;		/* the gap runs natively now, see UB_WINDOW */
	__u64 installs;
	__u64 refused;		/* by the verifier */
	__u64 invalidated;	/* blobs, because memory changed */
	__u64 expels;		/* times other threads had to be made to leave */
	__u64 events_lost;
	__u64 crowded;		/* entries that found no place in a table */
};

/*
 * read(2) gives whole records, as many as there are and fit; poll(2) says
 * whether there are any. At the end of the enrolment, after the last of them, it
 * gives 0 and poll says EPOLLHUP. There is at most one record for a place and
 * type at a time: it collects what happens until it is read.
 */
#define UB_EV_HOT	1	/* a syscall returned natively to rip, count times; nr */
#define UB_EV_MISS	2	/* from, a native address, wanted to go on at rip */
#define UB_EV_FAULT	3	/* the instruction at rip faulted in translated code; nr: kind */
#define UB_EV_STOP	4	/* translated code ended before rip */
#define UB_EV_INVALID	5	/* blob rip (its id) was dropped: its source changed */
#define UB_EV_LOST	6	/* count happenings were not recorded */
#define UB_EV_GONE	7	/* the process has gone, or has another program now */
#define UB_EV_RSEQ	8	/* rseq critical sections were seen: native from now on */

struct ub_event {
	__u32 type;		/* UB_EV_... */
	__u32 nr;		/* UB_EV_HOT: the syscall's number; UB_EV_FAULT: the kind */
	__u64 rip;
	__u64 from;		/* UB_EV_MISS; UB_EV_HOT: the stack pointer then */
	__u64 count;
	__u64 ns;		/* time from the first to now */
	__u32 tid;		/* a thread that it happened to, in the initial pid namespace */
	__u32 reserved;
};

#endif
