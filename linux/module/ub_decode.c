// SPDX-License-Identifier: GPL-2.0
/*
 * The second half of the decoder: ModRM, displacement, operands. What is not on
 * the allow-list, or is encoded in an unusual way, is refused.
 */
#include "ub_decode.h"

/* get_int() reads a little-endian signed integer of 1, 2, 4 or 8 bytes. */
static u32 get_int(struct ub_reader *r, u32 size, s64 *v)
{
	u32 err = ub_take(r, size), i;
	u64 x = 0;

	if (err)
		return err;
	for (i = 0; i < size; i++)
		x |= (u64)r->code[r->pos - size + i] << (8 * i);
	switch (size) {
	case 1:
		*v = (s8)x;
		break;
	case 2:
		*v = (s16)x;
		break;
	case 4:
		*v = (s32)x;
		break;
	default:
		*v = (s64)x;
	}
	return 0;
}

static u32 operand_bytes(const struct ub_operand *o, u8 osz)
{
	switch (o->size) {
	case 'b':
		return 1;
	case 'w':
		return 2;
	case 'd':
		return 4;
	case 'q':
		return 8;
	case 'o':
		return 16;
	}
	return osz;
}

/* set_memory() fills in what the form says about the memory operand. */
static void set_memory(struct ub_inst *in, const struct ub_prefixes *p)
{
	const struct ub_form *f = ub_form(in);
	u32 i;

	in->flags |= UB_I_MEM;
	for (i = 0; i < f->nops; i++) {
		const struct ub_operand *o = &f->ops[i];

		switch (o->kind) {
		case 'E': case 'M': case 'W': case 'e':
			in->flags &= ~(UB_I_WRITE | UB_I_SURE);
			if (o->write)
				in->flags |= UB_I_WRITE;
			if (!(f->flags & UB_F_PERHAPS) && !p->aaa)
				in->flags |= UB_I_SURE;
			in->msize = operand_bytes(o, in->osz);
			if (o->size == 'x')
				in->msize = (16 << p->l) / o->part;
			if (p->bcast)
				in->msize = f->bcast == UB_BCASTW ? in->osz : f->bcast;
		}
	}
}

/* read_address() reads SIB and displacement. */
static u32 read_address(struct ub_reader *r, struct ub_inst *in,
			const struct ub_prefixes *p, u8 modrm)
{
	u8 mod = modrm >> 6, rm = modrm & 7, sib, index;
	u32 size = mod == 1 ? 1 : mod == 2 ? 4 : 0, err;
	s64 d;

	in->scale = 1;
	if (rm == 4) {
		err = ub_get(r, &sib);
		if (err)
			return err;
		index = (sib >> 3 & 7) | p->x << 3;
		if (index != 4) {
			in->index = index;
			in->scale = 1 << (sib >> 6);
		}
		if ((sib & 7) == 5 && mod == 0)
			size = 4;
		else
			in->base = (sib & 7) | p->b << 3;
	} else if (rm == 5 && mod == 0) {
		in->base = UB_REG_RIP;
		size = 4;
	} else {
		in->base = rm | p->b << 3;
	}
	if (!size)
		return 0;
	err = get_int(r, size, &d);
	if (err)
		return err;
	/* EVEX counts displacements of 8 bits in operands. */
	in->disp = p->evex && size == 1 ? d * in->msize : d;
	return 0;
}

/* note_register() applies an operand that is a general register. */
static u32 note_register(struct ub_inst *in, const struct ub_prefixes *p,
			 const struct ub_operand *o, u8 reg)
{
	if (o->size == 'b' && !p->rex && reg >= 4)
		reg -= 4;	/* AH, CH, DH, BH */
	if (reg == UB_RSP)
		return UB_RULE_RSP;
	if (reg == UB_RBP)
		return UB_RULE_RBP;
	if (!o->write) {
		in->src = reg;
		return 0;
	}
	in->clobber |= 1 << reg;
	if (in->dst == UB_REG_NONE)
		in->dst = reg;
	return 0;
}

