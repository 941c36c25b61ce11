/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Prevention: operations on the kernel itself, and mounts. */
#include "lsm.h"

#define LOADING_MODULE_ 2 /* in both enums that tell what the kernel reads a file for */

static __always_inline int refused_by_setting(__u32 operation)
{
	struct estop_settings *s = settings_row();
	return s && s->refused_operations >> operation & 1;
}

/* sys_bpf(): every command. What is pinned or attached can be undone by it. */
int lsm__bpf(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	if (!state || !refused_by_setting(ESTOP_OP_BPF))
		return 0;
	return refuse_operation(state, ESTOP_OP_BPF, ctx->args[0], 0);
}

/* io_uring_setup() -> a file on a secure anonymous inode of this name. There is a hook of its own
 * only from 6.15. A quarantined session gets none whatever the setting: see README.md. */
int lsm__inode_init_security_anon(struct bpf_raw_tracepoint_args *ctx)
{
	struct qstr *name = (struct qstr *)ctx->args[1];
	struct estop_task_state *state = judged();
	char text[12] = {};

	if (!state)
		return 0;
	bpf_probe_read_kernel_str(text, sizeof(text), KERNEL(qstr, name, name));
	if (text[0] != '[' || text[1] != 'i' || text[2] != 'o' || text[3] != '_' || text[4] != 'u' ||
	    text[5] != 'r')
		return 0;
	if (stands_still(state->session))
		return REFUSE_IT;
	if (!refused_by_setting(ESTOP_OP_IO_URING_SETUP))
		return 0;
	return refuse_operation(state, ESTOP_OP_IO_URING_SETUP, 0, 0);
}

static __always_inline int on_module(int what)
{
	struct estop_task_state *state;

	if (what != LOADING_MODULE_)
		return 0;
	state = judged();
	if (!state || !refused_by_setting(ESTOP_OP_MODULE_LOAD))
		return 0;
	return refuse_operation(state, ESTOP_OP_MODULE_LOAD, 0, 0);
}

int lsm__kernel_load_data(struct bpf_raw_tracepoint_args *ctx) { return on_module(ctx->args[0]); }
int lsm__kernel_read_file(struct bpf_raw_tracepoint_args *ctx) { return on_module(ctx->args[1]); }

int lsm__settime(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	return state ? refuse_operation(state, ESTOP_OP_SETTIME, 0, 0) : 0;
}

/* The walk gives names from the leaf up; the event wants a path as a caller would write it. */
static __always_inline __u32 put_forward(struct estop_record *r)
{
	__u32 from = r->used;

	for (int i = 1; i <= MAX_DEPTH; i++) {
		__u32 at = r->used & TAIL_MASK;
		if (i > r->depth)
			break;
		__u64 start = r->starts[(r->depth - i) & STARTS_MASK];
		BOUND(start, TAIL_MASK);
		r->tail[at] = '/';
		long n = bpf_probe_read_kernel_str(r->tail + at + 1, NAME_BYTES, r->tail + start);
		if (n <= 0)
			break;
		r->used = at + (__u32)n;
	}
	return r->used - from;
}

static __always_inline int judge_mount(struct dentry *d, struct vfsmount *mnt, __u32 operation)
{
	struct estop_task_state *state = judged();
	struct estop_wire_path path = {};
	struct estop_record *r;
	int refused;

	if (!state)
		return 0;
	if (stands_still(state->session))
		return REFUSE_IT;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_PRIVILEGED);
	weigh_spot(r, &path, d, mnt, state->image_inode, ESTOP_ACT_MOUNT);
	refused = refuse(r, state->session, ESTOP_ACT_MOUNT);
	if (refused) {
		struct estop_privileged *e = begin_operation(r, state->session, operation);
		/* Where the names end, the text begins; what lies before it is not sent. */
		__u32 begin = r->used & TAIL_MASK;
		__u64 length = put_forward(r);
		BOUND(length, PATH_BYTES - 1);
		__u64 first = begin;
		BOUND(first, TAIL_MASK);
		bpf_probe_read_kernel(r->tail, length, r->tail + first);
		r->used = length;
		e->text_len = length;
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_PRIVILEGED);
	}
	give_back(r);
	return refused ? REFUSE_IT : 0;
}

int lsm__sb_mount(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_mount(DENTRY_OF(ctx->args[1]), MOUNT_OF(ctx->args[1]), ESTOP_OP_MOUNT);
}

int lsm__move_mount(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_mount(DENTRY_OF(ctx->args[1]), MOUNT_OF(ctx->args[1]), ESTOP_OP_MOVE_MOUNT);
}

int lsm__sb_pivotroot(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_mount(DENTRY_OF(ctx->args[1]), MOUNT_OF(ctx->args[1]), ESTOP_OP_PIVOT_ROOT);
}

int lsm__sb_umount(struct bpf_raw_tracepoint_args *ctx)
{
	struct vfsmount *mnt = (struct vfsmount *)ctx->args[0];
	return judge_mount(KERNEL(vfsmount, mnt, mnt_root), mnt, ESTOP_OP_UMOUNT);
}
