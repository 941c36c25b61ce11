/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The wire contract between the BPF programs and monitor/capture/wire.py.
 *
 * Fixed width, no padding, little endian. Both sides are checked against each other by
 * tests/contract/test_wire.py, which compiles this file with -Wpadded -Werror.
 *
 * A record is one struct below followed by a tail of text whose lengths the struct names, in the
 * order of the fields that name them. Text has no terminator unless said otherwise.
 */
#ifndef ESTOP_EVENT_H
#define ESTOP_EVENT_H

#include <linux/types.h>

enum estop_kind {
	ESTOP_FORK = 1,
	ESTOP_EXEC = 2,
	ESTOP_EXIT = 3,
	ESTOP_OPEN = 4,
	ESTOP_RENAME = 5,
	ESTOP_LINK = 6,
	ESTOP_SYMLINK = 7,
	ESTOP_UNLINK = 8,
	ESTOP_TRUNCATE = 9,
	ESTOP_CHMOD = 10,
	ESTOP_CONNECT = 11,
	ESTOP_SEND = 12,
	ESTOP_UNIX = 13,
	ESTOP_DNS = 14,
	ESTOP_TLS = 15,
	ESTOP_CGROUP = 16,
	ESTOP_PRIVILEGED = 17,
	ESTOP_SIGNAL = 18,
};

/* Every record starts with this. `size` is the whole record. */
struct estop_header {
	__u32 size;
	__u16 kind;
	__u16 flags;
	__u64 ktime_ns;     /* CLOCK_BOOTTIME */
	__u64 egress_bytes; /* payload bytes that had left the session by then */
	__u32 session;      /* slot of the session, never 0 */
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__u32 mnt_ns;     /* inode number of the mount namespace */
	__u32 root;       /* the task's root directory: see root_of() in emit.h */
	__u64 held_ns;    /* CLOCK_BOOTTIME when the kernel held or refused; 0 where it did neither */
};

#define ESTOP_TEXT_CUT 1  /* some text did not fit; what is there is its leaf or head */
#define ESTOP_CANDIDATE 2 /* the session is held: its network is cut until user space answers */
#define ESTOP_CERTAIN 4   /* the kernel's part is the whole rule: user space need not judge first */
#define ESTOP_STOPPED 8   /* the process was sent SIGSTOP, and does not return to user space */
#define ESTOP_REFUSED 16  /* the act did not happen */
#define ESTOP_BEFORE 32   /* the act waits for the answer: the call starts anew after it */

/* What is done to a file: bits of a watch (maps.h), as in monitor/lowered.py. */
enum estop_act {
	ESTOP_ACT_READ = 1,
	ESTOP_ACT_WRITE = 2,
	ESTOP_ACT_CREATE = 4,
	ESTOP_ACT_TRUNCATE = 8,
	ESTOP_ACT_LINK_TO = 16,
	ESTOP_ACT_LINK_FROM = 32,
	ESTOP_ACT_SYMLINK = 64,
	ESTOP_ACT_CHMOD = 128,
	ESTOP_ACT_RENAME_TO = 256,
	ESTOP_ACT_RENAME_FROM = 512,
	ESTOP_ACT_DELETE = 1024,
	ESTOP_ACT_EXEC = 2048,
	ESTOP_ACT_MOUNT = 4096,
	ESTOP_ACT_CONNECT = 8192, /* to a local socket of this name */
};

/*
 * A path as the kernel holds it: names from the leaf to the task's root, each ended by NUL.
 * The first `own_len` of `len` bytes lie on the file's own filesystem. If that part starts below
 * the filesystem's root (a bind mount), `above_len` more bytes lead from there to that root.
 */
struct estop_wire_path {
	__u32 len;
	__u32 own_len;
	__u32 above_len;
	__u32 dev; /* kernel dev_t: major << 20 | minor */
};

struct estop_wire_file {
	struct estop_wire_path path;
	__u64 inode;
	__u64 parent_inode;
	__u32 mode;
	__u32 nlink;
};

/* A path as a system call named it: the directory the kernel started at, and the caller's text.
 * The text is user memory, read after the call: advisory, to be confirmed against the object. */
struct estop_wire_name {
	struct estop_wire_path base; /* empty where the text is absolute */
	__u32 text_len;
	__u32 reserved;
};

