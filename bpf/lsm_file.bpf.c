/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Prevention: what is opened, received, and done with descriptors. */
#include "lsm.h"

#define CGROUP_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
#define EXEC_OPEN_ 0x20 /* f_flags of an open for exec: not a read */
#define O_TRUNC_ 01000
#define MAY_WRITE_ 2
#define MAY_READ_ 4
#define PROT_WRITE_ 2
#define PROT_EXEC_ 4
#define MAP_SHARED_ 1
#define VM_SHARED_ 8

static __always_inline __u64 magic_of(struct inode *inode)
{
	struct super_block *sb = KERNEL(inode, inode, i_sb);
	return KERNEL(super_block, sb, s_magic);
}

static __always_inline int is_cgroupfs(struct inode *inode)
{
	__u64 magic = magic_of(inode);
	return magic == CGROUP2_MAGIC || magic == CGROUP_MAGIC;
}

static __always_inline int refuse_file(struct estop_record *r, struct estop_task_state *state,
				       struct file *file, __u32 access)
{
	struct estop_open *e = HEAD(r, estop_open);

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_file(r, &e->file, file);
	e->access = access;
	r->flags |= ESTOP_REFUSED;
	r->held_ns = bpf_ktime_get_boot_ns();
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_OPEN);
	return REFUSE_IT;
}

static __always_inline void remember_judged(struct file *file, struct inode *inode, __u32 session)
{
	struct estop_opened_key key = {.file = (__u64)file, .session = session};
	__u32 yes = 1;

	key.inode = KERNEL(inode, inode, i_ino);
	opened.update(&key, &yes);
}

static __always_inline int judge_descriptor(struct estop_task_state *state, struct file *file,
					    struct estop_glance *g, __u32 acts)
{
	struct estop_news news;
	struct estop_record *r;
	int verdict;

	/* What is only read may be what the way out needs. */
	int still = stands_still(state->session);
	if (still && acts & (ESTOP_WRITE | ESTOP_CREATED)) {
		forget_question();
		return REFUSE_IT;
	}
	int cgroupfs = acts & ESTOP_WRITE && is_cgroupfs(g->inode) && !observed(state->session);
	if (!cgroupfs && touched_before(state, g, acts, &news))
		return 0;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_OPEN);
	if (cgroupfs) {
		verdict = refuse_file(r, state, file, acts);
	} else {
		verdict = judge_open(r, state, file, acts, &news, 1);
		if (!verdict && r->hold & acts)
			remember_judged(file, g->inode, state->session);
	}
	give_back(r);
	return said(verdict);
}

/* Who writes to what he made goes on making it: to a rule, that is no open. */
static __always_inline __u32 made_or_opened(__u32 acts, __u32 mode)
{
	if (mode & FMODE_CREATED_ && acts & ESTOP_ACT_WRITE)
		return (acts & ~ESTOP_ACT_WRITE) | ESTOP_ACT_CREATE;
	return acts;
}

/* do_dentry_open(), before the file system's own open and before O_TRUNC. O_PATH does not come
 * here. */
int lsm__file_open(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	struct file *file = (struct file *)ctx->args[0];
	struct estop_glance glance;

	if (!state)
		return 0;
	look_at(&glance, file);
	if (glance.flags & EXEC_OPEN_ || glance.type == S_IFDIR_)
		return 0;
	return judge_descriptor(state, file, &glance,
				made_or_opened(access_by(glance.mode), glance.mode) |
					(glance.flags & O_TRUNC_ ? ESTOP_ACT_TRUNCATE : 0));
}

/* A descriptor from another process: SCM_RIGHTS, pidfd_getfd. */
int lsm__file_receive(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	struct file *file = (struct file *)ctx->args[0];
	struct estop_glance glance;

	if (!state)
		return 0;
	look_at(&glance, file);
	if (glance.type != S_IFREG_)
		return 0;
	return judge_descriptor(state, file, &glance, access_by(glance.mode) & ~ESTOP_CREATED);
}

/* The use of a descriptor of a watched file. It is remembered once it is let through or was held
 * afterwards: until then another process that has the descriptor is asked as well. */
