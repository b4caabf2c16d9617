// SPDX-License-Identifier: GPL-2.0
/*
 * The first half of the decoder: prefixes, opcode, and which form of the
 * allow-list (ub_forms.h) they belong to.
 */
#include "ub_decode.h"
#include "ub_forms.h"

static int is_prefix(u8 b)
{
	switch (b) {
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		return 1;
	}
	return (b & 0xf0) == 0x40;
}

/* read_prefixes() reads legacy prefixes and REX, and the byte behind them. */
static u32 read_prefixes(struct ub_reader *r, struct ub_prefixes *p)
{
	for (;;) {
		u8 b;
		u32 err = ub_get(r, &b), dup;

		if (err)
			return err;
		switch (b) {
		case 0x66:
			dup = p->p66;
			p->p66 = 1;
			break;
		case 0xf2: case 0xf3:
			dup = p->rep || p->lock;
			p->rep = b;
			break;
		case 0xf0:
			dup = p->rep || p->lock;
			p->lock = 1;
			break;
		case 0x67:
			return UB_RULE_PREFIX;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
			return UB_RULE_SEGMENT;
		default:
			r->op = b;
			if ((b & 0xf0) != 0x40)
				return 0;
			p->rex = 1;
			p->w = b >> 3 & 1;
			p->r = b >> 2 & 1;
			p->x = b >> 1 & 1;
			p->b = b & 1;
			err = ub_get(r, &r->op);
			if (!err && is_prefix(r->op))
				return UB_RULE_PREFIX;
			return err;
		}
		if (dup)
			return UB_RULE_PREFIX;
	}
}

/* set_pp() reads the field that stands for a mandatory prefix. */
static void set_pp(struct ub_prefixes *p, u8 b)
{
	switch (b & 3) {
	case 1:
		p->p66 = 1;
		break;
	case 2:
		p->rep = 0xf3;
		break;
	case 3:
		p->rep = 0xf2;
		break;
	}
}

/* read_vex() reads the rest of a VEX prefix and the opcode. */
static u32 read_vex(struct ub_reader *r, struct ub_prefixes *p)
{
	u32 err;
	u8 b, maps = 1, long_form = r->op == 0xc4;

	if (p->rex || p->p66 || p->rep || p->lock)
		return UB_RULE_PREFIX;
	p->vex = 1;
	err = ub_get(r, &b);
	if (err)
		return err;
	p->r = (b >> 7 & 1) ^ 1;
	if (long_form) {
		p->x = (b >> 6 & 1) ^ 1;
		p->b = (b >> 5 & 1) ^ 1;
		maps = b & 0x1f;
		err = ub_get(r, &b);
		if (err)
			return err;
		p->w = b >> 7;
	}
	p->vvvv = (b >> 3 & 15) ^ 15;
	p->l = b >> 2 & 1;
	set_pp(p, b);
	err = ub_get(r, &r->op);
	if (err)
		return err;
	if (maps < 1 || maps > 3)
		return UB_RULE_FORM;
	r->space = UB_SPACE_VEX + maps - 1;
	return 0;
}

/*
 * read_evex() reads the rest of an EVEX prefix and the opcode. Its fixed bits
 * must be as they were before APX gave them a meaning.
 */
static u32 read_evex(struct ub_reader *r, struct ub_prefixes *p)
{
	const u8 *b;
	u32 err;
	u8 maps;

	if (p->rex || p->p66 || p->rep || p->lock)
		return UB_RULE_PREFIX;
	err = ub_take(r, 3);
	if (err)
		return err;
	b = r->code + r->pos - 3;
	err = ub_get(r, &r->op);
	if (err)
		return err;
	p->vex = 1;
	p->evex = 1;
	p->r = (b[0] >> 7 & 1) ^ 1;
	p->x = (b[0] >> 6 & 1) ^ 1;
	p->b = (b[0] >> 5 & 1) ^ 1;
	p->r_hi = (b[0] >> 4 & 1) ^ 1;
	p->w = b[1] >> 7;
	p->vvvv = (b[1] >> 3 & 15) ^ 15;
	set_pp(p, b[1]);
	p->z = b[2] >> 7;
	p->l = b[2] >> 5 & 3;
	p->bcast = b[2] >> 4 & 1;
	p->v_hi = (b[2] >> 3 & 1) ^ 1;
	p->aaa = b[2] & 7;
	maps = b[0] & 7;
	if (b[0] & 8 || !(b[1] & 4) || maps < 1 || maps > 3)
		return UB_RULE_FORM;
	r->space = UB_SPACE_EVEX + maps - 1;
	return 0;
}

