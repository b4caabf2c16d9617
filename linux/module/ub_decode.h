/* SPDX-License-Identifier: GPL-2.0 */
/* What the two halves of the decoder share: ub_opcode.c and ub_decode.c. */
#ifndef UB_DECODE_H
#define UB_DECODE_H

#include "ub_verify_int.h"

/* What was read in front of the opcode. */
struct ub_prefixes {
	u8 p66, lock, rex;
	u8 rep;			/* 0, 0xf2 or 0xf3 */
	u8 w, r, x, b;
	u8 vvvv;
	u8 vex;			/* VEX or EVEX */
	u8 l;			/* VEX.L or EVEX.L'L */
	u8 evex;
	u8 r_hi, v_hi;		/* EVEX.R' and V' */
	u8 z, bcast;		/* EVEX.z and b */
	u8 aaa;
};

/* Walks over the bytes of one instruction. */
struct ub_reader {
	const u8 *code;
	u32 len;		/* of the code */
	u32 pos;
	u32 end;		/* where the code or the 15 bytes end */
	u8 op, space;
};

/* ub_take() steps over n bytes, if the instruction can have them. */
static inline u32 ub_take(struct ub_reader *r, u32 n)
{
	if (r->end - r->pos < n)
		return r->end == r->len ? UB_RULE_TRUNCATED : UB_RULE_FORM;
	r->pos += n;
	return 0;
}

static inline u32 ub_get(struct ub_reader *r, u8 *b)
{
	u32 err = ub_take(r, 1);

	if (!err)
		*b = r->code[r->pos - 1];
	return err;
}

/* Each returns 0, or the rule that is broken. */
u32 ub_read_opcode(struct ub_reader *r, struct ub_prefixes *p);
u32 ub_match(struct ub_reader *r, const struct ub_prefixes *p, u16 *form);

#endif
