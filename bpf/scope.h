/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Is this task ours? Its thread group is in `tasks`, and two things put it there:
 *   - fork, for a child of one that is in there. Leaving the cgroup, setsid, double fork, renaming
 *     itself: none of them changes that;
 *   - a session's cgroup, for who comes to be in or below it and has no parent of ours: moved there, or
 *     born there with CLONE_INTO_CGROUP. Looked at then, and once more when it starts a program or
 *     contacts somebody: to look at every act cost all strangers of the machine 2 % of an open.
 * Never the leaf cgroup's id alone, never comm, sid, pgid or ppid. The default answer is no.
 */
#ifndef ESTOP_SCOPE_H
#define ESTOP_SCOPE_H

#include "maps.h"

/* One field of a kernel object of a named type. Neither `pointer->field` nor `&pointer->field`
 * may be written: bcc rewrites the one into a read of its own, and for the other clang 14 gave
 * &mm->arg_start 16 bytes too high (mm_struct of 6.18) where offsetof agrees with BTF. The comma in
 * typeof drops `const`, or the compiler may fold the variable to its initial 0. */
#define KERNEL(type, pointer, field)                                                            \
	({                                                                                      \
		typeof(((void)0, ((struct type *)0)->field)) value_ = 0;                        \
		bpf_probe_read_kernel(&value_, sizeof(value_),                                  \
				      (char *)(pointer) +                                       \
					      __builtin_offsetof(struct type, field));          \
		value_;                                                                         \
	})

/* The same where the verifier knows the pointer's type, which it does of bpf_get_current_task_btf() and
 * of what this reads from it: one instruction, where the call of a helper takes some 25 ns. In
 * assembly, because bcc would make a helper's call of it. */
#define TYPED(type, pointer, field)                                                             \
	({                                                                                      \
		__u64 value_;                                                                   \
		const __u64 size_ = sizeof(((struct type *)0)->field);                          \
		_Static_assert(sizeof(((struct type *)0)->field) == 8 ||                        \
				       sizeof(((struct type *)0)->field) == 4,                  \
			       "a field of one register");                                      \
		if (size_ == 8)                                                                 \
			asm volatile("%0 = *(u64 *)(%1 + %2)"                                   \
				     : "=r"(value_)                                             \
				     : "r"(pointer), "i"(__builtin_offsetof(struct type, field))); \
		else                                                                            \
			asm volatile("%0 = *(u32 *)(%1 + %2)"                                   \
				     : "=r"(value_)                                             \
				     : "r"(pointer), "i"(__builtin_offsetof(struct type, field))); \
		(typeof(((void)0, ((struct type *)0)->field)))value_;                           \
	})

/* Several fields of one object by one read: of its beginning, as far as the last of them. Which that
 * is differs between kernels. */
#define UNTIL(type, field) \
	(__builtin_offsetof(struct type, field) + sizeof(((struct type *)0)->field))
#define FURTHER(a, b) ((a) > (b) ? (a) : (b))
#define READ_FIELD(type, bytes, field)                       \
	(*(typeof(((void)0, ((struct type *)0)->field)) *)((bytes) + \
							   __builtin_offsetof(struct type, field)))

/* Bound a 64-bit variable in its register: the compiler knows the range already and would drop an
 * ordinary `&`, the verifier does not. */
#define BOUND(variable, mask) asm volatile("%0 &= %1" : "+r"(variable) : "i"(mask))

static __always_inline struct estop_settings *settings_row(void)
{
	int zero = 0;
	return settings.lookup(&zero);
}

/* Time as the timer's tick left it, some milliseconds ago: to ask the clock itself took 90 ns of every
 * repeated open. */
static __always_inline __u64 coarse_ns(struct estop_settings *s)
{
	return bpf_jiffies64() * s->tick_ns;
}

static __always_inline void count_lost(int hook)
{
	__u64 *n = lost.lookup(&hook);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline void count_unsent(__u32 session)
{
	__u64 *n = unsent.lookup(&session);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline __u64 id_of(struct cgroup *cgroup)
{
	struct kernfs_node *node = KERNEL(cgroup, cgroup, kn);
	return KERNEL(kernfs_node, node, id);
}

/* `level` counts from the root. Not KERNEL(cgroup, cgroup, ancestors[level]): of that clang 14 makes an
 * offset that is 16 bytes too high from the second level on. */
static __always_inline struct cgroup *ancestor_of(struct cgroup *cgroup, __u64 level)
{
	__u64 at = (__u64)cgroup + __builtin_offsetof(struct cgroup, ancestors);
	struct cgroup *ancestor = 0;

	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), (void *)(at + level * sizeof(ancestor)));
	return ancestor;
}

