// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arena of translated code, and the exception table for it.
 *
 * The arena is executable and read-only where it runs. It is written through a
 * second mapping of the same pages, which is not executable.
 *
 * The kernel finds a faulting instruction by a binary search in the module's
 * exception table, at any time and without a lock. Here, each granule of the arena
 * has its own part of the table, and whatever is in that part is an address of
 * that granule (or of the same blob's): so a search for any address outside is
 * led right, even while the part is being written. Inside nothing runs then.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/bitmap.h>
#include <linux/extable.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <asm/extable.h>
#include <asm/extable_fixup_types.h>
#include <asm/sync_core.h>

#include "ub.h"

#define UB_GRANULE	BIT(UB_GRANULE_SHIFT)
#define UB_ENTRIES	(UB_GRANULES * UB_GRANULE_FAULTS)
#define UB_INT3		0xcc
#define UB_NR_BP	5

static struct exception_table_entry ub_extable[UB_ENTRIES];
static struct ub_blob *ub_owner[UB_GRANULES];
static DECLARE_BITMAP(ub_used, UB_GRANULES);
static DEFINE_MUTEX(ub_arena_mutex);
static u8 *ub_alias;

/* What the exception table was when the module was loaded: for unloading. */
static struct exception_table_entry *ub_old_extable;

bool ub_in_arena(unsigned long ip)
{
	return ip - (unsigned long)ub_arena < (UB_ARENA_KB << 10);
}

/* The address that part of the table for a free granule holds. */
static unsigned long ub_last_byte(u32 granule)
{
	return (unsigned long)ub_arena +
	       ((unsigned long)(granule + 1) << UB_GRANULE_SHIFT) - 1;
}

static void ub_extable_set(u32 i, unsigned long addr)
{
	WRITE_ONCE(ub_extable[i].insn, addr - (unsigned long)&ub_extable[i].insn);
}

static void ub_extable_reset(u32 granule, u32 n)
{
	u32 i;

	for (i = granule * UB_GRANULE_FAULTS;
	     i < (granule + n) * UB_GRANULE_FAULTS; i++)
		ub_extable_set(i, ub_last_byte(i / UB_GRANULE_FAULTS));
}

static void ub_extable_init(void)
{
	u32 i;

	for (i = 0; i < UB_ENTRIES; i++) {
		struct exception_table_entry *x = &ub_extable[i];
		unsigned long fixup = (unsigned long)ub_landings +
				      ((i >> 16) << UB_LANDING_SHIFT);

		/*
		 * The kernel puts a number of 16 bits into a register of our
		 * choice when it goes to the fixup: that is how the landing
		 * knows where it comes from.
		 */
		x->fixup = fixup - (unsigned long)&x->fixup;
		x->data = EX_TYPE_IMM_REG | EX_DATA_REG(UB_NR_BP) |
			  (int)EX_DATA_IMM((u32)(i & 0xffff));
	}
	ub_extable_reset(0, UB_GRANULES);
}

int ub_code_init(void)
{
	const unsigned int n = UB_ARENA_KB << 10 >> PAGE_SHIFT;
	struct page **pages;
	unsigned int i;

	BUILD_BUG_ON(UB_ARENA_KB & 3);
	if (ub_arena_end - ub_arena != UB_ARENA_KB << 10 ||
	    !PAGE_ALIGNED(ub_arena))
		return -ENOEXEC;
	/* Nothing else here may fault: the table will have no room for it. */
	if (THIS_MODULE->num_exentries) {
		pr_err("the module has exception table entries of its own\n");
		return -ENOEXEC;
	}
	pages = kvmalloc_array(n, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		pages[i] = vmalloc_to_page(ub_arena + ((size_t)i << PAGE_SHIFT));
	ub_alias = vmap(pages, n, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	if (!ub_alias)
		return -ENOMEM;
	memset(ub_alias, UB_INT3, UB_ARENA_KB << 10);
	ub_extable_init();
	ub_old_extable = THIS_MODULE->extable;
	THIS_MODULE->extable = ub_extable;
	smp_wmb(); /* a search that sees the number sees the table */
	THIS_MODULE->num_exentries = UB_ENTRIES;
	return 0;
}

void ub_code_exit(void)
{
	THIS_MODULE->num_exentries = 0;
	THIS_MODULE->extable = ub_old_extable;
	vunmap(ub_alias);
}

u64 ub_arena_free(void)
{
	return (u64)(UB_GRANULES - bitmap_weight(ub_used, UB_GRANULES)) <<
	       UB_GRANULE_SHIFT;
}

/**
 * ub_code_alloc() - find a place for a blob
 * @blob: @code_len and @nfaults are set; @granule, @granules and @base will be
 *
 * The byte behind the code stays INT3: the unused entries of the exception
 * table stand for it.
 */
int ub_code_alloc(struct ub_blob *blob)
{
	u32 n = max(DIV_ROUND_UP(blob->code_len + 1, UB_GRANULE),
		    DIV_ROUND_UP((u64)blob->nfaults, UB_GRANULE_FAULTS));
	unsigned long at;

	mutex_lock(&ub_arena_mutex);
	at = bitmap_find_next_zero_area(ub_used, UB_GRANULES, 0, n, 0);
	if (at < UB_GRANULES)
		bitmap_set(ub_used, at, n);
	mutex_unlock(&ub_arena_mutex);
	if (at >= UB_GRANULES)
		return -ENOSPC;
	blob->granule = at;
	blob->granules = n;
	blob->base = (unsigned long)ub_arena + (at << UB_GRANULE_SHIFT);
	return 0;
}

static void ub_sync_core(void *unused)
{
	sync_core();
}

/**
 * ub_code_write() - put a blob's verified code into its place
 * @blob: nothing leads there yet
 *
 * No processor may have an older idea of these bytes, not even one that has
 * decoded ahead: all of them execute a serializing instruction afterwards.
 */
void ub_code_write(struct ub_blob *blob)
{
	u32 first = blob->granule * UB_GRANULE_FAULTS;
	u32 n = blob->granules * UB_GRANULE_FAULTS;
	unsigned long last = ub_last_byte(blob->granule + blob->granules - 1);
	u32 i;

	memcpy(ub_alias + ((size_t)blob->granule << UB_GRANULE_SHIFT),
	       blob->code, blob->code_len);
	for (i = 0; i < n; i++)
		ub_extable_set(first + i, i < blob->nfaults ?
			       blob->base + blob->faults[i].off : last);
	for (i = 0; i < blob->granules; i++)
		WRITE_ONCE(ub_owner[blob->granule + i], blob);
	smp_mb(); /* before the interrupts that follow */
	on_each_cpu(ub_sync_core, NULL, 1);
}

/**
 * ub_code_free() - give a blob's place back
 * @blob: no thread is in it, or can get there
 */
void ub_code_free(struct ub_blob *blob)
{
	u32 i;

	if (!blob->granules)
		return;
	memset(ub_alias + ((size_t)blob->granule << UB_GRANULE_SHIFT), UB_INT3,
	       (size_t)blob->granules << UB_GRANULE_SHIFT);
	for (i = 0; i < blob->granules; i++)
		WRITE_ONCE(ub_owner[blob->granule + i], NULL);
	ub_extable_reset(blob->granule, blob->granules);
	mutex_lock(&ub_arena_mutex);
	bitmap_clear(ub_used, blob->granule, blob->granules);
	mutex_unlock(&ub_arena_mutex);
	blob->granules = 0;
}

/**
 * ub_fault_find() - the record of a fault
 * @index: the index in the exception table that the landing was told
 * @blob: whose it is
 *
 * The caller is still counted as being inside, so the blob stays. Return: NULL
 * if there is none, which can only be a bug.
 */
const struct ub_fault *ub_fault_find(u32 index, struct ub_blob **blob)
{
	u32 granule = index / UB_GRANULE_FAULTS, i;
	struct ub_blob *b;

	if (granule >= UB_GRANULES)
		return NULL;
	b = READ_ONCE(ub_owner[granule]);
	if (!b)
		return NULL;
	i = index - b->granule * UB_GRANULE_FAULTS;
	if (i >= b->nfaults)
		return NULL;
	*blob = b;
	return &b->faults[i];
}
