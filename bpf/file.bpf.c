/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Files: what was opened, and which names came and went. */
#include "before.h"

#define S_IFMT_ 00170000
#define S_IFDIR_ 0040000
#define S_IFREG_ 0100000
#define S_IFSOCK_ 0140000
#define CHMOD_RISKY 06111 /* executable for anybody, setuid, setgid */

/* What of an open file says whether it is news. */
struct estop_glance {
	struct path path;
	struct inode *inode;
	__u64 number; /* of the inode */
	__u32 mode;   /* FMODE_* */
	__u32 flags;  /* O_*, and the kernel's own */
	__u32 type;   /* S_IF* */
};

#define FILE_BYTES                                            \
	FURTHER(FURTHER(UNTIL(file, f_path), UNTIL(file, f_inode)), \
		FURTHER(UNTIL(file, f_mode), UNTIL(file, f_flags)))
#define INODE_BYTES FURTHER(UNTIL(inode, i_ino), UNTIL(inode, i_mode))

static __always_inline void look_at(struct estop_glance *g, struct file *file)
{
	__u8 head[FILE_BYTES] __attribute__((aligned(8)));
	__u8 object[INODE_BYTES] __attribute__((aligned(8)));

	bpf_probe_read_kernel(head, sizeof(head), file);
	g->path = READ_FIELD(file, head, f_path);
	g->inode = READ_FIELD(file, head, f_inode);
	g->mode = READ_FIELD(file, head, f_mode);
	g->flags = READ_FIELD(file, head, f_flags);
	bpf_probe_read_kernel(object, sizeof(object), g->inode);
	g->number = READ_FIELD(inode, object, i_ino);
	g->type = READ_FIELD(inode, object, i_mode) & S_IFMT_;
}

/* An open that is told: when, how it will be known again, and how often it was before. */
struct estop_news {
	__u64 ktime_ns;
	__u64 coarse_ns;
	__u64 repeats;
	struct estop_touch_key touch;
};

/* Where a secret may go on from here: of a session that has touched one, a file that it wrote since, or
 * that gave it away (user space writes that row). Who reads such a file is told each time: the next
 * reader may be another process, and which it is decides what a contact of it means. */
static __always_inline int is_marked(struct estop_task_state *state, __u64 inode, __u32 access)
{
	struct estop_touch_key key = {.inode = inode, .session = state->session, .access = ESTOP_WRITE};
	struct estop_touch row = {};

	if (!tainted(state->session))
		return 0;
	if (!(access & ESTOP_WRITE))
		return touched.lookup(&key) != 0;
	touched.update(&key, &row);
	return 0;
}

/* First touch is sent, repeats are counted. The key holds the program, because a rule may forgive
 * one program what it does not forgive another, and the name and mount, because a rule may know
 * the file by one of its paths. After `again_ns` a repeat is sent with the count. */
static __always_inline int touched_before(struct estop_task_state *state, struct estop_glance *g,
					  __u32 access, struct estop_news *news)
{
	struct estop_settings *s = settings_row();

	news->coarse_ns = s ? coarse_ns(s) : 0;
	news->repeats = 0;
	news->touch.inode = g->number;
	news->touch.image_inode = state->image_inode;
	news->touch.mount = (__u64)g->path.mnt;
	news->touch.name_hash = KERNEL(dentry, g->path.dentry, d_name.hash_len);
	news->touch.session = state->session;
	news->touch.access = access;

	int marked = is_marked(state, g->number, access);
	struct estop_touch *seen = touched.lookup(&news->touch);
	if (seen && s && !marked) {
		__u64 again_ns = access & ESTOP_WRITE ? s->write_again_ns : s->read_again_ns;
		if (news->coarse_ns - seen->sent_ns < again_ns) {
			__sync_fetch_and_add(&seen->repeats, 1);
			return 1;
		}
		news->repeats = seen->repeats;
	}
	news->ktime_ns = bpf_ktime_get_boot_ns();
	return 0;
}

/* A session that opens more files than it may is not heard of for the rest of the second, and none
 * while the ring is crowded: programs, names and connections are told even where somebody opens files
 * faster than they are looked at. What a rule may want is told in any case. */
static __always_inline int over_budget(struct estop_record *r, __u32 session)
{
	struct estop_settings *s = settings_row();
	struct estop_budget *budget = budgets.lookup(&session);
	int zero = 0;
	__u64 *no_room = crowded.lookup(&zero);
	__u64 second = bpf_ktime_get_boot_ns() >> 30; /* 1.07 s, without a division */

	if (!s || !budget || !no_room || r->flags & ESTOP_CANDIDATE)
		return 0;
	if (budget->second != second) { /* racing CPUs may both start it: the bound is soft */
		budget->second = second;
		budget->opens = 0;
	}
	__sync_fetch_and_add(&budget->opens, 1);
	if (!*no_room && (!s->opens_per_s || budget->opens <= s->opens_per_s))
		return 0;
	__sync_fetch_and_add(&budget->over, 1);
	count_lost(ESTOP_LOST_BUDGET);
	return 1;
}

