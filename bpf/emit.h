/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Build a record, send it, count it where it does not fit. */
#ifndef ESTOP_EMIT_H
#define ESTOP_EMIT_H

#include "scope.h"

/*
 * Records of variable length are built in a per-CPU buffer and copied out: a ring reservation must
 * have a constant size, and reserving the largest would fill the ring forty times as fast.
 * Only raw tracepoints use the buffer: they run with preemption off and never one inside another
 * on a CPU. Programs that a softirq may run (network, signals) reserve small fixed records.
 */
#define HEAD_BYTES 256
#define TAIL_MASK 16383 /* holds two bases and two texts of the longest kind: see path.h */
#define TAIL_SLACK 4096 /* the longest single read, so that the last write stays inside */

struct estop_record {
	/* Counters live here and not on the stack: the verifier knows nothing of what it loads from a
	 * map, so all ways through a path walk look the same to it afterwards and are checked once. */
	__u32 used; /* bytes of the tail */
	__u32 truncated;
	__u8 head[HEAD_BYTES]; /* the struct lies at its end, so that struct and tail are one piece */
	__u8 tail[TAIL_MASK + 1 + TAIL_SLACK];
};
BPF_PERCPU_ARRAY(records, struct estop_record, 1);

#define HEAD(record, type) ((struct type *)((record)->head + HEAD_BYTES - sizeof(struct type)))

static __always_inline struct estop_record *record_buffer(void)
{
	int zero = 0;
	struct estop_record *r = records.lookup(&zero);
	if (r) {
		r->used = 0;
		r->truncated = 0;
	}
	return r;
}

static __always_inline __u32 mount_namespace(struct task_struct *task)
{
	struct nsproxy *namespaces = KERNEL(task_struct, task, nsproxy);
	struct mnt_namespace *mounts = namespaces ? KERNEL(nsproxy, namespaces, mnt_ns) : 0;
	return mounts ? KERNEL(mnt_namespace, mounts, ns.inum) : 0; /* an exiting task has none */
}

static __always_inline __u32 root_inode(struct task_struct *task)
{
	struct fs_struct *fs = KERNEL(task_struct, task, fs);
	struct dentry *root = fs ? KERNEL(fs_struct, fs, root.dentry) : 0;
	struct inode *inode = root ? KERNEL(dentry, root, d_inode) : 0;
	return inode ? (__u32)KERNEL(inode, inode, i_ino) : 0;
}

static __always_inline void fill_header(struct estop_header *h, __u16 kind, __u32 session)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct estop_egress_count *out = egress.lookup(&session);

	h->size = 0;
	h->kind = kind;
	h->flags = 0;
	h->ktime_ns = bpf_ktime_get_boot_ns();
	h->egress_bytes = out ? out->sent_bytes : 0;
	h->session = session;
	h->tgid = id >> 32;
	h->tid = (__u32)id;
	h->uid = (__u32)bpf_get_current_uid_gid();
	h->mnt_ns = mount_namespace((struct task_struct *)bpf_get_current_task());
	h->root_inode = root_inode((struct task_struct *)bpf_get_current_task());
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
	BOUND(size, TAIL_MASK);
	if (ring == RING_ALARMS)
		failed = alarms.ringbuf_output(h, size, 0);
	else
		failed = events.ringbuf_output(h, size, 0);
	if (failed)
		count_lost(hook);
}

#endif
