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
#include "before.h"

#define CGROUP_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
#define BPFFS_MAGIC 0xcafe4a11
#define EXEC_OPEN_ 0x20 /* f_flags of an open for exec: not a read */
#define O_TRUNC_ 01000
#define MAY_WRITE_ 2
#define MAY_READ_ 4
#define PROT_WRITE_ 2
#define PROT_EXEC_ 4
#define MAP_SHARED_ 1
#define VM_SHARED_ 8
#define RENAME_EXCHANGE_ 2
#define PTRACE_ATTACH_ 2
#define CLONE_INTO_CGROUP_ 0x200000000ull
#define LOADING_MODULE_ 2 /* in both enums that tell what the kernel reads a file for */
#define EVERY_ACT (~0u)

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

static __always_inline __u64 magic_of(struct inode *inode)
{
	struct super_block *sb = KERNEL(inode, inode, i_sb);
	return KERNEL(super_block, sb, s_magic);
}

static __always_inline int is_cgroupfs(struct inode *inode)
{
	__u64 magic = magic_of(inode);
	return magic == CGROUP2_MAGIC || magic == CGROUP_MAGIC;
}

/* Operations --------------------------------------------------------------------------------- */

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

/* A child that is born into another cgroup: no cgroup.procs is written, and no tracepoint tells. */
int lsm__task_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state;

	if (!(ctx->args[1] & CLONE_INTO_CGROUP_))
		return 0;
	state = judged();
	return state ? refuse_operation(state, ESTOP_OP_CGROUP_BIRTH, 0, 0) : 0;
}

/* Other processes ---------------------------------------------------------------------------- */

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

int lsm__task_kill(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *target = (struct task_struct *)ctx->args[0];
	struct estop_task_state *state;
	struct estop_signal *e;
	int signal = ctx->args[2];

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

/* Opens -------------------------------------------------------------------------------------- */

static __always_inline int refuse_file(struct estop_record *r, struct estop_task_state *state,
				       struct file *file, __u32 access)
{
	struct estop_open *e = HEAD(r, estop_open);

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_file(r, &e->file, file);
	e->access = access;
	r->flags |= ESTOP_REFUSED;
	r->held_ns = bpf_ktime_get_boot_ns();
	send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_OPEN);
	return REFUSE_IT;
}

static __always_inline void remember_judged(struct file *file, struct inode *inode, __u32 session)
{
	struct estop_opened_key key = {.file = (__u64)file, .session = session};
	__u32 yes = 1;

	key.inode = KERNEL(inode, inode, i_ino);
	opened.update(&key, &yes);
}

static __always_inline int judge_descriptor(struct estop_task_state *state, struct file *file,
					    struct estop_glance *g, __u32 acts)
{
	struct estop_news news;
	struct estop_record *r;
	int verdict;

	/* What is only read may be what the way out needs. */
	int still = stands_still(state->session);
	if (still && acts & (ESTOP_WRITE | ESTOP_CREATED)) {
		forget_question();
		return REFUSE_IT;
	}
	int cgroupfs = acts & ESTOP_WRITE && is_cgroupfs(g->inode) && !observed(state->session);
	if (!cgroupfs && touched_before(state, g, acts, &news))
		return 0;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_OPEN);
	if (cgroupfs) {
		verdict = refuse_file(r, state, file, acts);
	} else {
		verdict = judge_open(r, state, file, acts, &news, 1);
		if (!verdict && r->hold & acts)
			remember_judged(file, g->inode, state->session);
	}
	give_back(r);
	return said(verdict);
}

/* do_dentry_open(), before the file system's own open and before O_TRUNC. O_PATH does not come
 * here. */
int lsm__file_open(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	struct file *file = (struct file *)ctx->args[0];
	struct estop_glance glance;

	if (!state)
		return 0;
	look_at(&glance, file);
	if (glance.flags & EXEC_OPEN_ || glance.type == S_IFDIR_)
		return 0;
	return judge_descriptor(state, file, &glance,
				access_by(glance.mode) |
					(glance.flags & O_TRUNC_ ? ESTOP_ACT_TRUNCATE : 0));
}