static __always_inline __u32 access_by(__u32 mode)
{
	return (mode & FMODE_READ_ ? ESTOP_READ : 0) | (mode & FMODE_WRITE_ ? ESTOP_WRITE : 0) |
	       (mode & FMODE_CREATED_ ? ESTOP_CREATED : 0);
}

static __always_inline __u32 access_of(struct file *file)
{
	return access_by(KERNEL(file, file, f_mode));
}

/* What an LSM program says to an open. A file that was just made is there already, and O_EXCL would
 * not make it again: whether its name may appear is asked at path_mknod. */
static __always_inline int judge_open_first(struct estop_record *r, struct estop_task_state *state,
					    struct file *file, __u32 acts)
{
	struct dentry *d = KERNEL(file, file, f_path.dentry);
	struct vfsmount *mnt = KERNEL(file, file, f_path.mnt);

	/* Who cuts it short is refused by a hook behind this one, which tells it as that. */
	if (r->certain & ESTOP_ACT_TRUNCATE && !granted(state->session))
		acts &= ~ESTOP_ACT_TRUNCATE;
	if (refuse(r, state->session, acts))
		return REFUSE_IT;
	if (!(r->hold & acts) || observed(state->session))
		return 0;
	if (acts & ESTOP_CREATED)
		return judge_made(r, question_of(r, state, d, mnt, ESTOP_OPEN, ESTOP_CREATED), acts);
	return judge_first(r, question_of(r, state, d, mnt, ESTOP_OPEN, acts), acts, RESTARTS_OPEN);
}

/* A file that a session comes to have, and how: an event, and judged. Answers what an LSM program,
 * which is asked before, has to return; `refusable` says that it is one. */
static __always_inline int judge_open(struct estop_record *r, struct estop_task_state *state,
				      struct file *file, __u32 acts, struct estop_news *news,
				      int refusable)
{
	struct inode *inode = KERNEL(file, file, f_inode);
	int verdict = 0;

	if (!refusable) /* on_sys_exit left it to us */
		stop_the_unjudged(state->session);
	/* First of all by inode, and held at once: what its path adds comes after the walk. */
	weigh_by_inode(r, inode, state->image_inode);
	if (!refusable)
		contain(r, state->session, acts);
	struct estop_open *e = HEAD(r, estop_open);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_OPEN, state->session);
	e->header.ktime_ns = news->ktime_ns;
	put_file(r, &e->file, file);
	weigh_by_name(r, &e->file, KERNEL(file, file, f_path.dentry), 0, state->image_inode);
	if (refusable)
		verdict = judge_open_first(r, state, file, acts);
	else
		contain(r, state->session, acts);
	if (verdict && !r->flags) /* it was told when it was asked */
		return verdict;
	/* Of candidates each is judged: two processes may differ. */
	if (!(r->flags & ESTOP_CANDIDATE) && !r->answered) {
		struct estop_touch first = {.sent_ns = news->coarse_ns};
		touched.update(&news->touch, &first);
	}
	e->access = access_of(file);
	e->repeats = news->repeats;
	if (!over_budget(r, state->session))
		send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_OPEN);
	return verdict;
}

/* open, openat, openat2, creat, open_by_handle_at, pidfd_getfd: the result is a descriptor. */
int on_open(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = ours();
	struct file *file = file_by_fd((__u32)ctx->args[1]);
	struct estop_record *r;
	struct estop_glance glance;
	struct estop_news news;

	if (!state || !file)
		return 0;
	look_at(&glance, file);
	/* O_PATH gives a name, not the content */
	if (glance.mode & FMODE_PATH_ || glance.type == S_IFDIR_)
		return 0;
	/* Repeats are what sessions do most: they end here. */
	__u32 acts = access_by(glance.mode);
	if (touched_before(state, &glance, acts, &news))
		return 0;
	r = record_buffer();
	if (r)
		judge_open(r, state, file, acts, &news, 0);
	return 0;
}