/* The session whose cgroup this is, or lies above it; 0 for none. Only levels that hold a session are
 * asked, so a machine without any costs one test. */
static __always_inline __u32 session_above(struct cgroup *cgroup, __u32 levels)
{
	__u64 depth = levels ? KERNEL(cgroup, cgroup, level) : 0;
	/* The compiler must not make a counter of the depth: the verifier of 6.1 knows no bound of it. */
#pragma unroll
	for (__u64 level = 1; level <= MAX_LEVEL; level++) {
		asm volatile("" : "+r"(depth));
		if (level > depth)
			break;
		if (!(levels & (1u << level)))
			continue;
		__u64 id = id_of(ancestor_of(cgroup, level));
		__u32 *session = cgroups.lookup(&id);
		if (session)
			return *session;
	}
	return 0;
}

static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	struct css_set *set = KERNEL(task_struct, task, cgroups);
	return KERNEL(css_set, set, dfl_cgrp);
}

static __always_inline struct estop_task_state *adopt(__u32 tgid, __u32 session, __u64 image_inode)
{
	struct estop_task_state state = {.session = session, .image_inode = image_inode};
	if (!session) /* 0 would put every task in scope */
		return 0;
	if (tasks.update(&tgid, &state))
		count_lost(ESTOP_LOST_TASKS);
	return tasks.lookup(&tgid);
}

static __always_inline struct estop_task_state *ours(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	return tasks.lookup(&tgid);
}

/* A stranger so far: is it in a session's cgroup? The monitor never is. */
static __always_inline struct estop_task_state *adopt_by_cgroup(__u32 tgid, struct cgroup *cgroup)
{
	struct estop_settings *s = settings_row();
	if (!s || !s->session_levels || tgid == s->monitor_tgid)
		return 0;
	return adopt(tgid, session_above(cgroup, s->session_levels), 0);
}

static __always_inline struct estop_task_state *ours_or_in_our_cgroup(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct estop_task_state *state = ours();
	return state ? state : adopt_by_cgroup(bpf_get_current_pid_tgid() >> 32, cgroup_of(task));
}

static __always_inline int observed(__u32 session)
{
	__u32 *flags = session_flags.lookup(&session);
	return flags && (*flags & ESTOP_OBSERVED);
}

static __always_inline int granted(__u32 session)
{
	__u32 *flags = session_flags.lookup(&session);
	return flags && (*flags & ESTOP_GRANTED);
}

static __always_inline int tainted(__u32 session)
{
	__u32 *flags = session_flags.lookup(&session);
	return flags && (*flags & ESTOP_TAINTED);
}

/* The dead-man switch. A monitor that never was alive is not dead: the row is 0 until its first
 * beat. Zero in `deadman_ns` is fail_mode `open`. */
static __always_inline int monitor_is_dead(void)
{
	int zero = 0;
	__u64 *last = beat.lookup(&zero);
	struct estop_settings *s = settings_row();
	if (!last || !*last || !s || !s->deadman_ns)
		return 0;
	__s64 silent_ns = bpf_ktime_get_boot_ns() - *last;
	return silent_ns > (__s64)s->deadman_ns;
}

static __always_inline int is_stopped(__u32 session)
{
	__u32 *flags = session_flags.lookup(&session);
	return flags && (*flags & ESTOP_QUARANTINED);
}

static __always_inline int waits_for_answer(__u32 session)
{
	__u64 *asked = candidates.lookup(&session);
	__u64 *answered = answers.lookup(&session);
	return asked && answered && *asked != *answered;
}

/* No byte leaves: stopped by a person or a rule, held for a verdict, or nobody there to judge. */
static __always_inline int quarantined(__u32 session)
{
	if (is_stopped(session) || waits_for_answer(session))
		return 1;
	return monitor_is_dead() && !observed(session);
}

/* It waits for a verdict, and for nothing else. */
static __always_inline int only_held(__u32 session)
{
	return waits_for_answer(session) && !is_stopped(session) && !monitor_is_dead();
}

#endif
