/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Birth, program, death and cgroup of the processes of a session. */
#include "verdict.h"

#define ARGV_BYTES 4095

/* A process of the session is in another cgroup now: by a write to cgroup.procs, or from birth. */
static __always_inline void tell_cgroup(struct estop_record *r, __u32 session, __u32 tgid,
					struct cgroup *to, const char *path)
{
	struct estop_settings *s = settings_row();
	struct estop_cgroup *e = HEAD(r, estop_cgroup);

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_CGROUP, session);
	e->cgroup_id = id_of(to);
	e->target_tgid = tgid;
	e->inside = s && session_above(to, s->session_levels) == session;
	e->path_len = put_kernel_text(r, path);
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_CGROUP);
}

/* kernel_clone(): copy_process() -> trace_sched_process_fork() -> wake_up_new_task(). The child is
 * in the map before its first instruction. */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	struct estop_task_state *state = ours();
	struct estop_record *r;

	__u32 child_tgid = KERNEL(task_struct, child, tgid);
	if (child_tgid == bpf_get_current_pid_tgid() >> 32) /* a thread */
		return 0;
	if (!state) { /* a stranger's, and perhaps born into a cgroup of ours */
		adopt_by_cgroup(child_tgid, cgroup_of(child));
		return 0;
	}
	__u32 session = state->session;
	adopt(child_tgid, session, state->image_inode);
	r = record_buffer();
	if (!r)
		return 0;
	struct estop_fork *e = HEAD(r, estop_fork);
	fill_header(&e->header, ESTOP_FORK, session);
	e->child_started_ns = KERNEL(task_struct, child, start_boottime);
	e->child_tgid = child_tgid;
	e->reserved = 0;
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_FORK);
	struct cgroup *born = cgroup_of(child);
	if (born != cgroup_of((struct task_struct *)ctx->args[0])) { /* CLONE_INTO_CGROUP */
		struct kernfs_node *node = KERNEL(cgroup, born, kn);
		r = record_buffer();
		if (r)
			tell_cgroup(r, session, child_tgid, born, KERNEL(kernfs_node, node, name));
	}
	return 0;
}

/* exec_binprm() -> trace_sched_process_exec(): past the point of no return, new image in place. */
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[2];
	struct estop_task_state *state = ours_or_in_our_cgroup();
	struct estop_record *r;

	if (!state)
		return 0;
	r = record_buffer();
	if (!r)
		return 0;
	struct estop_exec *e = HEAD(r, estop_exec);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_EXEC, state->session);
	struct file *image = KERNEL(linux_binprm, bprm, file);
	put_file(r, &e->image, image);
	weigh_file(r, &e->image, KERNEL(file, image, f_path.dentry), 0, 0);
	contain(r, state->session, ESTOP_ACT_EXEC);
	stop_the_unjudged(state->session);
	state->image_inode = e->image.inode ^ ((__u64)e->image.path.dev << 40);

	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	put_path(r, &e->cwd, KERNEL(fs_struct, fs, pwd.dentry), KERNEL(fs_struct, fs, pwd.mnt));

	/* load_script() gives the bprm another interp; for all others it is the filename itself. */
	const char *asked = KERNEL(linux_binprm, bprm, filename);
	if (KERNEL(linux_binprm, bprm, interp) != asked)
		e->script_len = put_kernel_text(r, asked);
	struct mm_struct *mm = KERNEL(task_struct, task, mm);
	__u64 start = KERNEL(mm_struct, mm, arg_start);
	__u32 total = KERNEL(mm_struct, mm, arg_end) - start;
	__u64 length = total < ARGV_BYTES ? total : ARGV_BYTES;
	__u32 at = r->used & TAIL_MASK;
	BOUND(length, ARGV_BYTES);
	if (!bpf_probe_read_user(r->tail + at, length, (void *)start)) {
		e->argv_len = length;
		r->used = at + length;
	}
	e->argv_total = total;
	if (e->argv_len < total)
		r->truncated = 1;
	e->started_ns = KERNEL(task_struct, task, start_boottime);
	struct task_struct *parent = KERNEL(task_struct, task, real_parent);
	e->parent_tgid = KERNEL(task_struct, parent, tgid);
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_EXEC);
	return 0;
}

/* do_exit(): `signal->live` has been counted down before the tracepoint, so 0 means that this was
 * the last thread. Only then does the process leave the map. */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 tgid = KERNEL(task_struct, task, tgid);
	struct estop_task_state *state = tasks.lookup(&tgid);
	struct estop_record *r;

	if (!state)
		return 0;
	__u32 tid = KERNEL(task_struct, task, pid);
	questions.delete(&tid); /* the number may soon be another's */
	struct signal_struct *signal = KERNEL(task_struct, task, signal);
	if (KERNEL(signal_struct, signal, live.counter) > 0)
		return 0;
	__u32 session = state->session;
	tasks.delete(&tgid);
	held.delete(&tgid);
	r = record_buffer();
	if (!r)
		return 0;
	struct estop_exit *e = HEAD(r, estop_exit);
	fill_header(&e->header, ESTOP_EXIT, session);
	e->code = KERNEL(task_struct, task, exit_code);
	e->reserved = 0;
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_EXIT);
	return 0;
}

/* cgroup_attach_task(): a write to cgroup.procs, after the move. CLONE_INTO_CGROUP does not come
 * here: see on_fork. */
int on_cgroup_attach(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *to = (struct cgroup *)ctx->args[0];
	const char *path = (const char *)ctx->args[1];
	struct task_struct *task = (struct task_struct *)ctx->args[2];
	__u32 tgid = KERNEL(task_struct, task, tgid);
	struct estop_task_state *state = tasks.lookup(&tgid);
	struct estop_settings *s = settings_row();
	struct cgroup *own = cgroup_of(task);
	struct estop_record *r = record_buffer();

	if (tgid == 1 || (s && tgid == s->monitor_tgid)) {
		int zero = 0;
		__u64 *count = displaced.lookup(&zero);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	/* A version 1 hierarchy beside ours (hybrid hosts) is nobody's way out, and no way in. */
	if (!s || KERNEL(cgroup, to, root) != KERNEL(cgroup, own, root))
		return 0;
	if (!state)
		adopt_by_cgroup(tgid, to);
	if (state && r)
		tell_cgroup(r, state->session, tgid, to, path);
	return 0;
}

/* cgroup_update_frozen(): from now on everything in the cgroup stands still, or no longer does. The
 * moment of a stop is the kernel's to say: who asks cgroup.events for it is told when he comes to ask. */
int on_frozen(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = id_of((struct cgroup *)ctx->args[0]);
	__u32 *session = cgroups.lookup(&id);
	__u64 *since = session ? still_since.lookup(session) : 0;

	if (since)
		*since = ctx->args[2] ? bpf_ktime_get_boot_ns() : 0;
	return 0;
}
