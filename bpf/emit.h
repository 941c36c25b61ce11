/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Build a record, send it, count it where it does not fit. */
#ifndef ESTOP_EMIT_H
#define ESTOP_EMIT_H

#include "scope.h"

/*
 * Records of variable length are built in a per-CPU buffer and copied out: a ring reservation must
 * have a constant size, and reserving the largest would fill the ring forty times as fast.
 * Raw tracepoints run with preemption off and never one inside another on a CPU: row 0 is theirs.
 * LSM and tracing programs may be preempted, and the next task on the CPU may run one too: each
 * takes a row that is free. Programs that a softirq may run (network, signals) reserve small fixed
 * records.
 */
#define RECORD_ROWS 5
#define HEAD_BYTES 256
#define TAIL_MASK 16383 /* holds two bases and two texts of the longest kind: see path.h */
#define STARTS_MASK 127 /* MAX_DEPTH components on the way to the root, as many above a bind mount */
#define TAIL_SLACK 4096 /* the longest single read, so that the last write stays inside */

struct estop_record {
	__u32 row;
	__u32 owners; /* of this row; all rows but the first */
	/* Counters live here and not on the stack: the verifier knows nothing of what it loads from a
	 * map, so all ways through a path walk look the same to it afterwards and are checked once. */
	__u32 used; /* bytes of the tail */
	__u32 truncated;
	__u32 hold;    /* acts for which a rule that stops may match this object */
	__u32 certain; /* acts for which one does */
	__u32 flags;   /* of the record: what the kernel did at once */
	__u32 answered; /* it was asked for, and is let through */
	__u32 reserved;
	__u32 depth;   /* components of the path that was walked last */
	__u64 held_ns;
	__u16 starts[STARTS_MASK + 1]; /* where each lies in the tail */
	__u8 head[HEAD_BYTES]; /* the struct lies at its end, so that struct and tail are one piece */
	__u8 tail[TAIL_MASK + 1 + TAIL_SLACK];
};
BPF_PERCPU_ARRAY(records, struct estop_record, RECORD_ROWS);

#define HEAD(record, type) ((struct type *)((record)->head + HEAD_BYTES - sizeof(struct type)))

static __always_inline struct estop_record *cleared(struct estop_record *r, __u32 row)
{
	r->row = row;
	r->used = 0;
	r->truncated = 0;
	r->hold = 0;
	r->certain = 0;
	r->flags = 0;
	r->answered = 0;
	r->held_ns = 0;
	return r;
}

static __always_inline struct estop_record *record_buffer(void)
{
	int zero = 0;
	struct estop_record *r = records.lookup(&zero);
	return r ? cleared(r, 0) : 0;
}

/* Where preemption is possible; give_back() must follow. Count in first, and look afterwards: two
 * tasks may both find that they are not alone and go on to the next row, but never both that they
 * are. No task changes its CPU inside a program. */
static __always_inline struct estop_record *take_record(void)
{
	for (int row = 1; row < RECORD_ROWS; row++) {
		int key = row;
		struct estop_record *r = records.lookup(&key);
		if (!r)
			return 0;
		__sync_fetch_and_add(&r->owners, 1);
		if (*(volatile __u32 *)&r->owners == 1) {
			/* Found anew by a number the verifier knows nothing of: or it would follow the
			 * whole program once for each row, which on 6.1 is more than it does. */
			cleared(r, row);
			key = *(volatile __u32 *)&r->row;
			return records.lookup(&key);
		}
		__sync_fetch_and_add(&r->owners, -1);
	}
	return 0;
}

static __always_inline void give_back(struct estop_record *r)
{
	__sync_fetch_and_add(&r->owners, -1);
}

static __always_inline __u32 mount_namespace(struct task_struct *task)
{
	struct nsproxy *namespaces = KERNEL(task_struct, task, nsproxy);
	struct mnt_namespace *mounts = namespaces ? KERNEL(nsproxy, namespaces, mnt_ns) : 0;
	return mounts ? KERNEL(mnt_namespace, mounts, ns.inum) : 0; /* an exiting task has none */
}

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((char *)mnt - offsetof(struct mount, mnt));
}

#define ROOT_FACTOR 0x9E3779B1u /* 2^32 by the golden ratio: numbers of mounts are small and dense */

/* A number for the root directory, made of its inode and its mount: every overlay's root is inode 2
 * or bears the number of the directory below it. monitor/sessions/places.py makes the same one. */
static __always_inline __u32 root_of(struct task_struct *task)
{
	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	struct dentry *root = fs ? KERNEL(fs_struct, fs, root.dentry) : 0;
	struct inode *inode = root ? KERNEL(dentry, root, d_inode) : 0;

	if (!inode)
		return 0;
	struct mount *mount = mount_of(KERNEL(fs_struct, fs, root.mnt));
	return (__u32)KERNEL(inode, inode, i_ino) + (__u32)KERNEL(mount, mount, mnt_id) * ROOT_FACTOR;
}

static __always_inline void fill_identity(struct estop_header *h, __u16 kind, __u32 session)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct estop_egress_count *out = egress.lookup(&session);

	h->size = 0;
	h->kind = kind;
	h->flags = 0;
	h->ktime_ns = bpf_ktime_get_boot_ns();
	h->egress_bytes = out ? out->sent_bytes : 0;
	h->session = session;
	h->mnt_ns = mount_namespace(task);
	h->root = root_of(task);
	h->held_ns = 0;
}

static __always_inline void fill_header(struct estop_header *h, __u16 kind, __u32 session)
{
	__u64 id = bpf_get_current_pid_tgid();

	fill_identity(h, kind, session);
	h->tgid = id >> 32;
	h->tid = (__u32)id;
	h->uid = (__u32)bpf_get_current_uid_gid();
}

/* Programs on packets may call neither helper on 6.1, nor the second one on 6.12. */
static __always_inline void fill_packet_header(struct estop_header *h, __u16 kind, __u32 session)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct cred *cred = (struct cred *)KERNEL(task_struct, task, cred);

	fill_identity(h, kind, session);
	h->tgid = KERNEL(task_struct, task, tgid);
	h->tid = KERNEL(task_struct, task, pid);
	h->uid = KERNEL(cred, cred, uid.val);
}

#define RING_EVENTS 0
#define RING_ALARMS 1

static __always_inline void send(struct estop_record *r, __u32 head, int ring, int hook)
{
	struct estop_header *h = (struct estop_header *)(r->head + HEAD_BYTES - head);
	__u64 size = head + r->used;
	long failed;

	if (size > TAIL_MASK) {
		size = TAIL_MASK;
		r->truncated = 1;
	}
	h->size = size;
	if (r->truncated)
		h->flags |= ESTOP_TEXT_CUT;
	h->flags |= r->flags;
	h->held_ns = r->held_ns;
	BOUND(size, TAIL_MASK);
	if (ring == RING_ALARMS || r->flags & ESTOP_CANDIDATE)
		failed = alarms.ringbuf_output(h, size, 0);
	else
		failed = events.ringbuf_output(h, size, 0);
	if (failed) {
		count_lost(hook);
		if (r->flags & ESTOP_CANDIDATE)
			count_unsent(h->session);
	}
}

#endif