/* read_operand() applies one operand of the form. */
static u32 read_operand(struct ub_reader *r, struct ub_inst *in,
			const struct ub_prefixes *p, const struct ub_operand *o,
			u8 modrm)
{
	u8 b;
	u32 err, size;
	int mem = in->flags & UB_I_MEM;

	switch (o->kind) {
	case 'E': case 'M': case 'R':
		if (mem)
			return 0;
		if (p->evex && p->x)
			return UB_RULE_PREFIX;
		return note_register(in, p, o, (modrm & 7) | p->b << 3);
	case 'G':
		if (p->r_hi)
			return UB_RULE_PREFIX;
		return note_register(in, p, o, (modrm >> 3 & 7) | p->r << 3);
	case 'Z':
		return note_register(in, p, o, (r->op & 7) | p->b << 3);
	case 'B':
		/*
		 * The anchor is SHRX's count where that makes a tag: of a
		 * count only the low six bits are read.
		 */
		if (ub_form(in)->fx == UB_FX_SHR && in->osz == 8 &&
		    p->vvvv == UB_RBP) {
			in->src = UB_RBP;
			return 0;
		}
		return note_register(in, p, o, p->vvvv);
	case 'L':
		err = ub_get(r, &b);
		if (err)
			return err;
		return b & 15 ? UB_RULE_FORM : 0;
	case 'g':
		return p->r | p->r_hi ? UB_RULE_PREFIX : 0;
	case 'e': case 'r':
		return !mem && p->x | p->b ? UB_RULE_PREFIX : 0;
	case 'h':
		return p->vvvv > 7 ? UB_RULE_PREFIX : 0;
	case 'N':
		if (p->x | p->b || in->base || in->disp ||
		    (in->index != UB_REG_NONE && (in->index || in->scale != 1)))
			return UB_RULE_FORM;
		return 0;
	case 'I':
		size = operand_bytes(o, in->osz);
		if (o->size == 'z' && size > 4)
			size = 4;
		return get_int(r, size, &in->imm);
	case 'J':
		return get_int(r, operand_bytes(o, in->osz), &in->imm);
	}
	return 0;	/* V, W, U, H; A: the address is in base, index, disp */
}

static u32 read_operands(struct ub_reader *r, struct ub_inst *in,
			 const struct ub_prefixes *p, u8 modrm)
{
	const struct ub_form *f = ub_form(in);
	u32 i, err, uses_vvvv = 0, uses_v_hi = 0;

	for (i = 0; i < f->nops; i++) {
		switch (f->ops[i].kind) {
		case 'H':
			uses_v_hi = 1;
			uses_vvvv = 1;
			break;
		case 'B': case 'h':
			uses_vvvv = 1;
			break;
		}
		err = read_operand(r, in, p, &f->ops[i], modrm);
		if (err)
			return err;
	}
	if ((!uses_vvvv && p->vvvv) || (!uses_v_hi && p->v_hi))
		return UB_RULE_PREFIX;
	if (f->flags & UB_F_BIT && (in->imm < 0 || in->imm >= in->osz * 8))
		return UB_RULE_BITS;
	return 0;
}

/* check_bases() refuses LOCK where it means nothing, and computing with RSP and RBP. */
static u32 check_bases(struct ub_inst *in)
{
	u8 mem = in->flags & UB_I_MEM;

	if (in->flags & UB_I_LOCK &&
	    !(ub_form(in)->flags & UB_F_LOCK && mem && in->flags & UB_I_WRITE))
		return UB_RULE_LOCK;
	if (mem && !in->msize && (in->base == UB_RSP || in->index == UB_RSP))
		return UB_RULE_RSP;
	if (mem && (in->index == UB_RBP || (in->base == UB_RBP && !in->msize)))
		return UB_RULE_RBP;
	if (in->msize && in->base != UB_RSP && in->base != UB_RBP)
		in->flags |= UB_I_PROGRAM;
	return 0;
}

u32 ub_decode(const u8 *code, u32 len, u32 off, struct ub_inst *in)
{
	struct ub_reader r = { .code = code, .len = len, .pos = off };
	struct ub_prefixes p = { 0 };
	struct ub_inst none = { 0 };
	const struct ub_form *f;
	u32 err;
	u8 modrm = 0;

	r.end = len - off > 15 ? off + 15 : len;
	*in = none;
	in->off = off;
	in->base = in->index = in->dst = in->src = UB_REG_NONE;
	err = ub_read_opcode(&r, &p);
	if (!err)
		err = ub_match(&r, &p, &in->form);
	if (err)
		return err;
	f = ub_form(in);
	in->clobber = f->clobber;
	if (p.lock)
		in->flags |= UB_I_LOCK;
	if (f->flags & UB_F_F3 && p.rep)
		in->flags |= UB_I_REP;
	in->osz = p.w ? 8 : p.p66 && f->p66 == UB_OPTIONAL ? 2 : 4;
	if (f->flags & UB_F_MODRM) {
		err = ub_get(&r, &modrm);
		if (err)
			return err;
		if (modrm >> 6 != 3) {
			set_memory(in, &p);
			err = read_address(&r, in, &p, modrm);
			if (err)
				return err;
		}
	}
	err = read_operands(&r, in, &p, modrm);
	if (err)
		return err;
	in->len = r.pos - off;
	if (f->flow != UB_NEXT)
		in->imm += r.pos;
	return check_bases(in);
}
