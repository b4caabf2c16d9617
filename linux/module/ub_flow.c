// SPDX-License-Identifier: GPL-2.0
/*
 * What is certain about each register at each instruction, whichever way each
 * conditional jump goes; and whether each memory operand is allowed with that.
 */
#include "ub_verify_int.h"

/* How far from a value's w a byte may lie. */
static int in_reach(u32 kind, s64 lo, s64 hi)
{
	switch (kind) {
	case UB_WINDOW:
		return lo >= -UB_WINDOW_BELOW && hi <= UB_WINDOW_ABOVE;
	case UB_TOUCHED:
		return lo >= -UB_TOUCHED_BELOW && hi <= UB_TOUCHED_ABOVE;
	}
	return 0;
}

static struct ub_value value(u32 kind, s64 lo, s64 hi)
{
	struct ub_value v = { .lo = lo, .hi = hi, .kind = kind };

	return v;
}

static struct ub_value unknown(void)
{
	return value(UB_UNKNOWN, 0, 0);
}

static struct ub_value number(s64 lo, s64 hi)
{
	if (lo < 0 || hi >= UB_NUMBERS)
		return unknown();
	return value(UB_NUMBER, lo, hi);
}

/* near_value() makes a value of kind UB_WINDOW or UB_TOUCHED. */
static struct ub_value near_value(u32 kind, s64 lo, s64 hi)
{
	return in_reach(kind, lo, hi) ? value(kind, lo, hi) : unknown();
}

/* as_window() views a number as the sanitized address that it is. */
static struct ub_value as_window(struct ub_value v)
{
	return v.kind == UB_NUMBER ? value(UB_WINDOW, 0, 0) : v;
}

static int same(struct ub_value a, struct ub_value b)
{
	return a.kind == b.kind && a.lo == b.lo && a.hi == b.hi &&
	       a.also == b.also && a.tlo == b.tlo && a.thi == b.thi;
}

/* both() returns what is both w, a UB_WINDOW, and t, a UB_TOUCHED, if they are. */
static struct ub_value both(struct ub_value w, struct ub_value t)
{
	if (t.kind == UB_UNKNOWN)
		return w;
	if (w.kind == UB_UNKNOWN)
		return t;
	w.also = 1;
	w.tlo = t.lo;
	w.thi = t.hi;
	return w;
}

/* as_touched() views a UB_WINDOW as a UB_TOUCHED: it is as good. */
static struct ub_value as_touched(struct ub_value v)
{
	return v.also ? value(UB_TOUCHED, v.tlo, v.thi) :
			value(UB_TOUCHED, v.lo, v.hi);
}

/* add() returns v + d. */
static struct ub_value add(struct ub_value v, s64 d)
{
	struct ub_value n;

	switch (v.kind) {
	case UB_NUMBER:
		n = number(v.lo + d, v.hi + d);
		return n.kind == UB_NUMBER ? n : near_value(UB_WINDOW, d, d);
	case UB_WINDOW:
		n = near_value(UB_WINDOW, v.lo + d, v.hi + d);
		return v.also ? both(n, near_value(UB_TOUCHED, v.tlo + d,
						   v.thi + d)) : n;
	case UB_TOUCHED:
		return near_value(UB_TOUCHED, v.lo + d, v.hi + d);
	}
	return unknown();
}

/* touched() returns what is known about v when an access of v + d has completed. */
static struct ub_value touched(struct ub_value v, s64 d)
{
	struct ub_value t = near_value(UB_TOUCHED, -d, -d);

	if (d > UB_WALK_BELOW)	/* too far above to get back from there */
		return v;
	if (v.kind == UB_WINDOW)
		return both(v, t);
	return v.kind == UB_TOUCHED && t.kind == UB_TOUCHED ? t : v;
}

/* hull() returns a value of the kind of both that is in either's interval. */
static struct ub_value hull(struct ub_value a, struct ub_value b)
{
	return value(a.kind, a.lo < b.lo ? a.lo : b.lo,
		     a.hi > b.hi ? a.hi : b.hi);
}

/* join() returns what is true of both a and b. */
static struct ub_value join(struct ub_value a, struct ub_value b)
{
	struct ub_value w = unknown(), t = unknown();

