/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Prevention: programs at LSM hooks, which the kernel asks before it acts. What a rule that stops
 * is certain about is refused and told; what it may be about is asked first (before.h), and held
 * once it has happened where that is not possible. Objects come as kernel pointers: whatever way led
 * there (a link, a bind mount, a descriptor that somebody passed, io_uring), the hook sees the same
 * dentry and inode.
 *
 * Every hook is asked for every task of the machine: the first question is whether there is any
 * session, the second whether the task is of one. All others are let through, and so are sessions
 * that are only observed.
 */
#ifndef ESTOP_LSM_H
#define ESTOP_LSM_H

#include "before.h"

static __always_inline struct estop_task_state *judged(void)
{
	struct estop_settings *s = settings_row();
	return s && s->session_levels ? ours() : 0;
}

/* Stopped, or nobody is there to judge: nothing new begins. */
static __always_inline int stands_still(__u32 session)
{
	if (!is_stopped(session) && (observed(session) || !monitor_is_dead()))
		return 0;
	stop_the_unjudged(session);
	return 1;
}

/* The same, where that is refused: then nobody comes back for an answer. */
static __always_inline int begins_nothing(__u32 session)
{
	if (!stands_still(session))
		return 0;
	forget_question();
	return 1;
}

/* No row is free: what cannot be judged is not done. */
static __always_inline int unjudged(__u32 session, int hook)
{
	count_lost(hook);
	return observed(session) ? 0 : REFUSE_IT;
}

/* What a hook may return, in constants that the verifier of 6.12 can follow. */
static __always_inline int said(int verdict)
{
	if (verdict == START_ANEW)
		return START_ANEW;
	return verdict ? REFUSE_IT : 0;
}

#define MOUNT_OF(path_) KERNEL(path, (struct path *)(path_), mnt)
#define DENTRY_OF(path_) KERNEL(path, (struct path *)(path_), dentry)

static __always_inline struct estop_privileged *begin_operation(struct estop_record *r,
								__u32 session, __u32 operation)
{
	struct estop_privileged *e = HEAD(r, estop_privileged);

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_PRIVILEGED, session);
	e->operation = operation;
	e->result = REFUSE_IT;
	note_told(operation);
	r->flags |= ESTOP_REFUSED;
	r->held_ns = bpf_ktime_get_boot_ns();
	return e;
}

/* Refused whatever the rules say: an event, and rules decide what follows from it. */
static __always_inline int refuse_operation(struct estop_task_state *state, __u32 operation,
					    __u64 first, __u64 second)
{
	struct estop_record *r;

	if (observed(state->session))
		return 0;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_PRIVILEGED);
	struct estop_privileged *e = begin_operation(r, state->session, operation);
	e->args[0] = first;
	e->args[1] = second;
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_PRIVILEGED);
	give_back(r);
	return REFUSE_IT;
}

/* One name of a call; only `acts` of its watches count. */
static __always_inline void weigh_spot(struct estop_record *r, struct estop_wire_path *out,
				       struct dentry *d, struct vfsmount *mnt, __u64 image_inode,
				       __u32 acts)
{
	__u32 hold = r->hold, certain = r->certain, at = r->used;
	struct estop_wire_file object = {};

	r->hold = 0;
	r->certain = 0;
	put_object(r, &object, KERNEL(dentry, d, d_inode), d, mnt);
	weigh_file(r, &object, d, at, image_inode);
	*out = object.path;
	r->hold = hold | (r->hold & acts);
	r->certain = certain | (r->certain & acts);
}

#endif
