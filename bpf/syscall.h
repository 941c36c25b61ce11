/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * One program on the way out of every system call, and a table that says which of them matter.
 *
 * The way out, not the way in: only what succeeded is an event (or was refused, where that tells
 * enough), the file behind a new descriptor
 * can be read from the kernel, and one raw tracepoint costs half of two. x86-64 keeps the
 * arguments in pt_regs until then. The table is filled by monitor/capture/syscalls.py; numbers of
 * the 32-bit entry (int 0x80) are another set and lie behind COMPAT_BASE.
 */
#ifndef ESTOP_SYSCALL_H
#define ESTOP_SYSCALL_H

#include "verdict.h"

#define SYSCALL_MASK 511
#define COMPAT_BASE 512
#define TS_COMPAT_ 0x2
#define NO_ARG 7
#define EPERM_ 1

enum estop_handler {
	ESTOP_ON_NOTHING,
	ESTOP_ON_OPEN, /* the result is a descriptor of a file */
	ESTOP_ON_NAME, /* the arguments are directories and names */
	ESTOP_ON_FILE, /* an argument is a descriptor of a file that is changed */
	ESTOP_ON_UNIX,
	ESTOP_ON_PRIVILEGED,
	ESTOP_ON_MAX,
};

/* user: how to read a system call. Arguments count from 0; NO_ARG where it has none. */
struct estop_syscall_shape {
	__u8 handler;
	__u8 event; /* enum estop_kind, or enum estop_operation */
	__u8 from_dir;
	__u8 from_text;
	__u8 to_dir;
	__u8 to_text;
	__u8 aux;
	__u8 restarts; /* RESTARTS_* of before.h */
};

BPF_ARRAY(syscalls, struct estop_syscall_shape, 2 * (SYSCALL_MASK + 1));
BPF_PROG_ARRAY(handlers, ESTOP_ON_MAX);

static __always_inline int is_compat(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	return TYPED(task_struct, task, thread_info.status) & TS_COMPAT_;
}

static __always_inline struct estop_syscall_shape *shape_of(struct pt_regs *regs)
{
	__u32 number = KERNEL(pt_regs, regs, orig_ax) & SYSCALL_MASK; /* drops the bit of x32 */
	if (is_compat())
		number += COMPAT_BASE;
	return syscalls.lookup(&number);
}

static __always_inline __u64 argument(struct pt_regs *regs, __u32 index)
{
	int compat = is_compat();
	switch (index) {
	case 0: return compat ? KERNEL(pt_regs, regs, bx) : KERNEL(pt_regs, regs, di);
	case 1: return compat ? KERNEL(pt_regs, regs, cx) : KERNEL(pt_regs, regs, si);
	case 2: return KERNEL(pt_regs, regs, dx);
	case 3: return compat ? KERNEL(pt_regs, regs, si) : KERNEL(pt_regs, regs, r10);
	case 4: return compat ? KERNEL(pt_regs, regs, di) : KERNEL(pt_regs, regs, r8);
	case 5: return compat ? KERNEL(pt_regs, regs, bp) : KERNEL(pt_regs, regs, r9);
	}
	return 0;
}

/*
 * The handlers are also loaded each for itself, at the return of the functions behind single system
 * calls (fexit): where LSM programs run. Only those calls then cost anything, but such a program may
 * be preempted, and is not called while another task of the CPU is inside it; the kernel counts that.
 */
static __always_inline struct estop_task_state *returning(struct bpf_raw_tracepoint_args *ctx,
							  int refused_too)
{
	struct estop_task_state *state;
#ifdef ESTOP_LSM
	struct estop_settings *s = settings_row();
	long result = ctx->args[1];

	if (!s || !s->session_levels || (result < 0 && !(refused_too && result == -EPERM_)))
		return 0;
	state = ours();
	if (state)
		stop_the_unjudged(state->session);
#else
	state = ours();
#endif
	return state;
}

static __always_inline struct estop_record *sensor_record(int hook)
{
#ifdef ESTOP_LSM
	struct estop_record *r = take_record();
#else
	struct estop_record *r = record_buffer();
#endif
	if (!r)
		count_lost(hook);
	return r;
}

static __always_inline void sensor_done(struct estop_record *r)
{
#ifdef ESTOP_LSM
	give_back(r);
#endif
}

int on_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape;
	struct estop_task_state *state;

	long result = ctx->args[1];
	if (result < 0 && result != -EPERM_)
		return 0;
	shape = shape_of(regs);
	if (!shape || !shape->handler)
		return 0;
	if (result < 0 && shape->handler != ESTOP_ON_PRIVILEGED) /* who was refused had tried */
		return 0;
	state = ours();
	if (!state)
		return 0;
	/* An open asks for itself once it is known to be news: repeats are what sessions do most, and
	 * to ask for the time is dear. */
	if (shape->handler != ESTOP_ON_OPEN)
		stop_the_unjudged(state->session);
	else if (is_stopped(state->session))
		stop_process(state->session, ESTOP_HELD_QUARANTINE);
	handlers.call(ctx, shape->handler);
	return 0;
}

#endif
