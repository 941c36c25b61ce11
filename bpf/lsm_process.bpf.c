/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Prevention: programs before they run, and what reaches for other processes. */
#include "lsm.h"

#define PTRACE_ATTACH_ 2
#define CLONE_INTO_CGROUP_ 0x200000000ull

/* For the program and for each of its interpreters. Arguments are not there yet; a program that
 * may start is told by on_exec. */
int lsm__bprm_check_security(struct bpf_raw_tracepoint_args *ctx)
{
	struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[0];
	struct estop_task_state *state = judged();
	struct estop_record *r;
	int refused;

	if (!state)
		return 0;
	if (stands_still(state->session))
		return REFUSE_IT;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_EXEC);
	struct file *image = KERNEL(linux_binprm, bprm, file);
	struct estop_exec *e = HEAD(r, estop_exec);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_EXEC, state->session);
	put_file(r, &e->image, image);
	weigh_file(r, &e->image, KERNEL(file, image, f_path.dentry), 0, 0);
	refused = refuse(r, state->session, ESTOP_ACT_EXEC);
	if (refused)
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_EXEC);
	give_back(r);
	return refused ? REFUSE_IT : 0;
}

/* A child that is born into another cgroup: no cgroup.procs is written, and a tracepoint can only tell. */
int lsm__task_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state;

	if (!(ctx->args[1] & CLONE_INTO_CGROUP_))
		return 0;
	state = judged();
	return state ? refuse_operation(state, ESTOP_OP_CGROUP_BIRTH, 0, 0) : 0;
}

static __always_inline int is_monitor(struct task_struct *task)
{
	struct estop_settings *s = settings_row();
	return s && s->monitor_tgid && KERNEL(task_struct, task, tgid) == s->monitor_tgid;
}

/* ptrace, process_vm_*, /proc/PID/mem, pidfd_getfd. Reading (/proc/PID/exe, maps) is what ps does,
 * and is refused for the monitor only. */
int lsm__ptrace_access_check(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *target = (struct task_struct *)ctx->args[0];
	struct estop_task_state *state = judged();

	if (!state || observed(state->session))
		return 0;
	__u32 tgid = KERNEL(task_struct, target, tgid);
	if (!((__u32)ctx->args[1] & PTRACE_ATTACH_))
		return is_monitor(target) ? REFUSE_IT : 0;
	struct estop_task_state *other = tasks.lookup(&tgid);
	if (other && other->session == state->session)
		return 0;
	return refuse_operation(state, ESTOP_OP_PTRACE, 0, tgid);
}

/* SIGCONT to who waits for the verdict. All other SIGCONTs are a shell's business, and the monitor's own
 * comes from no session. */
static __always_inline int undoes_hold(struct task_struct *target)
{
	struct estop_task_state *state = judged();
	__u32 tgid = KERNEL(task_struct, target, tgid);

	if (!state || !held.lookup(&tgid) ||
	    !refuse_operation(state, ESTOP_OP_HOLD_UNDONE, tgid, 0))
		return 0;
	note_told(ESTOP_OP_KILL);
	return 1;
}

int lsm__task_kill(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *target = (struct task_struct *)ctx->args[0];
	struct estop_task_state *state;
	struct estop_signal *e;
	int signal = ctx->args[2];

	if (signal == SIGCONT_ && undoes_hold(target))
		return REFUSE_IT;
	if (!is_monitor(target) || !signal) /* 0 asks whether it is there */
		return 0;
	state = judged();
	if (!state || observed(state->session))
		return 0;
	e = alarms.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(ESTOP_LOST_SIGNAL);
		return REFUSE_IT;
	}
	fill_header(&e->header, ESTOP_SIGNAL, state->session);
	e->header.size = sizeof(*e);
	e->header.flags = ESTOP_REFUSED;
	e->header.held_ns = bpf_ktime_get_boot_ns();
	e->signal = signal;
	e->target_tgid = KERNEL(task_struct, target, tgid);
	alarms.ringbuf_submit(e, 0);
	note_told(ESTOP_OP_KILL);
	return REFUSE_IT;
}

/* Limits of the monitor; its priority and its processors too (task_setnice, task_setscheduler). */
int lsm__task_setrlimit(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state;

	if (!is_monitor((struct task_struct *)ctx->args[0]))
		return 0;
	state = judged();
	return state && !observed(state->session) ? REFUSE_IT : 0;
}
