/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* State shared by all programs. Python writes what is marked "user"; the kernel writes the rest. */
#ifndef ESTOP_MAPS_H
#define ESTOP_MAPS_H

#include "event.h"

/* Tunables; capture/kernel.py may set them with -D. */
#ifndef EVENTS_PAGES
#define EVENTS_PAGES 4096 /* 16 MiB */
#endif
#ifndef ALARMS_PAGES
#define ALARMS_PAGES 256 /* 1 MiB */
#endif
#define MAX_SESSIONS 1024
#define MAX_TASKS 65536
#define MAX_TOUCHED 131072
#define MAX_SOCKETS 65536
#define MAX_LEVEL 12 /* deepest cgroup that may be a session's, counted from the root */
#define MAX_DEPTH 40 /* path components that are walked */

/* A thread group of a session. Written by the kernel at fork and by Python at adoption. */
struct estop_task_state {
	__u32 session;
	__u32 reserved;
	__u64 image_inode; /* of the running program: part of the key of `touched` */
};

/* user: the one row that tells the programs about the monitor. */
struct estop_settings {
	__u32 monitor_tgid;
	__u32 session_levels; /* bit n: some session's cgroup lies n levels below the root */
	__u32 api_port; /* of the monitor's API on loopback; 0 for none */
	__u32 reserved;
	__u64 read_again_ns;  /* a repeated open is sent again after this long */
	__u64 write_again_ns;
};

#define ESTOP_LIVE 1
#define ESTOP_QUARANTINED 2 /* no new connection, no byte out */

struct estop_egress_count {
	__u64 sent_bytes;
	__u64 cut_bytes;
};

struct estop_touch_key {
	__u64 inode;
	__u64 parent_inode;
	__u64 image_inode;
	__u64 mount;
	__u64 name_hash;
	__u32 dev;
	__u32 session;
	__u32 access;
	__u32 reserved;
};

struct estop_touch {
	__u64 sent_ns;
	__u64 repeats;
};

BPF_ARRAY(settings, struct estop_settings, 1);
BPF_HASH(tasks, __u32, struct estop_task_state, MAX_TASKS);
BPF_HASH(cgroups, __u64, __u32, MAX_SESSIONS); /* user: cgroup id -> session */
BPF_ARRAY(session_flags, __u32, MAX_SESSIONS); /* user */
BPF_ARRAY(egress, struct estop_egress_count, MAX_SESSIONS);
BPF_TABLE("lru_hash", struct estop_touch_key, struct estop_touch, touched, MAX_TOUCHED);
BPF_TABLE("lru_hash", __u64, __u32, sockets, MAX_SOCKETS); /* socket cookie -> session */

/* Two rings: a flood of opens must not push an alarm out. */
BPF_RINGBUF_OUTPUT(events, EVENTS_PAGES);
BPF_RINGBUF_OUTPUT(alarms, ALARMS_PAGES);

/* Where an event can be lost: a ring is full, or a map is. Index of `lost`. */
enum estop_hook {
	ESTOP_LOST_FORK,
	ESTOP_LOST_EXEC,
	ESTOP_LOST_EXIT,
	ESTOP_LOST_OPEN,
	ESTOP_LOST_NAME,
	ESTOP_LOST_CONNECT,
	ESTOP_LOST_SEND,
	ESTOP_LOST_UNIX,
	ESTOP_LOST_PAYLOAD,
	ESTOP_LOST_CGROUP,
	ESTOP_LOST_PRIVILEGED,
	ESTOP_LOST_SIGNAL,
	ESTOP_LOST_TASKS, /* the map of tasks is full: a process may go unseen */
	ESTOP_LOST_MAX,
};
BPF_ARRAY(lost, __u64, ESTOP_LOST_MAX);

#endif