/* A descriptor from another process: SCM_RIGHTS, pidfd_getfd. */
int lsm__file_receive(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = judged();
	struct file *file = (struct file *)ctx->args[0];
	struct estop_glance glance;

	if (!state)
		return 0;
	look_at(&glance, file);
	if (glance.type != S_IFREG_)
		return 0;
	return judge_descriptor(state, file, &glance, access_by(glance.mode) & ~ESTOP_CREATED);
}

/* The use of a descriptor of a watched file. It is remembered once it is let through or was held
 * afterwards: until then another process that has the descriptor is asked as well. */
static __always_inline int judge_known_use(struct estop_record *r, struct estop_task_state *state,
					   struct file *file, __u32 acts, struct estop_watch *w)
{
	struct dentry *d = KERNEL(file, file, f_path.dentry);
	struct vfsmount *mnt = KERNEL(file, file, f_path.mnt);
	struct estop_open *e = HEAD(r, estop_open);
	int verdict;

	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	put_file(r, &e->file, file);
	e->access = acts & (ESTOP_READ | ESTOP_WRITE);
	r->hold = w->hold;
	r->certain = w->certain;
	if (refuse(r, state->session, acts))
		verdict = REFUSE_IT;
	else
		verdict = judge_first(r, question_of(r, state, d, mnt, 0, acts), acts, RESTARTS_USE);
	if (!verdict)
		remember_judged(file, KERNEL(file, file, f_inode), state->session);
	if (!verdict || r->flags)
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_OPEN);
	return verdict;
}

/* What is done with a descriptor, judged by inode only: it was judged whole when the session opened
 * or received it. Left are those that it inherited, and rules that came after. */
static __always_inline int judge_use(struct file *file, __u32 acts)
{
	struct estop_task_state *state = judged();
	struct estop_inode_key key = {};
	struct estop_record *r;
	int verdict;

	if (!state || observed(state->session))
		return 0;
	if (KERNEL(file, file, f_flags) & EXEC_OPEN_) /* how the kernel reads a program: see below */
		return 0;
	struct inode *inode = KERNEL(file, file, f_inode);
	struct super_block *sb = KERNEL(inode, inode, i_sb);
	key.inode = KERNEL(inode, inode, i_ino);
	key.dev = KERNEL(super_block, sb, s_dev);
	struct estop_watch *w = watched_inodes.lookup(&key);
	int cgroupfs = acts & ESTOP_WRITE && is_cgroupfs(inode);
	if (!cgroupfs && (!w || !((w->hold | w->certain) & acts) || forgives(w, state->image_inode)))
		return 0;
	if (!cgroupfs && !(w->certain & acts)) {
		struct estop_opened_key known = {.file = (__u64)file, .session = state->session};
		known.inode = key.inode;
		if (opened.lookup(&known))
			return 0;
	}
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_OPEN);
	if (cgroupfs)
		verdict = refuse_file(r, state, file, acts);
	else
		verdict = judge_known_use(r, state, file, acts, w);
	give_back(r);
	return said(verdict);
}

int lsm__file_permission(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 mask = ctx->args[1];
	return judge_use((struct file *)ctx->args[0], (mask & MAY_WRITE_ ? ESTOP_ACT_WRITE : 0) |
							      (mask & MAY_READ_ ? ESTOP_ACT_READ : 0));
}

/* No write(2) comes of a shared mapping. */
int lsm__mmap_file(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 prot = ctx->args[2], flags = ctx->args[3];
	__u32 acts = ESTOP_ACT_READ;

	if (!ctx->args[0])
		return 0;
	if (prot & PROT_WRITE_ && flags & MAP_SHARED_)
		acts |= ESTOP_ACT_WRITE;
	if (prot & PROT_EXEC_)
		acts |= ESTOP_ACT_EXEC;
	return judge_use((struct file *)ctx->args[0], acts);
}

int lsm__file_mprotect(struct bpf_raw_tracepoint_args *ctx)
{
	struct vm_area_struct *area = (struct vm_area_struct *)ctx->args[0];
	struct file *file = KERNEL(vm_area_struct, area, vm_file);
	__u32 prot = ctx->args[2];

	if (!file || !(prot & PROT_WRITE_) || !(KERNEL(vm_area_struct, area, vm_flags) & VM_SHARED_))
		return 0;
	return judge_use(file, ESTOP_ACT_WRITE);
}

