/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Prevention: names that come, go and change, and what they stand for. */
#include "lsm.h"

#define BPFFS_MAGIC 0xcafe4a11
#define RENAME_EXCHANGE_ 2
#define EVERY_ACT (~0u)

static __always_inline struct estop_name *begin_name(struct estop_record *r, __u16 kind,
						     __u32 session, __u64 aux)
{
	struct estop_name *e = HEAD(r, estop_name);

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, kind, session);
	e->aux = aux;
	return e;
}

/* What is refused or asked is told here; what is done, by the sensor behind it, which also holds.
 * Nobody is behind a worker of io_uring. `from`: the other name of a call with two. */
static __always_inline int end_name(struct estop_record *r, struct estop_task_state *state,
				    struct dentry *to, struct dentry *from, struct vfsmount *mnt)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct estop_name *e = HEAD(r, estop_name);
	struct estop_question *q;
	int verdict = 0;

	if (refuse(r, state->session, EVERY_ACT)) {
		verdict = REFUSE_IT;
	} else if (KERNEL(task_struct, task, flags) & PF_IO_WORKER_) {
		contain(r, state->session, EVERY_ACT);
	} else if (r->hold) {
		q = question_of(r, state, to, mnt, e->header.kind, 0);
		if (q && from)
			put_asked(&q->other, from);
		verdict = ask_or_answer(r, q, RESTARTS_NAME, 0);
	}
	if (r->flags)
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_NAME);
	else if (!verdict)
		leave_note(r->answered ? ESTOP_ANSWERED : r->hold);
	return said(verdict);
}

static __always_inline int is_bpffs(struct dentry *d)
{
	struct super_block *sb = KERNEL(dentry, d, d_sb);
	return KERNEL(super_block, sb, s_magic) == BPFFS_MAGIC;
}

/* `from`: the name that a call with two begins with, or 0. */
static __always_inline int judge_names(struct dentry *from, struct dentry *to,
				       struct vfsmount *mnt, __u16 kind, __u32 from_acts,
				       __u32 to_acts, __u64 aux)
{
	struct estop_task_state *state = judged();
	struct estop_record *r;

	if (!state)
		return 0;
	if (begins_nothing(state->session))
		return REFUSE_IT;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_NAME);
	struct estop_name *e = begin_name(r, kind, state->session, aux);
	if (from)
		weigh_spot(r, &e->from.base, from, mnt, state->image_inode, from_acts);
	weigh_spot(r, &e->to.base, to, mnt, state->image_inode, to_acts);
	if (is_bpffs(to) && !observed(state->session))
		r->certain |= to_acts;
	int verdict = end_name(r, state, to, from, mnt);
	give_back(r);
	return said(verdict);
}

static __always_inline int judge_name(struct dentry *d, struct vfsmount *mnt, __u16 kind,
				      __u32 acts, __u64 aux)
{
	return judge_names(0, d, mnt, kind, 0, acts, aux);
}

/* Also at path_rmdir. */
int lsm__path_unlink(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_name((struct dentry *)ctx->args[1], MOUNT_OF(ctx->args[0]), ESTOP_UNLINK,
			  ESTOP_ACT_DELETE, 0);
}

int lsm__path_symlink(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_name((struct dentry *)ctx->args[1], MOUNT_OF(ctx->args[0]), ESTOP_SYMLINK,
			  ESTOP_ACT_SYMLINK, 0);
}

int lsm__path_truncate(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_name(DENTRY_OF(ctx->args[0]), MOUNT_OF(ctx->args[0]), ESTOP_TRUNCATE,
			  ESTOP_ACT_TRUNCATE, 0);
}

/* From 6.2; before, ftruncate() asks path_truncate. */
int lsm__file_truncate(struct bpf_raw_tracepoint_args *ctx)
{
	struct file *file = (struct file *)ctx->args[0];
	return judge_name(KERNEL(file, file, f_path.dentry), KERNEL(file, file, f_path.mnt),
			  ESTOP_TRUNCATE, ESTOP_ACT_TRUNCATE, 0);
}

int lsm__path_chmod(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 mode = ctx->args[1] & 07777;
	if (!(mode & CHMOD_RISKY))
		return 0;
	return judge_name(DENTRY_OF(ctx->args[0]), MOUNT_OF(ctx->args[0]), ESTOP_CHMOD,
			  ESTOP_ACT_CHMOD, mode);
}

/* may_o_create() and mknod(2): file_open comes too late for a file that is not there yet. The open
 * itself is the event. */
int lsm__path_mknod(struct bpf_raw_tracepoint_args *ctx)
{
	struct dentry *d = (struct dentry *)ctx->args[1];
	struct vfsmount *mnt = MOUNT_OF(ctx->args[0]);
	struct estop_task_state *state = judged();
	struct estop_record *r;
	int verdict = 0;

	if (!state)
		return 0;
	if (begins_nothing(state->session))
		return REFUSE_IT;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_OPEN);
	struct estop_open *e = HEAD(r, estop_open);
	struct estop_wire_file object = {};
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_object(r, &object, 0, d, mnt);
	weigh_file(r, &object, d, 0, state->image_inode);
	e->file = object;
	e->access = ESTOP_WRITE | ESTOP_CREATED;
	if (refuse(r, state->session, ESTOP_ACT_CREATE))
		verdict = REFUSE_IT;
	else if (r->hold & ESTOP_ACT_CREATE) /* what is not asked is held by the open */
		verdict = ask_or_answer(r, question_of(r, state, d, mnt, ESTOP_OPEN, ESTOP_CREATED),
					RESTARTS_OPEN, 1);
	if (r->flags)
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_OPEN);
	give_back(r);
	return said(verdict);
}

int lsm__path_rename(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 both = ESTOP_ACT_RENAME_FROM | ESTOP_ACT_RENAME_TO;
	int exchange = ctx->args[4] & RENAME_EXCHANGE_;

	return judge_names((struct dentry *)ctx->args[1], (struct dentry *)ctx->args[3],
			 MOUNT_OF(ctx->args[2]), ESTOP_RENAME,
			 exchange ? both : ESTOP_ACT_RENAME_FROM,
			 exchange ? both : ESTOP_ACT_RENAME_TO, ctx->args[4]);
}

int lsm__path_link(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_names((struct dentry *)ctx->args[0], (struct dentry *)ctx->args[2],
			 MOUNT_OF(ctx->args[1]), ESTOP_LINK, ESTOP_ACT_LINK_FROM, ESTOP_ACT_LINK_TO,
			 0);
}
