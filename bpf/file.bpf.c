/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Files: what was opened, and which names came and went. */
#include "syscall.h"

#define S_IFMT_ 00170000
#define S_IFDIR_ 0040000
#define S_IFREG_ 0100000
#define S_IFSOCK_ 0140000
#define CHMOD_RISKY 06111 /* executable for anybody, setuid, setgid */

/* First touch is sent, repeats are counted. The key holds the program, because a rule may forgive
 * one program what it does not forgive another, and the name and mount, because a rule may know
 * the file by one of its paths. After `again_ns` a repeat is sent with the count. */
static __always_inline int touched_before(struct estop_task_state *state, struct file *file,
					  struct inode *inode, __u32 access, __u64 *repeats)
{
	struct dentry *d = KERNEL(file, file, f_path.dentry);
	struct dentry *parent = KERNEL(dentry, d, d_parent);
	struct inode *above = KERNEL(dentry, parent, d_inode);
	struct super_block *sb = KERNEL(inode, inode, i_sb);
	struct estop_settings *s = settings_row();
	__u64 now = bpf_ktime_get_boot_ns();
	struct estop_touch_key key = {};

	key.inode = KERNEL(inode, inode, i_ino);
	key.parent_inode = above ? KERNEL(inode, above, i_ino) : 0;
	key.image_inode = state->image_inode;
	key.mount = (__u64)KERNEL(file, file, f_path.mnt);
	key.name_hash = KERNEL(dentry, d, d_name.hash_len);
	key.dev = KERNEL(super_block, sb, s_dev);
	key.session = state->session;
	key.access = access;

	struct estop_touch *seen = touched.lookup(&key);
	if (seen && s) {
		__u64 again_ns = access & ESTOP_WRITE ? s->write_again_ns : s->read_again_ns;
		if (now - seen->sent_ns < again_ns) {
			__sync_fetch_and_add(&seen->repeats, 1);
			return 1;
		}
		*repeats = seen->repeats;
	}
	struct estop_touch first = {.sent_ns = now};
	touched.update(&key, &first);
	return 0;
}

/* open, openat, openat2, creat, open_by_handle_at, pidfd_getfd: the result is a descriptor. */
int on_open(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct estop_task_state *state = ours();
	struct estop_record *r = record_buffer();
	struct file *file = file_by_fd(task, (__u32)ctx->args[1]);
	__u64 repeats = 0;

	if (!state || !r || !file)
		return 0;
	__u32 mode = KERNEL(file, file, f_mode);
	if (mode & FMODE_PATH_) /* O_PATH gives a name, not the content */
		return 0;
	struct inode *inode = KERNEL(file, file, f_inode);
	if ((KERNEL(inode, inode, i_mode) & S_IFMT_) == S_IFDIR_)
		return 0;
	__u32 access = (mode & FMODE_READ_ ? ESTOP_READ : 0) |
		       (mode & FMODE_WRITE_ ? ESTOP_WRITE : 0) |
		       (mode & FMODE_CREATED_ ? ESTOP_CREATED : 0);
	if (touched_before(state, file, inode, access, &repeats))
		return 0;

	struct estop_open *e = HEAD(r, estop_open);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_file(r, &e->file, file);
	e->access = access;
	e->repeats = repeats;
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_OPEN);
	return 0;
}

/* The directory a relative name starts at: a descriptor's, or the working directory. */
static __always_inline void put_base(struct estop_record *r, struct estop_wire_path *out,
				     struct task_struct *task, struct pt_regs *regs, __u32 dir)
{
	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	struct dentry *d = KERNEL(fs_struct, fs, pwd.dentry);
	struct vfsmount *mnt = KERNEL(fs_struct, fs, pwd.mnt);
	int fd = dir == NO_ARG ? -1 : (int)argument(regs, dir);

	if (fd >= 0) {
		struct file *file = file_by_fd(task, fd);
		if (!file)
			return;
		d = KERNEL(file, file, f_path.dentry);
		mnt = KERNEL(file, file, f_path.mnt);
	}
	put_path(r, out, d, mnt);
}

static __always_inline void put_wire_name(struct estop_record *r, struct estop_wire_name *out,
					  struct task_struct *task, struct pt_regs *regs,
					  __u32 dir, __u32 text)
{
	const char *user = (const char *)argument(regs, text);
	char first = 0;

	bpf_probe_read_user(&first, 1, user);
	if (first != '/')
		put_base(r, &out->base, task, regs, dir);
	out->text_len = put_user_text(r, user);
}

/* rename, link, symlink, unlink, truncate, chmod and their *at forms. Without LSM hooks nothing in
 * the kernel hands the objects to a program, so the text is advisory: user space resolves it and
 * looks whether a watched path now is another inode. */
int on_name(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape = shape_of(regs);
	struct estop_task_state *state = ours();
	struct estop_record *r = record_buffer();

	if (!shape || !state || !r)
		return 0;
	__u64 aux = shape->aux == NO_ARG ? 0 : argument(regs, shape->aux);
	if (shape->event == ESTOP_CHMOD && !(aux & CHMOD_RISKY))
		return 0;
	struct estop_name *e = HEAD(r, estop_name);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, shape->event, state->session);
	e->aux = aux;
	if (shape->event == ESTOP_SYMLINK)
		e->from.text_len = put_user_text(r, (const char *)argument(regs, shape->from_text));
	else if (shape->from_text != NO_ARG)
		put_wire_name(r, &e->from, task, regs, shape->from_dir, shape->from_text);
	put_wire_name(r, &e->to, task, regs, shape->to_dir, shape->to_text);
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_NAME);
	return 0;
}

/* fchmod, ftruncate: the descriptor's file is the object, so its own path is the whole name. */
int on_file(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape = shape_of(regs);
	struct estop_task_state *state = ours();
	struct estop_record *r = record_buffer();

	if (!shape || !state || !r)
		return 0;
	__u64 aux = argument(regs, shape->aux);
	if (shape->event == ESTOP_CHMOD && !(aux & CHMOD_RISKY))
		return 0;
	struct file *file = file_by_fd(task, argument(regs, shape->to_dir));
	if (!file)
		return 0;
	struct inode *inode = KERNEL(file, file, f_inode);
	if ((KERNEL(inode, inode, i_mode) & S_IFMT_) != S_IFREG_)
		return 0;
	struct estop_name *e = HEAD(r, estop_name);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, shape->event, state->session);
	e->aux = aux;
	put_path(r, &e->to.base, KERNEL(file, file, f_path.dentry), KERNEL(file, file, f_path.mnt));
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_NAME);
	return 0;
}
