/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What the kernel does at once. If the act on what was weighed may match a rule that stops, the session
 * is held: its network is cut from here on, and the process is sent SIGSTOP, so that it does not return
 * to user space before user space has answered.
 */
#ifndef ESTOP_VERDICT_H
#define ESTOP_VERDICT_H

#include "weigh.h"

#define SIGCONT_ 18
#define SIGSTOP_ 19

/*
 * Would a stop and a continue be noticed? A parent with job control waits for stopped children: its
 * jobs have a process group of their own in the parent's session. A tracer sees every signal, and
 * who handles SIGCONT runs its handler. These are not stopped here; user space freezes the cgroup,
 * which nobody notices, some 100 us later, and the network is cut meanwhile all the same.
 */
static __always_inline int unnoticed(struct task_struct *task)
{
	struct signal_struct *own = KERNEL(task_struct, task, signal);
	struct task_struct *parent = KERNEL(task_struct, task, real_parent);
	struct signal_struct *above = KERNEL(task_struct, parent, signal);
	struct sighand_struct *handlers = KERNEL(task_struct, task, sighand);

	if (KERNEL(task_struct, task, ptrace) || !handlers)
		return 0;
	if ((__u64)KERNEL(sighand_struct, handlers, action[SIGCONT_ - 1].sa.sa_handler) > 1)
		return 0; /* neither SIG_DFL nor SIG_IGN */
	return KERNEL(signal_struct, own, pids[PIDTYPE_PGID]) ==
		       KERNEL(signal_struct, above, pids[PIDTYPE_PGID]) ||
	       KERNEL(signal_struct, own, pids[PIDTYPE_SID]) !=
		       KERNEL(signal_struct, above, pids[PIDTYPE_SID]);
}

static __always_inline int stop_process(__u32 session, __u32 reason)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct estop_hold hold = {.session = session, .reason = reason};

	hold.ktime_ns = bpf_ktime_get_boot_ns();
	/* The map first: whoever stops must be findable, or nobody would continue it. */
	if (held.update(&tgid, &hold) || bpf_send_signal(SIGSTOP_))
		return 0;
	/* Who continues the process for what another thread of it did takes the row first. He may have done
	 * so just before the signal, and would not find it when he comes for this one. */
	if (!held.lookup(&tgid) && held.update(&tgid, &hold)) {
		bpf_send_signal(SIGCONT_);
		return 0;
	}
	return 1;
}

/* The session stands still from here on until the answer: see quarantined(). */
static __always_inline void ask(__u32 session)
{
	__u64 *asked = candidates.lookup(&session);
	if (asked)
		__sync_fetch_and_add(asked, 1);
}

/* For an LSM program: the act has not happened, and shall not if a rule that stops is certain. */
static __always_inline int refuse(struct estop_record *r, __u32 session, __u32 acts)
{
	if (!(r->certain & acts) || observed(session) || granted(session))
		return 0;
	r->flags |= ESTOP_CANDIDATE | ESTOP_CERTAIN | ESTOP_REFUSED;
	ask(session);
	r->held_ns = bpf_ktime_get_boot_ns();
	return 1;
}

/* What was weighed (r->hold, r->certain) against what was done: the act has happened, so the
 * process is kept from making use of it. Who is held already may have been held for less. */
static __always_inline void contain(struct estop_record *r, __u32 session, __u32 acts)
{
	if (!(r->hold & acts) || observed(session))
		return;
	if (r->certain & acts)
		r->flags |= ESTOP_CERTAIN;
	if (r->flags & ESTOP_CANDIDATE)
		return;
	r->flags |= ESTOP_CANDIDATE;
	ask(session);
	if (unnoticed((struct task_struct *)bpf_get_current_task()) &&
	    stop_process(session, ESTOP_HELD_CANDIDATE))
		r->flags |= ESTOP_STOPPED;
	r->held_ns = bpf_ktime_get_boot_ns();
}

/* It is held, and yet runs: somebody else sent SIGCONT. Who answers forgets it first, and looks for
 * whoever is held once more when all is answered. */
static __always_inline void hold_again(__u32 session)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (waits_for_answer(session) && held.lookup(&tgid))
		stop_process(session, ESTOP_HELD_CANDIDATE);
}

/* A task of a session that is stopped, and yet runs: it left the cgroup before the freeze. Or
 * nobody is there to judge what it does, or it has not been judged. */
static __always_inline void stop_the_unjudged(__u32 session)
{
	if (is_stopped(session))
		stop_process(session, ESTOP_HELD_QUARANTINE);
	else if (monitor_is_dead() && !observed(session))
		stop_process(session, ESTOP_HELD_SILENCE);
	else
		hold_again(session);
}

#define ESTOP_ANSWERED (1u << 31) /* beside the acts of a note: it was asked for, and is let through */

/* What an LSM program saw coming but may not refuse: the sensor behind the act holds for it. Every
 * call that has such a sensor passes here first, so no note is another call's. */
static __always_inline void leave_note(__u32 acts)
{
	__u32 tid = bpf_get_current_pid_tgid();

	if (acts)
		noted.update(&tid, &acts);
	else if (noted.lookup(&tid))
		noted.delete(&tid); /* of an act that came to nothing */
}

static __always_inline void take_note(struct estop_record *r)
{
#ifdef ESTOP_LSM
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 *hold = noted.lookup(&tid);

	if (!hold)
		return;
	r->hold = *hold & ESTOP_ANSWERED ? 0 : r->hold | *hold;
	noted.delete(&tid);
#endif
}

/* The way out of a connect() that a program at its cgroup asked about: who was not answered yet waits
 * here, before he can send. The answer may come while he is being stopped; it counts in `answers`
 * before it looks into `held`, so that one of the two sides sees the other. */
static __always_inline void wait_for_answer(__u32 session)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 tid = thread, tgid = thread >> 32;

	if (!noted.lookup(&tid))
		return;
	noted.delete(&tid);
	if (!waits_for_answer(session) ||
	    !unnoticed((struct task_struct *)bpf_get_current_task()) ||
	    !stop_process(session, ESTOP_HELD_CANDIDATE))
		return;
	if (!waits_for_answer(session) && !is_stopped(session)) {
		struct estop_hold *row = held.lookup(&tgid);
		struct estop_hold hold;

		if (!row)
			return;
		hold = *row;
		held.delete(&tgid);
		if (waits_for_answer(session)) /* another thread was held meanwhile */
			held.update(&tgid, &hold);
		else
			bpf_send_signal(SIGCONT_);
	}
}

static __always_inline void note_told(__u32 operation)
{
	__u32 tid = bpf_get_current_pid_tgid();
	told.update(&tid, &operation);
}

/* The hook knows process_vm_*() as ptrace. One that is left over from a call without a sensor may
 * hide a second refusal of the same kind, never the first. */
static __always_inline int was_told(__u32 operation)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 *known = told.lookup(&tid);

	if (!known || (*known != operation &&
		       (*known != ESTOP_OP_PTRACE ||
			(operation != ESTOP_OP_VM_READ && operation != ESTOP_OP_VM_WRITE))))
		return 0;
	told.delete(&tid);
	return 1;
}

#endif