	if (same(a, b))
		return a;
	if (a.kind != b.kind) {
		a = as_window(a);
		b = as_window(b);
	}
	if (a.kind == b.kind && a.kind != UB_UNKNOWN)
		w = hull(a, b);
	if ((a.kind != UB_WINDOW && a.kind != UB_TOUCHED) ||
	    (b.kind != UB_WINDOW && b.kind != UB_TOUCHED))
		return w;
	if (a.kind != b.kind || a.also || b.also) {
		t = hull(as_touched(a), as_touched(b));
		t = near_value(UB_TOUCHED, t.lo, t.hi);
	}
	return both(w, t);
}

/* reads() tells whether the memory operand is exactly this slot. */
static int reads(const struct ub_inst *in, s32 slot)
{
	return in->flags & UB_I_MEM && in->base == UB_RSP &&
	       in->index == UB_REG_NONE && in->disp == slot;
}

/* sum() returns the value of a 64-bit lea. */
static struct ub_value sum(const struct ub_state *s, const struct ub_inst *in)
{
	if (in->base == UB_REG_RIP || in->index != UB_REG_NONE)
		return unknown();
	if (in->base == UB_REG_NONE)
		return number(in->disp, in->disp);
	return add(s->r[in->base], in->disp);
}

/* copied() returns what a mov leaves in its destination. */
static struct ub_value copied(const struct ub_state *s,
			      const struct ub_inst *in, int wide)
{
	struct ub_value v;

	if (in->flags & UB_I_MEM && wide && reads(in, UB_SLOT_FS_BASE))
		return number(0, UB_NUMBERS - 1);
	if (in->src != UB_REG_NONE) {
		v = s->r[in->src];
		if (wide || (v.kind == UB_NUMBER && v.hi < (s64)1 << 32))
			return v;
	}
	return wide ? unknown() : number(0, 0xffffffffll);
}

/*
 * shifted() returns what SHRX leaves of any value: of the count it reads the
 * low six bits, and clears as many.
 */
static struct ub_value shifted(struct ub_value count, int wide)
{
	s64 n = count.lo & 63;

	if (!wide || count.kind != UB_NUMBER || count.lo != count.hi || n < 2)
		return unknown();
	return number(0, ((s64)1 << (64 - n)) - 1);
}

/*
 * result() returns what is known about the destination. Writes of 16 bits keep
 * the upper bits, writes of 32 bits clear them.
 */
static struct ub_value result(const struct ub_state *s,
			      const struct ub_inst *in)
{
	const struct ub_form *f = ub_form(in);
	int wide = in->osz == 8;
	s64 n;

	if (in->osz == 2)
		return unknown();
	switch (f->fx) {
	case UB_FX_COPY:
		return copied(s, in, wide);
	case UB_FX_IMM:
		n = wide ? in->imm : (s64)(u32)in->imm;
		return number(n, n);
	case UB_FX_ZEXT:
		return number(0, f->ops[1].size == 'b' ? 0xff : 0xffff);
	case UB_FX_SHR:
		/* RBP is nobody else's source, and SHRX's only as its count. */
		if (in->src == UB_RBP)
			return number(0, UB_MAX_TAG);
		return shifted(s->r[in->src], wide);
	case UB_FX_PDEP:
		if (wide && reads(in, UB_SLOT_ADDR_MASK))
			return value(UB_WINDOW, 0, 0);
		break;
	case UB_FX_LEA:
		return wide ? sum(s, in) : number(0, 0xffffffffll);
	case UB_FX_PLUS:
	case UB_FX_MINUS:
	case UB_FX_PLUS1:
	case UB_FX_MINUS1:
		if (!wide || in->dst == UB_REG_NONE)
			break;
		n = f->fx == UB_FX_PLUS ? in->imm :
		    f->fx == UB_FX_MINUS ? -in->imm :
		    f->fx == UB_FX_PLUS1 ? 1 : -1;
		return add(s->r[in->dst], n);
	}
	return unknown();
}

/*
 * step() moves s over one instruction. An access tells something about its
 * base; whatever may be written is then unknown; the destination is what
 * result() says.
 */
static void step(struct ub_state *s, const struct ub_inst *in)
{
	struct ub_value v = result(s, in);
	u32 i;

	if ((in->flags & (UB_I_SURE | UB_I_PROGRAM)) ==
	    (UB_I_SURE | UB_I_PROGRAM) &&
	    in->base < 16 && in->index == UB_REG_NONE)
		s->r[in->base] = touched(s->r[in->base], in->disp);
	for (i = 0; i < 16; i++)
		if (in->clobber >> i & 1)
			s->r[i] = unknown();
	if (in->dst != UB_REG_NONE)
		s->r[in->dst] = v;
}

