/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Network: whom a session contacts, by address or by a local socket.
 *
 * The cgroup programs hang at the root of the hierarchy and decide by session, so that a task that
 * left its cgroup keeps its limits.
 */
#include "syscall.h"

#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define UNIX_NAME_BYTES 108
#define ALLOW 1
#define REFUSE 0

static __always_inline void put_address(struct bpf_sock_addr *ctx, __u8 *to, __u32 family)
{
	__u32 *words = (__u32 *)to;
	if (family == AF_INET_) {
		words[0] = ctx->user_ip4;
		return;
	}
	words[0] = ctx->user_ip6[0];
	words[1] = ctx->user_ip6[1];
	words[2] = ctx->user_ip6[2];
	words[3] = ctx->user_ip6[3];
}

#define LOOPBACK_NET 127
#define V4_MAPPED 0xffff0000u /* ::ffff:0:0/96, third word in network order */

/* This machine as seen from itself: 127/8, ::1, the same mapped, and the wildcard, which connects
 * there too. */
static __always_inline int is_loopback(struct bpf_sock_addr *ctx, __u32 family)
{
	__u32 v4 = ctx->user_ip4;
	if (family == AF_INET6_) {
		if (ctx->user_ip6[0] || ctx->user_ip6[1])
			return 0;
		v4 = ctx->user_ip6[3];
		if (!ctx->user_ip6[2])
			return !v4 || v4 == bpf_htonl(1);
		if (ctx->user_ip6[2] != V4_MAPPED)
			return 0;
	}
	return !v4 || (v4 & 0xff) == LOOPBACK_NET;
}

/* The monitor does not answer those it watches, whatever token they hold. */
static __always_inline int is_monitors_api(struct bpf_sock_addr *ctx, __u32 family)
{
	struct estop_settings *s = settings_row();
	return s && s->api_port && bpf_ntohs((__u16)ctx->user_port) == s->api_port &&
	       is_loopback(ctx, family);
}

#define HELD 1
#define CERTAIN 2 /* the rule says no more than that */

/* Is the destination one that a rule which stops names? */
static __always_inline int weigh_address(struct estop_network_key *key, __u16 port)
{
	struct estop_network *network = watched_networks.lookup(key);
	int found = 0;

	if (!network)
		return 0;
#pragma unroll
	for (int i = 0; i < PORTS; i++) {
		if (i >= network->count)
			break;
		if (!network->ports[i] || network->ports[i] == port)
			found |= network->certain >> i & 1 ? CERTAIN : HELD;
	}
	return found & CERTAIN ? CERTAIN : found;
}

static __always_inline int watched_destination(struct bpf_sock_addr *ctx, __u32 family)
{
	struct estop_network_key key = {.prefixlen = 128};
	__u32 *words = (__u32 *)key.address;

	if (family == AF_INET_) {
		words[2] = V4_MAPPED;
		words[3] = ctx->user_ip4;
	} else {
		put_address(ctx, key.address, family);
	}
	return weigh_address(&key, bpf_ntohs((__u16)ctx->user_port));
}

/* Any contact of a session that has touched a secret may be where the secret leaves. */
static __always_inline int connects_tainted(__u32 session)
{
	struct estop_settings *s = settings_row();
	return s && s->taint_connects && tainted(session);
}

/* What the session's rules make of a contact; 0 for one that nobody asks about. */
static __always_inline int weighed(__u32 session, int watched, int may_be_tainted)
{
	if (observed(session))
		return 0;
	if (watched == CERTAIN && granted(session))
		return HELD;
	if (!watched && may_be_tainted && connects_tainted(session))
		return HELD;
	return watched;
}

/* One event for a socket (or a protocol), address, port and second, not one for each datagram. */
static __always_inline struct estop_touch_key contact_key(__u32 session, __u64 socket, __u64 port)
{
	struct estop_touch_key key = {.inode = socket, .name_hash = port};

	key.session = session;
	key.access = ESTOP_SEND;
	return key;
}

static __always_inline int told_lately(struct estop_touch_key *key)
{
	struct estop_touch *seen = touched.lookup(key);
	struct estop_settings *s = settings_row();
	return seen && s && coarse_ns(s) - seen->sent_ns < 1000000000ull;
}

static __always_inline void note_contact(struct estop_touch_key *key)
{
	struct estop_settings *s = settings_row();
	struct estop_touch now = {.sent_ns = s ? coarse_ns(s) : 0};
	touched.update(key, &now);
}