static __always_inline int judge_known_use(struct estop_record *r, struct estop_task_state *state,
					   struct file *file, __u32 acts, __u32 hold,
					   __u32 certain)
{
	struct dentry *d = KERNEL(file, file, f_path.dentry);
	struct vfsmount *mnt = KERNEL(file, file, f_path.mnt);
	struct estop_open *e = HEAD(r, estop_open);
	int verdict;

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_file(r, &e->file, file);
	e->access = (acts & (ESTOP_READ | ESTOP_WRITE)) | (acts & ESTOP_ACT_CREATE ? ESTOP_WRITE : 0);
	r->hold = hold;
	r->certain = certain;
	if (refuse(r, state->session, acts))
		verdict = REFUSE_IT;
	else
		verdict = judge_first(r, question_of(r, state, d, mnt, 0, acts), acts, RESTARTS_USE);
	if (!verdict)
		remember_judged(file, KERNEL(file, file, f_inode), state->session);
	if (!verdict || r->flags)
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_OPEN);
	return verdict;
}

/* What is done with a descriptor, judged by inode only: it was judged whole when the session opened
 * or received it. Left are those that it inherited, and rules that came after. */
static __always_inline int judge_use(struct file *file, __u32 acts)
{
	struct estop_task_state *state = judged();
	struct estop_inode_key key = {};
	struct estop_record *r;
	__u32 hold = 0, certain = 0;
	int verdict;

	if (!state || observed(state->session))
		return 0;
	if (KERNEL(file, file, f_flags) & EXEC_OPEN_) /* how the kernel reads a program: its own hook is asked */
		return 0;
	struct inode *inode = KERNEL(file, file, f_inode);
	struct super_block *sb = KERNEL(inode, inode, i_sb);
	key.inode = KERNEL(inode, inode, i_ino);
	key.dev = KERNEL(super_block, sb, s_dev);
	struct estop_watch *w = watched_inodes.lookup(&key);
	int cgroupfs = acts & ESTOP_WRITE && is_cgroupfs(inode);
	acts = made_or_opened(acts, KERNEL(file, file, f_mode));
	if (w && !forgives(w, state->image_inode, 0)) {
		hold = w->hold;
		certain = w->certain;
	}
	if (w && !forgives(w, state->image_inode, 1)) {
		hold |= w->hold_below;
		certain |= w->certain_below;
	}
	if (!cgroupfs && !(hold & acts))
		return 0;
	if (!cgroupfs && !(certain & acts)) {
		struct estop_opened_key known = {.file = (__u64)file, .session = state->session};
		known.inode = key.inode;
		if (opened.lookup(&known))
			return 0;
	}
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_OPEN);
	if (cgroupfs)
		verdict = refuse_file(r, state, file, acts);
	else
		verdict = judge_known_use(r, state, file, acts, hold, certain);
	give_back(r);
	return said(verdict);
}

int lsm__file_permission(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 mask = ctx->args[1];
	return judge_use((struct file *)ctx->args[0], (mask & MAY_WRITE_ ? ESTOP_ACT_WRITE : 0) |
							      (mask & MAY_READ_ ? ESTOP_ACT_READ : 0));
}

/* No write(2) comes of a shared mapping. */
int lsm__mmap_file(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 prot = ctx->args[2], flags = ctx->args[3];
	__u32 acts = ESTOP_ACT_READ;

	if (!ctx->args[0])
		return 0;
	if (prot & PROT_WRITE_ && flags & MAP_SHARED_)
		acts |= ESTOP_ACT_WRITE;
	if (prot & PROT_EXEC_)
		acts |= ESTOP_ACT_EXEC;
	return judge_use((struct file *)ctx->args[0], acts);
}

int lsm__file_mprotect(struct bpf_raw_tracepoint_args *ctx)
{
	struct vm_area_struct *area = (struct vm_area_struct *)ctx->args[0];
	struct file *file = KERNEL(vm_area_struct, area, vm_file);
	__u32 prot = ctx->args[2];

	if (!file || !(prot & PROT_WRITE_) || !(KERNEL(vm_area_struct, area, vm_flags) & VM_SHARED_))
		return 0;
	return judge_use(file, ESTOP_ACT_WRITE);
}