/* The directory a relative name starts at: a descriptor's, or the working directory. */
static __always_inline struct dentry *put_base(struct estop_record *r, struct estop_wire_path *out,
					       struct pt_regs *regs, __u32 dir)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	struct dentry *d = KERNEL(fs_struct, fs, pwd.dentry);
	struct vfsmount *mnt = KERNEL(fs_struct, fs, pwd.mnt);
	int fd = dir == NO_ARG ? -1 : (int)argument(regs, dir);

	if (fd >= 0) {
		struct file *file = file_by_fd(fd);
		if (!file)
			return 0;
		d = KERNEL(file, file, f_path.dentry);
		mnt = KERNEL(file, file, f_path.mnt);
	}
	put_path(r, out, d, mnt);
	return d;
}

static __always_inline void put_wire_name(struct estop_record *r, struct estop_wire_name *out,
					  struct pt_regs *regs, __u32 dir, __u32 text)
{
	const char *user = (const char *)argument(regs, text);
	struct dentry *d = 0;
	char first = 0;

	bpf_probe_read_user(&first, 1, user);
	if (first != '/')
		d = put_base(r, &out->base, regs, dir);
	__u32 at = r->used;
	out->text_len = put_user_text(r, user);
	weigh_text(r, at, out->text_len, d, SCAN_NAME);
}

/* The acts that a call is, on the name it starts from and on the one it ends with. */
static __always_inline __u32 acts_of(__u32 event)
{
	switch (event) {
	case ESTOP_RENAME: return ESTOP_ACT_RENAME_FROM | ESTOP_ACT_RENAME_TO;
	case ESTOP_LINK: return ESTOP_ACT_LINK_FROM | ESTOP_ACT_LINK_TO;
	case ESTOP_SYMLINK: return ESTOP_ACT_SYMLINK;
	case ESTOP_UNLINK: return ESTOP_ACT_DELETE;
	case ESTOP_TRUNCATE: return ESTOP_ACT_TRUNCATE;
	case ESTOP_CHMOD: return ESTOP_ACT_CHMOD;
	}
	return 0;
}

/* rename, link, symlink, unlink, truncate, chmod and their *at forms. Without LSM hooks nothing in
 * the kernel hands the objects to a program, so the text is advisory: user space resolves it and
 * looks whether a watched path now is another inode. */
static __always_inline void tell_name(struct bpf_raw_tracepoint_args *ctx,
				      struct estop_task_state *state, struct estop_record *r)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape = shape_of(regs);

	if (!shape)
		return;
	__u64 aux = shape->aux == NO_ARG ? 0 : argument(regs, shape->aux);
	if (shape->event == ESTOP_CHMOD && !(aux & CHMOD_RISKY))
		return;
	struct estop_name *e = HEAD(r, estop_name);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, shape->event, state->session);
	e->aux = aux;
	if (shape->event == ESTOP_SYMLINK)
		e->from.text_len = put_user_text(r, (const char *)argument(regs, shape->from_text));
	else if (shape->from_text != NO_ARG)
		put_wire_name(r, &e->from, regs, shape->from_dir, shape->from_text);
	put_wire_name(r, &e->to, regs, shape->to_dir, shape->to_text);
	take_note(r);
	contain(r, state->session, acts_of(shape->event));
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_NAME);
}

int on_name(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = returning(ctx, 0);
	struct estop_record *r = state ? sensor_record(ESTOP_LOST_NAME) : 0;

	if (r) {
		tell_name(ctx, state, r);
		sensor_done(r);
	}
	return 0;
}

/* fchmod, ftruncate: the descriptor's file is the object, so its own path is the whole name. */
static __always_inline void tell_file(struct bpf_raw_tracepoint_args *ctx,
				      struct estop_task_state *state, struct estop_record *r)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct estop_syscall_shape *shape = shape_of(regs);

	if (!shape)
		return;
	__u64 aux = argument(regs, shape->aux);
	if (shape->event == ESTOP_CHMOD && !(aux & CHMOD_RISKY))
		return;
	struct file *file = file_by_fd(argument(regs, shape->to_dir));
	if (!file)
		return;
	struct inode *inode = KERNEL(file, file, f_inode);
	if ((KERNEL(inode, inode, i_mode) & S_IFMT_) != S_IFREG_)
		return;
	struct estop_name *e = HEAD(r, estop_name);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, shape->event, state->session);
	e->aux = aux;
	struct estop_wire_file object = {};
	put_file(r, &object, file);
	e->to.base = object.path;
	weigh_file(r, &object, KERNEL(file, file, f_path.dentry), 0, state->image_inode);
	take_note(r);
	contain(r, state->session, acts_of(shape->event));
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_NAME);
}

int on_file(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = returning(ctx, 0);
	struct estop_record *r = state ? sensor_record(ESTOP_LOST_NAME) : 0;

	if (r) {
		tell_file(ctx, state, r);
		sensor_done(r);
	}
	return 0;
}
