/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The verifier of the module: decides whether the finished bytes of a blob may
 * run in kernel mode. docs/sfi.md is the policy with its reasons. Package sfi
 * decides the same in Go; whoever loads a blob, the module asks this one.
 *
 * It compiles as part of the module, and in user space for the tests. It
 * allocates nothing, does not recurse, and looks at nothing but its arguments.
 */
#ifndef UB_VERIFY_H
#define UB_VERIFY_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
#endif

/* Places outside of a blob that its code may jump to: target.Sym. */
enum { UB_SYM_SYSCALL, UB_SYM_DISPATCH, UB_SYM_STOP, UB_NUM_SYMS };

/* The longest blob that is looked at, in bytes. */
#define UB_VERIFY_MAX_CODE (1u << 20)

/**
 * struct ub_verify_env - what a blob may know about its surroundings
 * @base: the address at which the code will run
 * @syms: the absolute addresses of the trampolines; 0: there is none
 * @vec: the vector state that is the program's while the blob runs: 0 none,
 *       1 AVX, 2 AVX-512 (target.Vec). What is above belongs to the host.
 * @faults: offsets of the instructions that have a landing place for the
 *          exceptions that they raise, ascending. NULL: that is not checked.
 * @nfaults: how many there are
 */
struct ub_verify_env {
	u64 base;
	u64 syms[UB_NUM_SYMS];
	u32 vec;
	const u32 *faults;
	u32 nfaults;
};

/* A LOCK prefix, or XCHG with memory, which locks without one, occurs. */
#define UB_VERIFY_HAS_LOCK 1u

/**
 * struct ub_verify_result - what was found
 * @rule: of a refused blob: the rule that it breaks, else 0
 * @off: of a refused blob: offset of the offending instruction or entry
 * @flags: of an accepted blob: UB_VERIFY_HAS_LOCK
 */
struct ub_verify_result {
	u32 rule;
	u32 off;
	u32 flags;
};

/**
 * ub_verify_workspace() - size of the memory that ub_verify() works in
 * @code_len: length of the blob
 *
 * Return: the bytes needed. They need not be cleared; they must be aligned to
 * 8 bytes. 0 if @code_len is more than UB_VERIFY_MAX_CODE.
 */
size_t ub_verify_workspace(u32 code_len);

/**
 * ub_verify_rule_name() - the name of a rule, as docs/sfi.md has it
 * @rule: from struct ub_verify_result
 */
const char *ub_verify_rule_name(u32 rule);

/**
 * ub_verify() - verify the final bytes of a blob
 * @code: the bytes; they must not change while this runs, nor after it until
 *        they run
 * @len: how many there are
 * @entries: offsets in @code at which it may be entered, with arbitrary
 *           contents of all registers but RSP and RBP; they must not
 *           change while this runs
 * @nentries: how many there are
 * @env: where the code will run
 * @workspace: memory to work in
 * @size: its size, at least ub_verify_workspace(@len)
 * @res: where to say what was found
 *
 * The time is bounded by a constant times @len, plus @nentries. May sleep
 * (it gives up the processor now and then).
 *
 * Return: 0 if the blob may run. -EINVAL if not: @res says why. -ENOMEM if
 * the workspace is too small.
 */
int ub_verify(const u8 *code, u32 len, const u32 *entries, u32 nentries,
	      const struct ub_verify_env *env, void *workspace, size_t size,
	      struct ub_verify_result *res);

/**
 * ub_verify_starts() - whether an instruction starts somewhere
 * @workspace: as ub_verify() has left it when it accepted a blob
 * @off: offset in that blob
 */
int ub_verify_starts(const void *workspace, u32 off);

#endif