static void push(struct ub_heap *h, u32 n)
{
	u32 i = h->n++;

	for (; i > 0 && h->q[(i - 1) / 2] > n; i = (i - 1) / 2)
		h->q[i] = h->q[(i - 1) / 2];
	h->q[i] = n;
}

static u32 pop(struct ub_heap *h)
{
	u32 top = h->q[0], n = h->q[--h->n], i = 0, c;

	for (c = 1; c < h->n; c = 2 * i + 1) {
		if (c + 1 < h->n && h->q[c + 1] < h->q[c])
			c++;
		if (h->q[c] >= n)
			break;
		h->q[i] = h->q[c];
		i = c;
	}
	if (h->n)
		h->q[i] = n;
	return top;
}

/* flow_to() merges s into a block's state. */
static void flow_to(struct ub_verifier *v, u32 n, const struct ub_state *s)
{
	struct ub_block *b = &v->blocks[n];
	int changed = !b->reached;
	u32 r;

	if (changed) {
		b->reached = 1;
		b->in = *s;
	} else {
		for (r = 0; r < 16; r++) {
			struct ub_value j = join(b->in.r[r], s->r[r]);

			if (!same(j, b->in.r[r])) {
				b->in.r[r] = j;
				changed = 1;
			}
		}
	}
	if (!changed || b->queued)
		return;
	b->queued = 1;
	if (v->visiting == UB_NO_BLOCK || n > v->visiting)
		push(&v->queue, n);
	else
		push(&v->later, n);
}

/*
 * widen() gives up on the registers of a loop's head that have changed too
 * often. A number first becomes any number, and what is both only UB_TOUCHED.
 */
static void widen(struct ub_head *h, struct ub_state *s)
{
	struct ub_value whole = number(0, UB_NUMBERS - 1);
	u32 r;

	for (r = 0; r < 16; r++) {
		struct ub_value *x = &s->r[r];

		if (!h->visited) {
			h->changes[r] = 0;
			continue;
		}
		if (same(*x, h->seen.r[r]))
			continue;
		if (x->kind != h->seen.r[r].kind)
			h->changes[r] = 0;
		if (++h->changes[r] <= UB_PATIENCE)
			continue;
		if (x->kind == UB_NUMBER && !same(*x, whole)) {
			*x = whole;
			h->changes[r] = 0;
		} else if (x->also) {
			*x = as_touched(*x);
			h->changes[r] = 0;
		} else {
			*x = unknown();
		}
	}
	h->seen = *s;
	h->visited = 1;
}

/* visit() steps over a block and hands on what is known behind it. */
static u32 visit(struct ub_verifier *v, u32 n)
{
	struct ub_block *b = &v->blocks[n];
	const struct ub_inst *last = &v->insts[b->last];
	u32 i, t;

	v->visiting = n;
	b->queued = 0;
	v->steps += b->last - b->first + 1;
	if (v->steps > (u64)UB_MAX_STEPS * v->ninsts)
		return ub_refuse(v, v->insts[b->first].off, UB_RULE_LOOPS);
	if (b->head != UB_NO_HEAD)
		widen(&v->heads[b->head], &b->in);
	v->s = b->in;
	for (i = b->first; i <= b->last; i++) {
		step(&v->s, &v->insts[i]);
		if (!(i & 1023))
			cond_resched();
	}
	if (ub_form(last)->flow != UB_JMP && n + 1 < v->nblocks)
		flow_to(v, n + 1, &v->s);
	t = ub_jumps_to(v, last);
	if (t != UB_NO_INST)
		flow_to(v, v->insts[t].block, &v->s);
	return 0;
}

/*
 * drain() works until no state changes any more. It sweeps over the blocks in
 * the order of their addresses. The steps are bounded, see visit().
 */
static u32 drain(struct ub_verifier *v)
{
	struct ub_heap h;
	u32 err, visits = 0;

	for (;;) {
		if (!v->queue.n) {
			h = v->queue;
			v->queue = v->later;
			v->later = h;
			if (!v->queue.n)
				return 0;
			v->visiting = UB_NO_BLOCK;
		}
		err = visit(v, pop(&v->queue));
		if (err)
			return err;
		if (!(++visits & 255))
			cond_resched();
	}
}

u32 ub_flow(struct ub_verifier *v)
{
	static const struct ub_state nothing;	/* all UB_UNKNOWN */
	u32 i, err;

	for (i = 0; i < v->nentries; i++)
		flow_to(v, v->insts[v->at[v->entries[i]]].block, &nothing);
	err = drain(v);
	/* Code that no entry reaches is held to the same rules. */
	for (i = 0; !err && i < v->nblocks; i++)
		if (!v->blocks[i].reached) {
			flow_to(v, i, &nothing);
			err = drain(v);
		}
	return err;
}

