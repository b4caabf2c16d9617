// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dispatch tables: program address to native address.
 *
 * They are read without locks, by C and by ub_sym_dispatch, two loads for an
 * entry: the key, then the native address. All changes are made under e->lock,
 * in an order that makes any mixture of old and new harmless: see struct ub_way.
 */
#include "ub.h"

void ub_table_init(struct ub_enrolment *e)
{
	int t, i;

	for (t = 0; t < 2; t++) {
		for (i = 0; i < UB_TABLE_ALL; i++) {
			e->table[t][i].key = UB_NO_KEY;
			e->table[t][i].native = (unsigned long)ub_miss;
		}
	}
}

static void ub_table_put(struct ub_enrolment *e, int t, u64 rip,
			 unsigned long native)
{
	struct ub_way *w = ub_set(e->table[t], rip);
	int i;

	for (i = 0; i < UB_TABLE_WAYS; i++) {
		if (w[i].key == -rip) {
			WRITE_ONCE(w[i].native, native);
			return;
		}
	}
	for (i = 0; i < UB_TABLE_WAYS; i++) {
		if (w[i].key == UB_NO_KEY) {
			WRITE_ONCE(w[i].key, -rip);
			smp_wmb(); /* nobody may see the address with the old key */
			WRITE_ONCE(w[i].native, native);
			return;
		}
	}
	/* This entry is not found, and the program goes on natively there. */
	e->crowded++;
}

/* A blob's entries are in the table of all levels, and if it uses none, in that. */
void ub_table_add(struct ub_enrolment *e, const struct ub_blob *blob)
{
	u32 i;

	for (i = 0; i < blob->nentries; i++) {
		u64 rip = blob->entries[i].rip;
		unsigned long native = blob->base + blob->entries[i].off;

		ub_table_put(e, 1, rip, native);
		if (!blob->vec)
			ub_table_put(e, 0, rip, native);
	}
}

void ub_table_remove(struct ub_enrolment *e, const struct ub_blob *blob)
{
	unsigned long end = blob->base + blob->code_len;
	u32 i;
	int t, j;

	for (i = 0; i < blob->nentries; i++) {
		for (t = 0; t < 2; t++) {
			struct ub_way *w = ub_set(e->table[t],
						  blob->entries[i].rip);

			for (j = 0; j < UB_TABLE_WAYS; j++) {
				if (w[j].native < blob->base || w[j].native >= end)
					continue;
				WRITE_ONCE(w[j].key, UB_DEAD_KEY);
				WRITE_ONCE(w[j].native, (unsigned long)ub_miss);
			}
		}
	}
}

/*
 * Makes ways usable again whose entries were taken away. Only when no thread
 * can be between its two loads any more: see ub_reap().
 */
void ub_table_sweep(struct ub_enrolment *e)
{
	int t, i;

	for (t = 0; t < 2; t++) {
		for (i = 0; i < UB_TABLE_ALL; i++) {
			struct ub_way *w = &e->table[t][i];

			if (w->key == UB_DEAD_KEY)
				WRITE_ONCE(w->key, UB_NO_KEY);
		}
	}
}
