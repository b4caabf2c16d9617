/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the verifier's files share. ub_decode.c reads one instruction,
 * ub_verify.c the whole code and where control goes in it, ub_flow.c computes
 * what is known about each register and checks each memory operand.
 *
 * Package sfi has the same in Go, with the same names where possible, and says
 * more about the reasons. Both must give the same verdict, rule and offset.
 */
#ifndef UB_VERIFY_INT_H
#define UB_VERIFY_INT_H

#include "ub_verify.h"
#include "ub_policy.h"

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/sched.h>
#else
#include <errno.h>
#define cond_resched() do { } while (0)
#endif

enum { UB_RCX = 1, UB_RSP = 4, UB_RBP = 5, UB_RSI = 6, UB_RDI = 7 };
enum { UB_REG_NONE = 0xfe, UB_REG_RIP = 0xff };

/* An operand of a form: letters as in sfi/forms.txt; g e r h for kG kE kR kB. */
struct ub_operand {
	u8 kind;
	u8 size;	/* 0: has none */
	u8 part;	/* of size x: the vector's length is divided by it */
	u8 write;
};

/* Attributes of a form. */
#define UB_F_ANYPFX	0x0001u	/* refused whatever the prefixes are */
#define UB_F_F3		0x0002u	/* F3 is a valid repeat prefix */
#define UB_F_MODRM	0x0004u
#define UB_F_NOREX	0x0008u
#define UB_F_NEEDB	0x0010u
#define UB_F_MASK	0x0020u	/* EVEX.aaa may name an opmask */
#define UB_F_ZERO	0x0040u	/* EVEX.z may be set */
#define UB_F_ER		0x0080u	/* EVEX.b with registers: L'L is the rounding mode */
#define UB_F_SAE	0x0100u	/* EVEX.b may be set with registers */
#define UB_F_LOCK	0x0200u	/* LOCK is valid */
#define UB_F_BIT	0x0400u	/* the immediate is the number of a bit */
#define UB_F_PERHAPS	0x0800u	/* the memory operand is perhaps not accessed */
#define UB_F_LANDING	0x1000u	/* ENDBR64 */
#define UB_F_RAISES	0x4000u	/* an exception, whatever is accessed */
#define UB_F_LOCKS	0x2000u	/* XCHG: locked without a prefix, with memory */

/* One line of sfi/forms.txt. */
struct ub_form {
	u8 rule;	/* 0: accepted; else why it is refused */
	s8 digit;	/* ModRM.reg, or -1 */
	s16 modrm;	/* the whole ModRM byte, or -1 */
	u8 p66;		/* UB_ABSENT, UB_OPTIONAL, UB_REQUIRED */
	u8 rep;		/* mandatory 0xf2 or 0xf3, else 0 */
	s8 w;		/* required W, or -1 */
	u8 vec;		/* vector level needed */
	u8 lens;	/* VEX and EVEX: bit set of the L (L'L) that are valid */
	u8 bcast;	/* EVEX.b with memory: the element's size, UB_BCASTW, or 0 */
	u8 fx;		/* UB_FX_... */
	u8 flow;	/* UB_NEXT, UB_JMP, UB_JCC */
	u16 clobber;	/* registers written implicitly */
	u8 nops;
	u16 flags;
	struct ub_operand ops[4];
};

extern const struct ub_form ub_forms[];

#define UB_I_LOCK	0x01u
#define UB_I_REP	0x02u
#define UB_I_MEM	0x04u	/* there is a memory operand */
#define UB_I_WRITE	0x08u	/* which is written */
#define UB_I_SURE	0x10u	/* and accessed as a whole when the instruction completes */
#define UB_I_PROGRAM	0x20u	/* it is program memory: base neither RSP nor RBP */
#define UB_I_LEADER	0x40u	/* a basic block starts here */

