/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Network: where to, under which name, how much, and the cut.
 *
 * The cgroup programs hang at the root of the hierarchy and decide by session, so that a task that
 * left its cgroup keeps its limits. A socket is known by its cookie from its first connect or send,
 * and before that by the cgroup it was made in.
 */
#include "syscall.h"

#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17
#define PORT_DNS 53
#define ETH_P_IP_ 0x0800
#define ETH_P_IPV6_ 0x86DD
#define TLS_HANDSHAKE 0x16
#define TLS_CLIENT_HELLO 1
#define PAYLOAD_BYTES 2048 /* a ClientHello with a post-quantum key share is about 1,800 */
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

static __always_inline __u32 session_of_packet(struct __sk_buff *skb)
{
	struct estop_settings *s = settings_row();
	if (!s || !s->session_levels)
		return 0;
	__u64 cookie = bpf_get_socket_cookie(skb);
	__u32 *session = sockets.lookup(&cookie);
	if (!session)
		session = inherited_sockets.lookup(&cookie);
	if (session)
		return *session;
#pragma unroll
	for (int level = 1; level <= MAX_LEVEL; level++) {
		if (!(s->session_levels & (1u << level)))
			continue;
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!id)
			return 0;
		session = cgroups.lookup(&id);
		if (session)
			return *session;
	}
	return 0;
}

struct estop_flow {
	__u8 address[16];
	__u16 family;
	__u16 port;
	__u32 protocol;
	__u32 payload_at;
	__u32 payload_len;
};

/* Where the payload of an IPv4 or IPv6 packet lies. Extension headers and fragments have no flow
 * here: they are counted and cut like all others, but not read. */
static __always_inline int find_flow(struct __sk_buff *skb, struct estop_flow *f)
{
	__u8 first = 0, protocol = 0, offset = 0;
	__u16 port = 0;
	__u32 at;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		at = (first & 15) * 4;
		bpf_skb_load_bytes(skb, 9, &protocol, 1);
		bpf_skb_load_bytes(skb, 16, f->address, 4);
		f->family = AF_INET_;
	} else {
		at = 40;
		bpf_skb_load_bytes(skb, 6, &protocol, 1);
		bpf_skb_load_bytes(skb, 24, f->address, 16);
		f->family = AF_INET6_;
	}
	f->protocol = protocol;
	bpf_skb_load_bytes(skb, at + 2, &port, 2);
	f->port = bpf_ntohs(port);
	if (protocol == IPPROTO_UDP_) {
		f->payload_at = at + 8;
	} else if (protocol == IPPROTO_TCP_) {
		bpf_skb_load_bytes(skb, at + 12, &offset, 1);
		f->payload_at = at + (offset >> 4) * 4;
	} else {
		return 0;
	}
	f->payload_len = skb->len > f->payload_at ? skb->len - f->payload_at : 0;
	return 1;
}

static __always_inline int names_somebody(struct __sk_buff *skb, struct estop_flow *f)
{
	__u8 head[6] = {};

	if (f->port == PORT_DNS)
		return f->payload_len > 12;
	if (f->protocol != IPPROTO_TCP_ || f->payload_len < 43)
		return 0;
	bpf_skb_load_bytes(skb, f->payload_at, head, sizeof(head));
	return head[0] == TLS_HANDSHAKE && head[5] == TLS_CLIENT_HELLO;
}

struct estop_payload_record {
	struct estop_payload event;
	__u8 bytes[PAYLOAD_BYTES];
};