/* check_program() checks [base+disp]. */
static u32 check_program(const struct ub_state *s, const struct ub_inst *in)
{
	struct ub_value v;

	if (in->index != UB_REG_NONE)
		return UB_RULE_MEMORY;
	if (in->base == UB_REG_NONE)
		return in->disp < 0 ? UB_RULE_MEMORY : 0;
	if (in->base == UB_REG_RIP)
		return UB_RULE_MEMORY;
	v = as_window(s->r[in->base]);
	if (v.kind == UB_WINDOW &&
	    in_reach(UB_WINDOW, v.lo + in->disp, v.hi + in->disp + in->msize))
		return 0;
	if (v.kind != UB_TOUCHED && !v.also)
		return UB_RULE_ADDRESS;
	v = as_touched(v);
	if (v.lo + in->disp < -UB_WALK_BELOW ||
	    !in_reach(UB_TOUCHED, v.lo + in->disp, v.hi + in->disp + in->msize))
		return UB_RULE_ADDRESS;
	return 0;
}

/* check_block() checks [rsp+disp], the slots of the context block. */
static u32 check_block(const struct ub_inst *in)
{
	s64 d = in->disp, size = in->msize;
	s64 end = in->flags & UB_I_WRITE ? UB_WRITABLE_END : UB_SLOTS_END;

	if (ub_form(in)->vec)
		return UB_RULE_SLOT;
	if (in->index != UB_REG_NONE)
		return UB_RULE_MEMORY;
	if (d < 0 || d + size > end || d % 8 + size > 8)
		return UB_RULE_SLOT;
	return 0;
}

/* check_anchor() checks [rbp+...]: a poll or the touch, and nothing else. */
static u32 check_anchor(const struct ub_state *s, const struct ub_inst *in)
{
	struct ub_value v;

	if (ub_is_poll(in))
		return 0;
	if (in->index == UB_REG_NONE)
		return UB_RULE_RBP;
	if (ub_form(in)->fx != UB_FX_COPY || in->flags & UB_I_WRITE ||
	    in->osz < 4 || in->scale != 8 || in->disp != UB_TOUCH_DISP)
		return UB_RULE_MEMORY;
	v = s->r[in->index];
	return v.kind != UB_NUMBER || v.hi > UB_MAX_TAG ? UB_RULE_TOUCH : 0;
}

/* check_string() checks MOVS and STOS: all elements, upward. */
static u32 check_string(const struct ub_state *s, const struct ub_inst *in)
{
	const struct ub_form *f = ub_form(in);
	s64 extent = f->p66 == UB_ABSENT ? 1 : in->osz;
	struct ub_value v = s->r[UB_RCX];

	if (in->flags & UB_I_REP) {
		if (v.kind != UB_NUMBER || v.hi > UB_MAX_REP_COUNT)
			return UB_RULE_COUNT;
		extent *= v.hi;
	}
	v = as_window(s->r[UB_RDI]);
	if (v.kind != UB_WINDOW || !in_reach(UB_WINDOW, v.lo, v.hi + extent))
		return UB_RULE_ADDRESS;
	if (f->fx == UB_FX_STOS)
		return 0;
	v = as_window(s->r[UB_RSI]);
	if (v.kind != UB_WINDOW || !in_reach(UB_WINDOW, v.lo, v.hi + extent))
		return UB_RULE_ADDRESS;
	return 0;
}

static u32 check_access(const struct ub_state *s, const struct ub_inst *in)
{
	u8 fx = ub_form(in)->fx;

	if (fx == UB_FX_MOVS || fx == UB_FX_STOS)
		return check_string(s, in);
	if (!in->msize)
		return 0;
	if (in->flags & UB_I_PROGRAM)
		return check_program(s, in);
	return in->base == UB_RSP ? check_block(in) : check_anchor(s, in);
}

u32 ub_check_memory(struct ub_verifier *v)
{
	u32 n, i, err;

	for (n = 0; n < v->nblocks; n++) {
		const struct ub_block *b = &v->blocks[n];

		v->s = b->in;
		for (i = b->first; i <= b->last; i++) {
			err = check_access(&v->s, &v->insts[i]);
			if (err)
				return ub_refuse(v, v->insts[i].off, err);
			step(&v->s, &v->insts[i]);
			if (!(i & 1023))
				cond_resched();
		}
	}
	return 0;
}