static __always_inline int destination(struct bpf_sock_addr *ctx, __u32 family, __u16 kind)
{
	struct estop_task_state *state = ours_or_in_our_cgroup();
	struct estop_connect *e;

	if (!state)
		return ALLOW;
	__u32 session = state->session;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	sockets.update(&cookie, &session);
	int hook = kind == ESTOP_CONNECT ? ESTOP_LOST_CONNECT : ESTOP_LOST_SEND;
	int api = kind == ESTOP_CONNECT && is_monitors_api(ctx, family);
	int watched = weighed(session, watched_destination(ctx, family), kind == ESTOP_CONNECT);
	int refused = api || watched == CERTAIN || quarantined(session);
	struct estop_touch_key key = contact_key(session, cookie, ctx->user_port);
	if (kind == ESTOP_SEND) {
		put_address(ctx, (__u8 *)&key.image_inode, family); /* and `mount` behind it */
		if (told_lately(&key))
			return refused ? REFUSE : ALLOW;
	}
	if (watched)
		ask(session); /* before the record: what there is no room to tell is held all the same */
	e = watched ? alarms.ringbuf_reserve(sizeof(*e)) : events.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(hook);
		if (watched)
			count_unsent(session);
		return refused || watched ? REFUSE : ALLOW;
	}
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, kind, session);
	e->header.size = sizeof(*e);
	if (watched) {
		if (kind == ESTOP_CONNECT && !refused)
			leave_note(ESTOP_ACT_CONNECT);
		e->header.flags = ESTOP_CANDIDATE | (watched == CERTAIN ? ESTOP_CERTAIN : 0);
		e->header.held_ns = bpf_ktime_get_boot_ns();
	}
	if (refused)
		e->header.flags |= ESTOP_REFUSED;
	e->cookie = cookie;
	e->family = family;
	e->protocol = ctx->protocol;
	e->to_monitor = api;
	e->port = bpf_ntohs((__u16)ctx->user_port);
	put_address(ctx, e->address, family);
	events.ringbuf_submit(e, 0);
	if (kind == ESTOP_SEND)
		note_contact(&key);
	return refused ? REFUSE : ALLOW;
}

int on_connect4(struct bpf_sock_addr *ctx) { return destination(ctx, AF_INET_, ESTOP_CONNECT); }
int on_connect6(struct bpf_sock_addr *ctx) { return destination(ctx, AF_INET6_, ESTOP_CONNECT); }
int on_sendmsg4(struct bpf_sock_addr *ctx) { return destination(ctx, AF_INET_, ESTOP_SEND); }
int on_sendmsg6(struct bpf_sock_addr *ctx) { return destination(ctx, AF_INET6_, ESTOP_SEND); }

#define SOCKETCALL_CONNECT 3 /* SYS_CONNECT of <linux/net.h> */

/* The socket that was connected. Of socketcall() the descriptor lies in the caller's memory, and is as
 * advisory as the words of a name: what is there need not be a socket. */
static __always_inline struct socket *connected(struct pt_regs *regs)
{
	struct estop_syscall_shape *shape = shape_of(regs);
	__u32 fd = argument(regs, 0);

	if (!shape)
		return 0;
	if (shape->from_text != NO_ARG &&
	    (fd != SOCKETCALL_CONNECT ||
	     bpf_probe_read_user(&fd, sizeof(fd), (void *)argument(regs, shape->from_text))))
		return 0;
	struct file *file = file_by_fd(fd);
	struct inode *inode = file ? KERNEL(file, file, f_inode) : 0;
	if (!inode || (KERNEL(inode, inode, i_mode) & S_IFMT_) != S_IFSOCK_)
		return 0;
	return (struct socket *)KERNEL(file, file, private_data);
}

/* connect() on AF_UNIX has no cgroup hook. After success the peer is in the socket: its bound name
 * and who listens, both from the kernel. */
static __always_inline void tell_unix(struct bpf_raw_tracepoint_args *ctx,
				      struct estop_task_state *state, struct estop_record *r)
{
	struct socket *socket = connected((struct pt_regs *)ctx->args[0]);

	wait_for_answer(state->session); /* whichever socket it was */
	if (!socket)
		return;
	struct sock *sk = KERNEL(socket, socket, sk);
	if (KERNEL(sock, sk, __sk_common.skc_family) != AF_UNIX_)
		return;
	struct unix_sock *peer = (struct unix_sock *)KERNEL(unix_sock, sk, peer);
	if (!peer)
		return;
	struct unix_address *address = KERNEL(unix_sock, peer, addr);
	struct estop_unix *e = HEAD(r, estop_unix);
	__builtin_memset(e, 0, sizeof(*e));
	fill_header(&e->header, ESTOP_UNIX, state->session);
	/* unix_stream_connect(): the peer is a new socket and bears our own pid, while the listener's
	 * was copied to us. */
	struct pid *owner = KERNEL(sock, sk, sk_peer_pid);
	if (owner)
		e->peer_tgid = KERNEL(pid, owner, numbers[0].nr);
	if (address) {
		__u64 length = KERNEL(unix_address, address, len);
		length = length > 2 ? length - 2 : 0; /* sun_family comes first */
		if (length > UNIX_NAME_BYTES)
			length = UNIX_NAME_BYTES;
		BOUND(length, 127);
		char *name = (char *)address + offsetof(struct unix_address, name) + 2;
		if (length && !bpf_probe_read_kernel(r->tail, length, name)) {
			e->name_len = length;
			r->used = length;
			/* a path may or may not be bound with its NUL */
			weigh_text(r, 0, length - !r->tail[(length - 1) & 127], 0, SCAN_SOCKET);
		}
	}
	contain(r, state->session, ESTOP_ACT_CONNECT);
	send(r, sizeof(*e), RING_EVENTS, ESTOP_LOST_UNIX);
}

int on_unix_connect(struct bpf_raw_tracepoint_args *ctx)
{
	struct estop_task_state *state = returning(ctx, 0);
	struct estop_record *r = state ? sensor_record(ESTOP_LOST_UNIX) : 0;

	if (r) {
		tell_unix(ctx, state, r);
		sensor_done(r);
	}
	return 0;
}
