/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* System calls that reach beyond the session: into other processes, the mount table, the kernel. */
#include "syscall.h"

/* A call about a task that is no process of the session, and that changes something. A thread may be
 * meant by its own number, so who it belongs to is user space's to find out. */
static __always_inline int is_about_another(struct estop_syscall_shape *shape, struct pt_regs *regs,
					    __u32 session)
{
	__u32 whom = argument(regs, shape->aux), self = bpf_get_current_pid_tgid();

	if (!whom || whom == self || (shape->from_text != NO_ARG && !argument(regs, shape->from_text)))
		return 0;
	struct estop_task_state *other = tasks.lookup(&whom);
	return !other || other->session != session;
}

#define FAN_REPORT_BITS 0x600 /* FID or DIR_FID: such a group tells of files by handle */

static __always_inline void tell_privileged(struct bpf_raw_tracepoint_args *ctx,
					    struct estop_task_state *state, struct estop_record *r)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape = shape_of(regs);

	if (!shape)
		return;
	if ((long)ctx->args[1] < 0 && was_told(shape->event))
		return;
	if (shape->event == ESTOP_OP_KILL && (long)ctx->args[1] >= 0) /* on_signal tells of the monitor */
		return;
	if (shape->event == ESTOP_OP_LIMIT && !is_about_another(shape, regs, state->session))
		return;
	if (shape->event == ESTOP_OP_FANOTIFY_INIT && argument(regs, 0) & FAN_REPORT_BITS)
		return;
	struct estop_privileged *e = HEAD(r, estop_privileged);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_PRIVILEGED, state->session);
	/* Which task it is about, the calls say in different places. */
	e->args[0] = argument(regs, shape->event == ESTOP_OP_LIMIT ? shape->aux : 0);
	e->args[1] = argument(regs, 1);
	e->args[2] = argument(regs, 2);
	e->args[3] = argument(regs, 3);
	e->args[4] = argument(regs, 4);
	e->args[5] = argument(regs, 5);
	e->result = ctx->args[1];
	e->operation = shape->event;
	if (shape->to_text != NO_ARG)
		e->text_len = put_user_text(r, (const char *)argument(regs, shape->to_text));
	struct estop_settings *s = settings_row();
	r->hold = s && s->held_operations >> (shape->event & 63) & 1;
	contain(r, state->session, 1);
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_PRIVILEGED);
}

int on_privileged(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = returning(ctx, 1);
	struct estop_record *r = state ? sensor_record(ESTOP_LOST_PRIVILEGED) : 0;

	if (r) {
		tell_privileged(ctx, state, r);
		sensor_done(r);
	}
	return 0;
}

#define SIGCHLD_ 17
#define SEND_SIG_PRIV_ 1ul /* the kernel's own, to jobs that nobody can continue any more */

/* SIGCONT to who is held, from his own session: it is given already, and nothing here can take it back.
 * So whoever gave it stands still too, and user space freezes before it judges. A timer's signal comes
 * in the midst of anybody's work, and may accuse a process of the session that is not the one. */
static __always_inline void tell_hold_undone(struct bpf_raw_tracepoint_args *ctx,
					     struct task_struct *target)
{
	__u32 tgid = KERNEL(task_struct, target, tgid);
	struct estop_hold *hold = held.lookup(&tgid);
	struct estop_task_state *state = hold ? ours() : 0;
	struct estop_privileged *e;

	if (!state || state->session != hold->session || observed(state->session) ||
	    ctx->args[1] == SEND_SIG_PRIV_)
		return;
	e = alarms.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(ESTOP_LOST_SIGNAL);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_PRIVILEGED, state->session);
	e->header.size = sizeof(*e);
	e->header.flags = ESTOP_CANDIDATE | ESTOP_CERTAIN;
	e->header.held_ns = bpf_ktime_get_boot_ns();
	e->operation = ESTOP_OP_HOLD_UNDONE;
	e->args[0] = tgid;
	ask(state->session);
	if (unnoticed((struct task_struct *)bpf_get_current_task()) &&
	    stop_process(state->session, ESTOP_HELD_CANDIDATE))
		e->header.flags |= ESTOP_STOPPED;
	alarms.ringbuf_submit(e, 0);
}

/* __send_signal_locked(): the one place all kinds of kill go through, before delivery. */
int on_signal(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *target = (struct task_struct *)ctx->args[2];
	struct estop_settings *s = settings_row();
	struct estop_signal *e;

	if (ctx->args[0] == SIGCONT_)
		tell_hold_undone(ctx, target);
	if (!s || !s->monitor_tgid || KERNEL(task_struct, target, tgid) != s->monitor_tgid)
		return 0;
	if (ctx->args[0] == SIGCHLD_) /* the kernel's own, at a child's end */
		return 0;
	struct estop_task_state *state = ours();
	if (!state)
		return 0;
	e = alarms.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(ESTOP_LOST_SIGNAL);
		return 0;
	}
	fill_header(&e->header, ESTOP_SIGNAL, state->session);
	e->header.size = sizeof(*e);
	e->signal = (int)ctx->args[0];
	e->target_tgid = s->monitor_tgid;
	alarms.ringbuf_submit(e, 0);
	return 0;
}
