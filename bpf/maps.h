/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* State shared by all programs. Python writes what is marked "user"; the kernel writes the rest. */
#ifndef ESTOP_MAPS_H
#define ESTOP_MAPS_H

#include "event.h"

/* Tunables; capture/programs.py sets the first with -D. */
#ifndef EVENTS_PAGES
#define EVENTS_PAGES 4096 /* 16 MiB */
#endif
#ifndef ALARMS_PAGES
#define ALARMS_PAGES 256 /* 1 MiB */
#endif
#define MAX_SESSIONS 1024
#define MAX_TASKS 65536
#define MAX_TOUCHED 131072
#define MAX_TOLD 1024
#define MAX_SOCKETS 65536
#define MAX_QUESTIONS 8192
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
	__u32 watches_below; /* 1: some watch covers a whole directory */
	__u64 read_again_ns;  /* a repeated open is sent again after this long */
	__u64 write_again_ns;
	__u64 deadman_ns;      /* a monitor silent for longer is dead; 0: it never is */
	__u64 held_operations; /* bit n: enum estop_operation n may match a rule that stops */
	__u64 opens_per_s;     /* of one session; more are counted and not sent. 0: no limit */
	__u64 refused_operations; /* bit n: enum estop_operation n is refused, where LSM programs run */
	__u64 refused_families;   /* bit n: no socket of AF_* n, the same way */
	__u32 taint_connects; /* 1: a rule that stops may match what a tainted session contacts */
	__u32 tick_ns; /* of the kernel's timer: see coarse_ns() */
};

#define ESTOP_LIVE 1
#define ESTOP_QUARANTINED 2 /* no new connection, no byte out */
#define ESTOP_OBSERVED 4    /* is never held or refused anything */
#define ESTOP_GRANTED 8     /* has a grant: is held and asked about, and refused only by the answer */
#define ESTOP_TAINTED 16    /* something of it has touched a secret: user space knows which */

struct estop_egress_count {
	__u64 sent_bytes;
	__u64 cut_bytes;
};

struct estop_touch_key {
	__u64 inode;
	__u64 image_inode;
	__u64 mount; /* which is of one file system */
	__u64 name_hash; /* of the name and, by its salt, of the directory */
	__u32 session;
	__u32 access;
};

struct estop_touch {
	__u64 sent_ns; /* by coarse_ns() */
	__u64 repeats;
};

/* Arrays that user space maps into its memory: to cut a session's network is then one store. */
#define CELLS(name, leaf, entries) BPF_F_TABLE("array", int, leaf, name, entries, BPF_F_MMAPABLE)

BPF_ARRAY(settings, struct estop_settings, 1);
BPF_HASH(tasks, __u32, struct estop_task_state, MAX_TASKS);
BPF_HASH(cgroups, __u64, __u32, MAX_SESSIONS); /* user: cgroup id -> session */
CELLS(session_flags, __u32, MAX_SESSIONS); /* user */
CELLS(egress, struct estop_egress_count, MAX_SESSIONS);
CELLS(still_since, __u64, MAX_SESSIONS); /* CLOCK_BOOTTIME; 0 while somebody in the cgroup may run */
BPF_TABLE("lru_hash", struct estop_touch_key, struct estop_touch, touched, MAX_TOUCHED);
BPF_TABLE("lru_hash", __u64, __u32, sockets, MAX_SOCKETS); /* socket cookie -> session */
/* user: the same for sockets that are older than their session. Nothing would bring them back, so no
 * number of new ones pushes them out. */
BPF_HASH(inherited_sockets, __u64, __u32, MAX_SOCKETS);

/*
 * Watches: the part of the signatures that the kernel can judge, made by monitor/detection/lower.py
 * and written by monitor/response/verdicts.py. `hold` are the acts (event.h) for which a rule that
 * stops may match, `certain` those for which one does; the same for what lies below a directory. A row
 * that is found by inode or by name speaks in its second half for the directories above.
 */
struct estop_watch {
	__u32 hold;
	__u32 certain;
	__u32 hold_below;
	__u32 certain_below;
	__u32 exempt; /* group of programs that the rule forgives; 0 for none */
	__u32 exempt_below; /* the same for what lies below */
};

#define NAMES_BYTES 256 /* the longest key that an LPM trie takes */
#define WATCHED_NAME_BYTES 64
#define PARENT_BYTES 32
#define PARENTS 4
#define PORTS 29

/* A path by its names from the leaf to the root, each ended by NUL, and one NUL more for the root:
 * `/etc/hosts` is "hosts\0etc\0\0". Without the last one it is any path that ends so. */
struct estop_names_key {
	__u32 prefixlen; /* bits of `names` */
	__u8 names[NAMES_BYTES];
};

struct estop_inode_key {
	__u64 inode;
	__u32 dev;
	__u32 reserved;
};

/* A name in a directory, whatever way leads there: the file need not exist. */
struct estop_name_key {
	__u64 parent_inode;
	__u32 dev;
	__u32 reserved;
	char name[WATCHED_NAME_BYTES];
};

struct estop_leaf_key {
	char name[WATCHED_NAME_BYTES];
};

