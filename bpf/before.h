/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Holding an act before it happens, for LSM programs. What a rule may be about is asked of user
 * space while the caller waits: the thread is sent SIGSTOP and the hook returns -ERESTARTNOINTR, so
 * that the call comes to nothing, the thread stops on its way out, and the kernel starts the call
 * anew after SIGCONT. The caller sees one call that took long.
 *
 * The error is for the kernel only. It is taken back where a signal is pending on the way to user
 * space (exit_to_user_mode_loop() -> arch_do_signal_or_restart()), and nowhere else: so it may be
 * returned only
 *   - by a thread that itself has the signal pending. bpf_send_signal() may hand it to another
 *     thread of the process, and both helpers may send it later from an irq_work;
 *   - from a system call that hands the hook's error on and has done nothing before: `restarts` of
 *     the table of calls. io_uring would put it into a completion, a core dump has no call at all.
 *
 * The call that starts anew finds the answer under its thread. It is good for the same act on the
 * same object and is used up by it; what has none is asked.
 */
#ifndef ESTOP_BEFORE_H
#define ESTOP_BEFORE_H

#include "syscall.h"

#define REFUSE_IT (-1)	   /* -EPERM */
#define START_ANEW (-513) /* -ERESTARTNOINTR */

#define MAX_MISSES 8

#define RESTARTS_OPEN 1 /* it opens a file */
#define RESTARTS_NAME 2 /* it changes names, or what a name stands for */
#define RESTARTS_USE 4	/* it uses a descriptor */

#define PF_EXITING_ 0x4
#define PF_IO_WORKER_ 0x10
#define PF_DUMPCORE_ 0x200
#define PF_KTHREAD_ 0x200000

static __always_inline struct pt_regs *caller(void)
{
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

static __always_inline int starts_anew(struct task_struct *task, struct pt_regs *regs, __u32 how)
{
	struct estop_syscall_shape *shape;

	if (KERNEL(task_struct, task, flags) &
	    (PF_EXITING_ | PF_IO_WORKER_ | PF_DUMPCORE_ | PF_KTHREAD_))
		return 0;
	shape = shape_of(regs);
	return shape && shape->restarts & how;
}

static __always_inline void put_asked(struct estop_object *out, struct dentry *d)
{
	struct inode *inode = KERNEL(dentry, d, d_inode);
	struct super_block *sb = KERNEL(dentry, d, d_sb);
	struct dentry *parent = KERNEL(dentry, d, d_parent);
	struct inode *above = KERNEL(dentry, parent, d_inode);

	out->inode = inode ? KERNEL(inode, inode, i_ino) : 0;
	out->parent_inode = above ? KERNEL(inode, above, i_ino) : 0;
	out->name_hash = KERNEL(dentry, d, d_name.hash_len);
	out->dev = KERNEL(super_block, sb, s_dev);
}

/* The question that `acts` on an object would be; it lies in the scratch of the record. */
static __always_inline struct estop_question *question_of(struct estop_record *r,
							  struct estop_task_state *state,
							  struct dentry *d, struct vfsmount *mnt,
							  __u32 kind, __u32 acts)
{
	struct estop_scratch *s = scratch_buffer(r);
	struct estop_question *q;

	if (!s)
		return 0;
	q = &s->question;
	__builtin_memset(q, 0, sizeof(*q));
	q->session = state->session;
	q->acts = acts;
	q->kind = kind;
	q->mount = (__u64)mnt;
	q->image_inode = state->image_inode;
	put_asked(&q->object, d);
	return q;
}

static __always_inline int same_object(struct estop_object *a, struct estop_object *b)
{
	return a->inode == b->inode && a->parent_inode == b->parent_inode &&
	       a->name_hash == b->name_hash && a->dev == b->dev;
}

static __always_inline int same_act(struct estop_question *a, struct estop_question *b)
{
	return a->session == b->session && a->acts == b->acts && a->kind == b->kind &&
	       a->mount == b->mount && a->image_inode == b->image_inode && a->stack == b->stack &&
	       same_object(&a->object, &b->object) && same_object(&a->other, &b->other);
}

/* The signal is sent, and this thread is certain to see it before it returns to user space. */
static __always_inline int stop_thread(struct task_struct *task, __u32 session)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct estop_hold hold = {.session = session, .reason = ESTOP_HELD_CANDIDATE};

	hold.ktime_ns = bpf_ktime_get_boot_ns();
	if (held.update(&tgid, &hold) || bpf_send_signal_thread(SIGSTOP_))
		return 0;
	if (!held.lookup(&tgid)) /* as in stop_process() */
		held.update(&tgid, &hold);
	return KERNEL(task_struct, task, pending.signal.sig[0]) >> (SIGSTOP_ - 1) & 1;
}

