/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Paths from kernel objects: the walk that d_path() makes, done here because bpf_d_path() is
 * allowed in few hooks and gives the alias of a bind mount only. Symlinks, `..`, /proc/self/root
 * and the caller's memory play no part: the walk starts at the dentry the kernel acted on, and
 * ends at the root directory of the task (a chroot), or of its mount namespace if it is outside.
 */
#ifndef ESTOP_PATH_H
#define ESTOP_PATH_H

#include "emit.h"

#define PATH_BYTES 2048 /* of one path; the leaf comes first, so what is cut is the root's side */
#define NAME_BYTES 256  /* NAME_MAX and its NUL */
#define TEXT_BYTES 4096 /* PATH_MAX, NUL included */

#define FMODE_READ_ 0x1
#define FMODE_WRITE_ 0x2
#define FMODE_PATH_ 0x4000
#define FMODE_CREATED_ 0x100000

/* Append one name; false when there is no room or nothing to read. */
static __always_inline int put_name(struct estop_record *r, struct dentry *d)
{
	const unsigned char *name = KERNEL(dentry, d, d_name.name);
	__u32 at = r->used & TAIL_MASK;
	long n = bpf_probe_read_kernel_str(r->tail + at, NAME_BYTES, name);
	if (n <= 0)
		return 0;
	r->starts[r->depth & STARTS_MASK] = at;
	r->depth++;
	r->used = at + (__u32)n;
	return 1;
}

static __always_inline void put_path(struct estop_record *r, struct estop_wire_path *out, struct dentry *d,
				     struct vfsmount *mnt)
{
	struct mount *m = mount_of(mnt);
	struct dentry *mount_root = KERNEL(vfsmount, mnt, mnt_root);
	struct dentry *first_root = mount_root;
	struct super_block *sb = KERNEL(dentry, d, d_sb);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	struct dentry *task_root = KERNEL(fs_struct, fs, root.dentry);
	struct mount *task_mount = mount_of(KERNEL(fs_struct, fs, root.mnt));
	__u32 whole = r->used, start = whole;
	int crossed = 0, done = 0;

	out->dev = KERNEL(super_block, sb, s_dev);
	r->depth = 0;
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (d == task_root && m == task_mount) {
			if (!crossed) {
				out->own_len = r->used - start;
				first_root = d;
			}
			crossed = 1;
			done = 1;
			break;
		}
		if (d == mount_root) {
			struct mount *parent = KERNEL(mount, m, mnt_parent);
			if (!crossed)
				out->own_len = r->used - start;
			crossed = 1;
			if (parent == m) {
				done = 1;
				break;
			}
			d = KERNEL(mount, m, mnt_mountpoint);
			m = parent;
			mount_root = KERNEL(mount, m, mnt.mnt_root);
			continue;
		}
		struct dentry *parent = KERNEL(dentry, d, d_parent);
		if (parent == d || !parent) {
			/* Never linked anywhere: a memfd, a pipe. Its name is all there is. */
			if (r->used == start)
				put_name(r, d);
			done = 1;
			break;
		}
		if (!put_name(r, d) || r->used - start > PATH_BYTES)
			break;
		d = parent;
	}
	out->len = r->used - start;
	if (!crossed)
		out->own_len = out->len;
	if (!done)
		r->truncated = 1;

	struct dentry *fs_root = KERNEL(super_block, sb, s_root);
	start = r->used;
	d = first_root;
	if (crossed && d != fs_root) { /* a bind mount or a chroot: on to the filesystem's root */
		for (int i = 0; i < MAX_DEPTH; i++) {
			struct dentry *parent = KERNEL(dentry, d, d_parent);
			if (d == fs_root || parent == d || !parent)
				break;
			if (r->used - whole > PATH_BYTES || !put_name(r, d)) {
				r->truncated = 1;
				break;
			}
			d = parent;
		}
	}
	out->above_len = r->used - start;
}

/* A name that may have no inode yet. */
static __always_inline void put_object(struct estop_record *r, struct estop_wire_file *out,
				       struct inode *inode, struct dentry *d, struct vfsmount *mnt)
{
	struct dentry *parent = KERNEL(dentry, d, d_parent);
	struct inode *above = KERNEL(dentry, parent, d_inode);

	out->inode = inode ? KERNEL(inode, inode, i_ino) : 0;
	out->parent_inode = above ? KERNEL(inode, above, i_ino) : 0;
	out->mode = inode ? KERNEL(inode, inode, i_mode) : 0;
	out->nlink = inode ? KERNEL(inode, inode, i_nlink) : 0;
	put_path(r, &out->path, d, mnt);
}

static __always_inline void put_file(struct estop_record *r, struct estop_wire_file *out, struct file *file)
{
	put_object(r, out, KERNEL(file, file, f_inode), KERNEL(file, file, f_path.dentry),
		   KERNEL(file, file, f_path.mnt));
}

/* Append NUL-ended text from user memory without its NUL; its length. */
static __always_inline __u32 put_user_text(struct estop_record *r, const void *text)
{
	__u32 at = r->used & TAIL_MASK;
	long n = bpf_probe_read_user_str(r->tail + at, TEXT_BYTES, text);
	if (n <= 0) {
		r->truncated = 1; /* paged out, or never there: the event says that it is not whole */
		return 0;
	}
	r->used = at + (__u32)n - 1;
	return (__u32)n - 1;
}

/* The same from kernel memory. */
static __always_inline __u32 put_kernel_text(struct estop_record *r, const void *text)
{
	__u32 at = r->used & TAIL_MASK;
	long n = bpf_probe_read_kernel_str(r->tail + at, TEXT_BYTES, text);
	if (n <= 0) {
		r->truncated = 1;
		return 0;
	}
	r->used = at + (__u32)n - 1;
	return (__u32)n - 1;
}

/* The file behind a descriptor of the current task. */
static __always_inline struct file *file_by_fd(__u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct files_struct *files = TYPED(task_struct, task, files);
	struct fdtable *table = TYPED(files_struct, files, fdt);
	struct file **slots = TYPED(fdtable, table, fd);
	struct file *file = 0;

	if (fd >= TYPED(fdtable, table, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	return file;
}

#endif