/* For names that the caller spelled: the last two parts of the text are all the kernel looks at. */
struct estop_leaf {
	__u32 hold;
	__u32 hold_below; /* where the name is that of the directory above */
	__u32 any_parent;
	__u32 reserved;
	char parents[PARENTS][PARENT_BYTES];
};

struct estop_exempt_key {
	__u64 image_inode; /* as in struct estop_task_state */
	__u32 group;
	__u32 reserved;
};

struct estop_network_key {
	__u32 prefixlen;
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
};

/* The longest network is found alone: its row has the ports of those around it too. */
struct estop_network {
	__u32 certain; /* bit n: for ports[n] a rule says no more than that */
	__u16 count;   /* of the ports that are used */
	__u16 ports[PORTS]; /* 0: any */
};

/* Why a process was sent SIGSTOP. */
#define ESTOP_HELD_CANDIDATE 1
#define ESTOP_HELD_QUARANTINE 2 /* it runs although its session is stopped */
#define ESTOP_HELD_SILENCE 3    /* the monitor is dead */

struct estop_hold {
	__u32 session;
	__u32 reason;
	__u64 ktime_ns;
};

/* A file, or a name that may not be there yet, by what no other way to it changes. */
struct estop_object {
	__u64 inode; /* 0: the name is free */
	__u64 parent_inode;
	__u64 name_hash;
	__u32 dev;
	__u32 reserved;
};

#define ESTOP_UNANSWERED 0
#define ESTOP_LET 1    /* the call that starts anew is let through */
#define ESTOP_FORBID 2 /* it fails with EPERM */

/* The act that a thread was stopped before: see before.h. */
struct estop_question {
	__u32 session;
	__u32 answer; /* user */
	__u32 acts;
	__u32 kind; /* enum estop_kind; 0 for the use of a descriptor */
	struct estop_object object;
	struct estop_object other; /* of a call with two names */
	__u64 mount;
	__u64 image_inode;
	__u64 stack; /* the caller's stack pointer: a signal handler's call is another */
	__u64 ktime_ns; /* `held_ns` of the record */
	__u32 misses; /* acts that it was not about, since it was answered */
	__u32 reserved;
};

struct estop_opened_key {
	__u64 file;
	__u64 inode;
	__u32 session;
	__u32 reserved;
};

struct estop_budget {
	__u64 second;
	__u64 opens; /* in that second */
	__u64 over; /* of the session that were not looked at */
};

#define MAX_WATCHES 16384
BPF_LPM_TRIE(watched_paths, struct estop_names_key, struct estop_watch, MAX_WATCHES);
BPF_HASH(watched_inodes, struct estop_inode_key, struct estop_watch, MAX_WATCHES);
BPF_HASH(watched_names, struct estop_name_key, struct estop_watch, MAX_WATCHES);
BPF_HASH(watched_leaves, struct estop_leaf_key, struct estop_leaf, MAX_WATCHES);
BPF_LPM_TRIE(watched_networks, struct estop_network_key, struct estop_network, MAX_WATCHES);
BPF_HASH(exempt_programs, struct estop_exempt_key, __u32, MAX_WATCHES);

/* A session is held while the kernel counted more candidates than user space answered. Two arrays,
 * because an update from user space replaces a whole row. */
CELLS(candidates, __u64, MAX_SESSIONS);
CELLS(answers, __u64, MAX_SESSIONS); /* user */
CELLS(answered_ns, __u64, MAX_SESSIONS); /* user: `held_ns` of the newest that was answered */
CELLS(unsent, __u64, MAX_SESSIONS); /* candidates that there was no room to tell of: nobody answers them */
CELLS(given_up, __u64, MAX_SESSIONS); /* user: how many of them `fail_mode` has decided about */
BPF_HASH(held, __u32, struct estop_hold, MAX_TASKS); /* tgid -> who waits for SIGCONT */
/* Thread -> what it asked. A row that was pushed out is asked again. */
BPF_TABLE("lru_hash", __u32, struct estop_question, questions, MAX_QUESTIONS);
/* Thread -> acts for which what it does now is to be held: from a program that sees the act coming (of
 * LSM, or at a cgroup's connect) to the sensor behind it. */
BPF_TABLE("lru_hash", __u32, __u32, noted, MAX_TOUCHED);
/* Thread -> what an LSM program refused it and told: the sensor behind the call need not. */
BPF_TABLE("lru_hash", __u32, __u32, told, MAX_TOLD);
/* Watched files that were judged when the session opened them: reads need not ask again. */
BPF_TABLE("lru_hash", struct estop_opened_key, __u32, opened, MAX_TOUCHED);
BPF_ARRAY(budgets, struct estop_budget, MAX_SESSIONS);
/* User: half of the ring is full of what nobody has looked at. Not asked of the ring itself: bcc has no
 * word for bpf_ringbuf_query. */
CELLS(crowded, __u64, 1);
CELLS(beat, __u64, 1); /* user: CLOCK_BOOTTIME of the monitor's last sign of life */
CELLS(displaced, __u64, 1); /* how often init or the monitor was moved to another cgroup */

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
	ESTOP_LOST_BUDGET, /* a session opened more files a second than it may */
	ESTOP_LOST_MAX,
};
CELLS(lost, __u64, ESTOP_LOST_MAX);
CELLS(lost_told, __u64, ESTOP_LOST_MAX); /* user: as far as a monitor has told of them */

#endif