/* Ask, and wait. 0 where that is not possible: what happens then is held afterwards. */
static __always_inline int ask_first(struct estop_record *r, struct task_struct *task,
				     struct estop_question *q)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct estop_question *before = questions.lookup(&tid);

	/* Another act of the same call: if it asked too, the two would push each other's answers out
	 * for ever. A row that nobody comes back for (a signal handler jumped away) goes in the end. */
	if (before && before->answer == ESTOP_LET && before->stack == q->stack &&
	    before->misses++ < MAX_MISSES)
		return 0;
	q->ktime_ns = bpf_ktime_get_boot_ns();
	if (!unnoticed(task) || questions.update(&tid, q))
		return 0;
	if (!stop_thread(task, q->session)) {
		questions.delete(&tid);
		return 0;
	}
	r->flags |= ESTOP_CANDIDATE | ESTOP_STOPPED | ESTOP_BEFORE;
	r->held_ns = q->ktime_ns;
	ask(q->session);
	return 1;
}

/* The row of this thread, if it is about this act. */
static __always_inline struct estop_question *asked_before(struct estop_question *q,
							   struct pt_regs *regs)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct estop_question *asked = questions.lookup(&tid);

	q->stack = KERNEL(pt_regs, regs, sp);
	return asked && same_act(asked, q) ? asked : 0;
}

static __always_inline void forget_question(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	questions.delete(&tid);
}

/* What the hook returns for an act that a rule may be about. 0 lets it happen: `r->answered` says
 * whether that was asked for. An error without a flag was told before. `kept`: a hook behind this one
 * needs the answer too. */
static __always_inline int ask_or_answer(struct estop_record *r, struct estop_question *q,
					 __u32 how, int kept)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs = caller();
	struct estop_question *asked;
	__u32 answer;

	if (!q || !regs || observed(q->session) || !starts_anew(task, regs, how))
		return 0;
	asked = asked_before(q, regs);
	answer = asked ? asked->answer : ESTOP_UNANSWERED;
	/* Somebody else continued it: it goes on waiting. */
	if (asked && answer == ESTOP_UNANSWERED && waits_for_answer(q->session) &&
	    stop_thread(task, q->session))
		return START_ANEW;
	if (answer == ESTOP_LET)
		r->answered = 1;
	if (asked && !(kept && r->answered))
		forget_question();
	if (answer == ESTOP_FORBID)
		return REFUSE_IT;
	return !r->answered && ask_first(r, task, q) ? START_ANEW : 0;
}

/* As above; what could not be asked is held when it has happened. */
static __always_inline int judge_first(struct estop_record *r, struct estop_question *q, __u32 acts,
				       __u32 how)
{
	int verdict = ask_or_answer(r, q, how, 0);

	if (!verdict && !r->answered && q)
		contain(r, q->session, acts);
	return verdict;
}

/* A file was made, behind path_mknod, which asked for its name. */
static __always_inline int judge_made(struct estop_record *r, struct estop_question *q, __u32 acts)
{
	struct pt_regs *regs = caller();
	struct estop_question *asked = 0;

	if (q && regs) {
		q->object.inode = 0; /* as it was then */
		asked = asked_before(q, regs);
	}
	if (asked && asked->answer == ESTOP_LET) {
		forget_question();
		r->answered = 1;
	} else if (q) {
		contain(r, q->session, acts);
	}
	return 0;
}

#endif