/* Names -------------------------------------------------------------------------------------- */

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

#define MOUNT_OF(path_) KERNEL(path, (struct path *)(path_), mnt)
#define DENTRY_OF(path_) KERNEL(path, (struct path *)(path_), dentry)

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

/* Programs ----------------------------------------------------------------------------------- */

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

/* Mounts ------------------------------------------------------------------------------------- */

/* The walk gives names from the leaf up; the event wants a path as a caller would write it. */
static __always_inline __u32 put_forward(struct estop_record *r)
{
	__u32 from = r->used;

	for (int i = 1; i <= MAX_DEPTH; i++) {
		__u32 at = r->used & TAIL_MASK;
		if (i > r->depth)
			break;
		__u64 start = r->starts[(r->depth - i) & 63];
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

/* Sockets ------------------------------------------------------------------------------------ */

int lsm__socket_create(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = ctx->args[3] ? 0 : judged(); /* the kernel's own */
	struct estop_settings *s = settings_row();
	__u32 family = ctx->args[0];

	if (!state || !s)
		return 0;
	if (stands_still(state->session))
		return REFUSE_IT;
	if (family > 63 || !(s->refused_families >> family & 1))
		return 0;
	return refuse_operation(state, ESTOP_OP_SOCKET, family, ctx->args[1]);
}

/* Addresses are the cgroup programs' (network.bpf.c), and they see io_uring and MSG_FASTOPEN too. */
static __always_inline int refuse_the_stopped(void)
{
	struct estop_task_state *state = judged();
	return state && stands_still(state->session) ? REFUSE_IT : 0;
}

/* Also at socket_sendmsg. */
int lsm__socket_connect(struct bpf_raw_tracepoint_args *ctx) { return refuse_the_stopped(); }

/* The listener's own name, not the caller's spelling of it. */
static __always_inline int judge_peer(struct sock *peer)
{
	struct estop_task_state *state = judged();
	struct unix_sock *other = (struct unix_sock *)peer;
	struct estop_wire_path path = {};
	struct estop_record *r;
	int refused;

	if (!state || observed(state->session))
		return 0;
	struct dentry *d = KERNEL(unix_sock, other, path.dentry);
	if (!d) /* abstract, or nameless */
		return 0;
	struct estop_touch_key key = {.inode = (__u64)peer, .session = state->session};
	struct estop_settings *s = settings_row();
	struct estop_touch now = {.sent_ns = s ? coarse_ns(s) : 0};
	key.access = ESTOP_ACT_CONNECT;
	struct estop_touch *seen = touched.lookup(&key);
	if (seen && now.sent_ns - seen->sent_ns < 1000000000ull) /* a flood of datagrams */
		return 0;
	r = take_record();
	if (!r)
		return unjudged(state->session, ESTOP_LOST_UNIX);
	weigh_spot(r, &path, d, KERNEL(unix_sock, other, path.mnt), state->image_inode,
		   ESTOP_ACT_CONNECT);
	struct estop_unix *e = HEAD(r, estop_unix);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_UNIX, state->session);
	refused = refuse(r, state->session, ESTOP_ACT_CONNECT);
	if (refused) {
		struct pid *owner = KERNEL(sock, peer, sk_peer_pid);
		if (owner)
			e->peer_tgid = KERNEL(pid, owner, numbers[0].nr);
		struct unix_address *address = KERNEL(unix_sock, other, addr);
		char *name = (char *)address + offsetof(struct unix_address, name) + 2;
		long n = bpf_probe_read_kernel_str(r->tail, NAME_BYTES, name);
		e->name_len = n > 0 ? n - 1 : 0;
		r->used = e->name_len;
		send(r, sizeof(*e), RING_ALARMS, ESTOP_LOST_UNIX);
	} else {
		touched.update(&key, &now);
	}
	give_back(r);
	return refused ? REFUSE_IT : 0;
}

int lsm__unix_stream_connect(struct bpf_raw_tracepoint_args *ctx)
{
	return judge_peer((struct sock *)ctx->args[1]);
}

int lsm__unix_may_send(struct bpf_raw_tracepoint_args *ctx)
{
	struct socket *other = (struct socket *)ctx->args[1];
	return judge_peer(KERNEL(socket, other, sk));
}