/* One decoded instruction, reduced to what the policy asks about. */
struct ub_inst {
	u32 off;
	s32 disp;
	s64 imm;	/* sign-extended; of a jump: target offset in the code, or outside */
	u32 block;
	u16 form;
	u16 clobber;	/* registers that may be written, in whole or in part */
	u8 len;
	u8 flags;
	u8 osz;		/* width of v operands in bytes: 2, 4, 8 */
	u8 msize;	/* of the memory operand; 0: not accessed */
	u8 base, index, scale;
	u8 dst, src;	/* of an effect; UB_REG_NONE: memory or nowhere */
};

/* What is proved about the 64 bits of a register. */
enum ub_kind {
	UB_UNKNOWN,
	UB_NUMBER,	/* a number in [lo, hi], 0 <= lo <= hi < UB_NUMBERS */
	UB_WINDOW,	/* w + [lo, hi], w sanitized; and UB_TOUCHED, if also */
	UB_TOUCHED,	/* w + [lo, hi], an access at w has completed */
};

struct ub_value {
	s64 lo, hi;
	s32 tlo, thi;	/* as a UB_TOUCHED value, if also; else 0 */
	u32 kind;
	u32 also;
};

struct ub_state {
	struct ub_value r[16];
};

/* A basic block: entered at its first instruction only. */
struct ub_block {
	struct ub_state in;
	u32 first, last;	/* in insts, inclusive */
	u32 head;		/* in heads, or UB_NO_HEAD */
	u8 reached, queued;
};

#define UB_NO_HEAD	(~0u)

/* What is remembered about a block that a jump goes back to. */
struct ub_head {
	struct ub_state seen;
	u8 changes[16];
	u8 visited;
};

/* A set of blocks, the first one of the code on top. */
struct ub_heap {
	u32 *q;
	u32 n;
};

/* One verification. It lies at the start of the workspace. */
struct ub_verifier {
	const u8 *code;
	u32 len;
	const u32 *entries;
	u32 nentries;
	const struct ub_verify_env *env;
	struct ub_verify_result *res;

	struct ub_inst *insts;
	u32 ninsts;
	u32 *at;		/* by offset: index in insts, or UB_NO_INST */
	struct ub_block *blocks;
	u32 nblocks;
	struct ub_head *heads;
	u32 nheads;
	struct ub_heap queue, later;
	u32 visiting;		/* the block that is visited; UB_NO_BLOCK: none yet */
	u64 steps;
	struct ub_state s;	/* here and not on the stack */
};

#define UB_NO_INST	(~0u)
#define UB_NO_BLOCK	(~0u)

/* Each returns 0, or the rule that is broken; verifying stops then. */
u32 ub_decode(const u8 *code, u32 len, u32 off, struct ub_inst *in);
u32 ub_flow(struct ub_verifier *v);
u32 ub_check_memory(struct ub_verifier *v);
u32 ub_check_faults(struct ub_verifier *v);

/* ub_refuse() says where a rule is broken. */
static inline u32 ub_refuse(struct ub_verifier *v, u32 off, u32 rule)
{
	v->res->off = off;
	v->res->rule = rule;
	return rule;
}

static inline const struct ub_form *ub_form(const struct ub_inst *in)
{
	return &ub_forms[in->form];
}

/* ub_is_poll() tells whether an instruction is mov r32, [rbp+UB_POLL_DISP]. */
static inline int ub_is_poll(const struct ub_inst *in)
{
	return ub_form(in)->fx == UB_FX_COPY && in->osz == 4 &&
	       (in->flags & (UB_I_MEM | UB_I_WRITE)) == UB_I_MEM &&
	       in->base == UB_RBP && in->index == UB_REG_NONE &&
	       in->disp == UB_POLL_DISP;
}

/* ub_jumps_to() returns the instruction of the blob that in jumps to. */
static inline u32 ub_jumps_to(const struct ub_verifier *v,
			      const struct ub_inst *in)
{
	if (ub_form(in)->flow == UB_NEXT || in->imm < 0 || in->imm >= v->len)
		return UB_NO_INST;
	return v->at[in->imm];
}

#endif