static __always_inline void send_payload(struct __sk_buff *skb, struct estop_flow *f, __u32 session)
{
	struct estop_payload_record *r = alarms.ringbuf_reserve(sizeof(*r));
	__u64 length = f->payload_len < PAYLOAD_BYTES ? f->payload_len : PAYLOAD_BYTES;

	if (!r) {
		count_lost(ESTOP_LOST_PAYLOAD);
		return;
	}
	__builtin_memset(&r->event, 0, sizeof(r->event));
	fill_packet_header(&r->event.header, f->port == PORT_DNS ? ESTOP_DNS : ESTOP_TLS, session);
	r->event.header.size = sizeof(*r);
	__builtin_memcpy(r->event.address, f->address, sizeof(f->address));
	r->event.family = f->family;
	r->event.port = f->port;
	r->event.protocol = f->protocol;
	length -= 1; /* names_somebody() saw at least 13: a read of 0 bytes is refused at load */
	BOUND(length, PAYLOAD_BYTES - 1);
	length += 1;
	if (!bpf_skb_load_bytes(skb, f->payload_at, r->bytes, length))
		r->event.payload_len = length;
	alarms.ringbuf_submit(r, 0);
}

/* Neither TCP nor UDP: no hook was asked where it goes (a ping, a raw socket, SCTP), so the packet is.
 * One that may be forbidden is not sent; once it was let go, those that follow are. */
static __always_inline int contact_by_packet(struct __sk_buff *skb, struct estop_flow *f,
					     __u32 session)
{
	struct estop_touch_key key = contact_key(session, 0, (__u64)f->protocol << 32);
	struct estop_network_key to = {.prefixlen = 128};
	struct estop_connect *e;

	if (f->family == AF_INET_) {
		__u32 *words = (__u32 *)to.address;
		words[2] = V4_MAPPED;
		__builtin_memcpy(&words[3], f->address, 4);
	} else {
		__builtin_memcpy(to.address, f->address, sizeof(to.address));
	}
	__builtin_memcpy(&key.image_inode, to.address, sizeof(to.address)); /* and `mount` behind it */
	int watched = weighed(session, weigh_address(&to, 0), 1);
	if (told_lately(&key)) {
		note_contact(&key);
		return watched == CERTAIN ? REFUSE : ALLOW;
	}
	if (watched)
		ask(session);
	e = watched ? alarms.ringbuf_reserve(sizeof(*e)) : events.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(ESTOP_LOST_SEND);
		return watched ? REFUSE : ALLOW;
	}
	__builtin_memset(e, 0, sizeof(*e));
	fill_packet_header(&e->header, ESTOP_SEND, session);
	e->header.size = sizeof(*e);
	if (watched) {
		e->header.flags = ESTOP_CANDIDATE | ESTOP_REFUSED |
				  (watched == CERTAIN ? ESTOP_CERTAIN : 0);
		e->header.held_ns = e->header.ktime_ns;
	}
	e->cookie = bpf_get_socket_cookie(skb);
	e->family = f->family;
	e->protocol = f->protocol;
	__builtin_memcpy(e->address, f->address, sizeof(e->address));
	events.ringbuf_submit(e, 0);
	note_contact(&key);
	return watched ? REFUSE : ALLOW;
}

/* A segment without payload, as in a handshake. While a verdict is out it may pass: if it was lost,
 * who is let go would notice by a second's wait for the next one. */
static __always_inline int is_control(struct estop_flow *f)
{
	return f->protocol == IPPROTO_TCP_ && !f->payload_len;
}

int on_egress(struct __sk_buff *skb)
{
	__u32 session = session_of_packet(skb);
	struct estop_egress_count *count;
	struct estop_flow flow = {};

	if (!session)
		return ALLOW;
	int known = find_flow(skb, &flow);
	__u32 bytes = known ? flow.payload_len : skb->len;
	count = egress.lookup(&session);
	if (quarantined(session) && !(only_held(session) && known && is_control(&flow))) {
		if (count)
			__sync_fetch_and_add(&count->cut_bytes, bytes);
		return REFUSE;
	}
	if (known && names_somebody(skb, &flow))
		send_payload(skb, &flow, session);
	if (!known && !contact_by_packet(skb, &flow, session)) {
		if (count)
			__sync_fetch_and_add(&count->cut_bytes, bytes);
		return REFUSE;
	}
	if (count)
		__sync_fetch_and_add(&count->sent_bytes, bytes);
	return ALLOW;
}

#define S_IFSOCK_ 0140000
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