struct estop_fork {
	struct estop_header header;
	__u64 child_started_ns;
	__u32 child_tgid;
	__u32 reserved;
};

struct estop_exec {
	struct estop_header header;
	struct estop_wire_file image;
	struct estop_wire_path cwd;
	__u64 started_ns;
	__u32 parent_tgid;
	__u32 script_len; /* the script, as the caller spelled it, where `image` interprets one */
	__u32 argv_len;   /* arguments, each ended by NUL */
	__u32 argv_total; /* what argv_len would be if nothing had been cut */
};

struct estop_exit {
	struct estop_header header;
	__s32 code; /* as wait(2) has it */
	__u32 reserved;
};

struct estop_open {
	struct estop_header header;
	struct estop_wire_file file;
	__u32 access; /* ESTOP_READ, ESTOP_WRITE, ESTOP_CREATED */
	__u32 reserved;
	__u64 repeats; /* opens of this file, this way, that were counted and not sent before */
};

#define ESTOP_READ 1
#define ESTOP_WRITE 2
#define ESTOP_CREATED 4

/* rename, link: from, to. symlink: from.text is what the link holds. Else only `to`. */
struct estop_name {
	struct estop_header header;
	struct estop_wire_name from;
	struct estop_wire_name to;
	__u64 aux; /* chmod: mode. truncate: size. rename, unlink: flags */
};

struct estop_connect {
	struct estop_header header;
	__u64 cookie;
	__u8 address[16]; /* network order; IPv4 in the first four bytes */
	__u16 family;
	__u16 port; /* host order */
	__u16 protocol;
	__u16 to_monitor; /* 1: the monitor's own port, and refused */
};

struct estop_payload {
	struct estop_header header;
	__u8 address[16];
	__u16 family;
	__u16 port;
	__u32 protocol;
	__u32 payload_len;
	__u32 reserved;
};

struct estop_unix {
	struct estop_header header;
	__u32 peer_tgid; /* who listens; 0 where unknown */
	__u32 name_len;  /* a first NUL marks an abstract name */
};

struct estop_cgroup {
	struct estop_header header;
	__u64 cgroup_id;
	__u32 target_tgid;
	__u32 inside; /* 1 while the new cgroup is still below the session's */
	__u32 path_len;
	__u32 reserved;
};

struct estop_privileged {
	struct estop_header header;
	__u64 args[6]; /* the call's; of `limit` the first is the task that it is about */
	__s64 result;
	__u32 operation; /* enum estop_operation */
	__u32 text_len;
};

enum estop_operation {
	ESTOP_OP_IO_URING_SETUP = 1,
	ESTOP_OP_MEMFD_CREATE = 2,
	ESTOP_OP_PTRACE = 3,
	ESTOP_OP_VM_READ = 4,
	ESTOP_OP_VM_WRITE = 5,
	ESTOP_OP_MOUNT = 6,
	ESTOP_OP_UMOUNT = 7,
	ESTOP_OP_MOVE_MOUNT = 8,
	ESTOP_OP_PIVOT_ROOT = 9,
	ESTOP_OP_BPF = 10,
	ESTOP_OP_SETUID = 11,
	ESTOP_OP_SETGID = 12,
	ESTOP_OP_CAPSET = 13,
	ESTOP_OP_MODULE_LOAD = 14,
	ESTOP_OP_UNSHARE = 15,
	ESTOP_OP_SETNS = 16,
	ESTOP_OP_SOCKET = 17,  /* of a family that sessions may not have */
	ESTOP_OP_SETTIME = 18,
	ESTOP_OP_CGROUP_BIRTH = 19, /* CLONE_INTO_CGROUP */
	ESTOP_OP_KILL = 20, /* only where it was refused */
	ESTOP_OP_LIMIT = 21, /* limits, priority or processors of another task */
	ESTOP_OP_FANOTIFY_INIT = 22, /* of a group that hands out descriptors */
	ESTOP_OP_HOLD_UNDONE = 23, /* SIGCONT to who waits for the verdict; the first argument is his tgid */
};

struct estop_signal {
	struct estop_header header;
	__s32 signal;
	__u32 target_tgid;
};

#endif