/* match_modrm(): do the form's conditions on ModRM hold? -1: there is none. */
static int match_modrm(const struct ub_form *f, int modrm)
{
	u32 i;

	if (f->modrm >= 0 && modrm != f->modrm)
		return 0;
	if (f->digit >= 0 && (modrm >> 3 & 7) != f->digit)
		return 0;
	for (i = 0; i < f->nops; i++) {
		switch (f->ops[i].kind) {
		case 'M': case 'A': case 'N':
			if (modrm >> 6 == 3)
				return 0;
			break;
		case 'R': case 'U': case 'r':
			if (modrm >> 6 != 3)
				return 0;
			break;
		}
	}
	return 1;
}

static int match_prefixes(const struct ub_form *f, const struct ub_prefixes *p)
{
	if (f->rule)
		return f->flags & UB_F_ANYPFX ||
		       ((!f->rep || f->rep == p->rep) &&
			(f->p66 != UB_REQUIRED || p->p66));
	if (p->rep != f->rep && !(f->flags & UB_F_F3 && p->rep == 0xf3))
		return 0;
	switch (f->p66) {
	case UB_ABSENT:
		if (p->p66)
			return 0;
		break;
	case UB_OPTIONAL:	/* W wins, so 66 would be without meaning */
		if (p->p66 && p->w)
			return 0;
		break;
	case UB_REQUIRED:
		if (!p->p66)
			return 0;
		break;
	}
	return !(f->flags & UB_F_NOREX && p->rex) &&
	       !(f->flags & UB_F_NEEDB && !p->b) &&
	       !(f->w >= 0 && f->w != p->w);
}

static int writes_memory(const struct ub_form *f)
{
	u32 i;

	for (i = 0; i < f->nops; i++)
		switch (f->ops[i].kind) {
		case 'E': case 'M': case 'W': case 'e':
			if (f->ops[i].write)
				return 1;
		}
	return 0;
}

/* match_vector(): are the fields that only VEX and EVEX have valid? */
static int match_vector(const struct ub_form *f, const struct ub_prefixes *p,
			int modrm)
{
	int registers = modrm >= 0xc0;
	int fixed = f->lens & (UB_LEN512 | UB_LENIGNORED);

	if (!p->vex)
		return 1;
	if (p->bcast && registers && f->flags & UB_F_ER) {
		if (!fixed)	/* L'L is the rounding mode */
			return 0;
	} else if (p->bcast && registers && f->flags & UB_F_SAE) {
		if (!fixed || p->l == 3)
			return 0;
	} else if (p->bcast && (registers || !f->bcast)) {
		return 0;
	} else if (p->l == 3 || !(f->lens >> p->l & 1)) {
		return 0;
	}
	if (p->aaa && !(f->flags & UB_F_MASK))
		return 0;
	if (p->z && (!(f->flags & UB_F_ZERO) || !p->aaa))
		return 0;
	return !p->z || registers || !writes_memory(f);
}

/* ub_match() finds the first form for this opcode; ModRM is not consumed. */
u32 ub_match(struct ub_reader *r, const struct ub_prefixes *p, u16 *form)
{
	u32 at = r->space * 256u + r->op, i;
	int modrm = r->pos < r->end ? r->code[r->pos] : -1;
	int shape = 0;	/* a form was right but for its prefixes */

	for (i = ub_form_index[at]; i < ub_form_index[at + 1]; i++) {
		const struct ub_form *f = &ub_forms[ub_form_list[i]];

		if (modrm < 0 && (f->flags & UB_F_MODRM || f->digit >= 0 ||
				  f->modrm >= 0))
			return ub_take(r, 1);
		if (!match_modrm(f, modrm))
			continue;
		if (!match_prefixes(f, p) ||
		    (!f->rule && !match_vector(f, p, modrm))) {
			shape |= !f->rule;
			continue;
		}
		if (!f->rule) {
			*form = ub_form_list[i];
			return 0;
		}
		if (shape && f->rule == UB_RULE_FORM)
			break;
		return f->rule;
	}
	return shape ? UB_RULE_PREFIX : UB_RULE_FORM;
}

/* ub_read_opcode() reads up to the opcode. */
u32 ub_read_opcode(struct ub_reader *r, struct ub_prefixes *p)
{
	u32 err = read_prefixes(r, p);

	if (err)
		return err;
	switch (r->op) {
	case 0xc4: case 0xc5:
		return read_vex(r, p);
	case 0x62:
		return read_evex(r, p);
	case 0x0f:
		r->space = UB_SPACE_0F;
		err = ub_get(r, &r->op);
		if (err || (r->op != 0x38 && r->op != 0x3a))
			return err;
		r->space = r->op == 0x38 ? UB_SPACE_0F38 : UB_SPACE_0F3A;
		return ub_get(r, &r->op);
	}
	return 0;
}
