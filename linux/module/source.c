// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program's code that a blob was made from: where it may lie, and whether it
 * still is what the translator saw.
 *
 * The MMU notifier tells of changes of the address space, not of writes. So code
 * is taken only from where nobody can write to it: private mappings, executable and
 * not writable, of files that are not open for writing; and they cannot be opened
 * for writing as long as the blob is installed, as is so for running programs.
 * And only from pages of the file: see ub_source_same().
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/version.h>

#include "ub.h"

static bool ub_vma_ok(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_EXEC) && (vma->vm_flags & VM_READ) &&
	       !(vma->vm_flags & (VM_WRITE | VM_SHARED | VM_MAYSHARE | VM_IO));
}

/*
 * Files that are written to without being opened for it: memory from
 * memfd_create(2) and the like, which runtimes map twice, for writing and for
 * running. These have no name; others on the same file systems have one.
 */
static bool ub_file_ok(struct file *file)
{
	struct inode *inode = file_inode(file);

	return inode->i_nlink || (inode->i_sb->s_magic != TMPFS_MAGIC &&
				  inode->i_sb->s_magic != HUGETLBFS_MAGIC);
}

/* Keeps a file from being written to, once for each blob. */
static int ub_pin_file(struct ub_blob *blob, struct file *file)
{
	u32 i;

	for (i = 0; i < blob->nfiles; i++) {
		if (file_inode(blob->files[i]) == file_inode(file))
			return 0;
	}
	if (blob->nfiles == UB_MAX_FILES)
		return -E2BIG;
	if (!ub_file_ok(file) || deny_write_access(file))
		return -EACCES;
	blob->files[blob->nfiles++] = get_file(file);
	return 0;
}

/**
 * ub_source_pin() - check the mappings of a blob's source ranges
 * @e: the enrolment; its mm is in use
 * @blob: the blob
 */
int ub_source_pin(struct ub_enrolment *e, struct ub_blob *blob)
{
	struct vm_area_struct *vma;
	int ret = 0;
	u32 i;

	if (mmap_read_lock_killable(e->mm))
		return -EINTR;
	for (i = 0; i < blob->nranges && !ret; i++) {
		unsigned long at = blob->ranges[i].start;

		while (at < blob->ranges[i].end && !ret) {
			vma = find_vma(e->mm, at);
			if (!vma || vma->vm_start > at || !ub_vma_ok(vma))
				ret = -EACCES;
			else if (vma->vm_file)
				ret = ub_pin_file(blob, vma->vm_file);
			if (vma)
				at = vma->vm_end;
		}
	}
	mmap_read_unlock(e->mm);
	return ret;
}

void ub_source_unpin(struct ub_blob *blob)
{
	while (blob->nfiles) {
		struct file *file = blob->files[--blob->nfiles];

		allow_write_access(file);
		fput(file);
	}
}

/* Since 6.5 vmas are not returned here. */
static long ub_get_page(struct mm_struct *mm, unsigned long at,
			struct page **page)
{
	long n;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	n = get_user_pages_remote(mm, at, 1, 0, page, NULL);
#else
	n = get_user_pages_remote(mm, at, 1, 0, page, NULL, NULL);
#endif
	mmap_read_unlock(mm);
	return n;
}

/**
 * ub_source_same() - compare a program's memory with what was translated
 * @e: the enrolment; its mm is in use
 * @blob: the blob, with @source
 *
 * All pages are present afterwards, or an invalidation has been told meanwhile:
 * nothing would be told of a page that is not there.
 *
 * Return: 0; -ESTALE if they differ; -EACCES if they are not the file's own.
 */
int ub_source_same(struct ub_enrolment *e, struct ub_blob *blob)
{
	const u8 *source = blob->source;
	u32 i;

	for (i = 0; i < blob->nranges; i++) {
		unsigned long at = blob->ranges[i].start;
		unsigned long end = blob->ranges[i].end;

		while (at < end) {
			unsigned long n = min(end - at, PAGE_SIZE - offset_in_page(at));
			struct page *page;
			bool same;
			void *p;
			long got;

			got = ub_get_page(e->mm, at, &page);
			if (got != 1)
				return got == -EINTR ? -EINTR : -ESTALE;
			/*
			 * A page that is the process's own already can be
			 * changed by ptrace and /proc/PID/mem without a word
			 * to the notifier. A page of the file's cannot: they
			 * make a copy first, and that is told.
			 */
			if (PageAnon(page)) {
				put_page(page);
				return -EACCES;
			}
			p = kmap_local_page(page);
			same = !memcmp(p + offset_in_page(at), source, n);
			kunmap_local(p);
			put_page(page);
			if (!same)
				return -ESTALE;
			at += n;
			source += n;
		}
	}
	return 0;
}
