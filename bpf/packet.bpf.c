/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Packets: how much leaves, under which name, and the cut.
 *
 * A socket is known by its cookie from its first connect or send, and before that by the cgroup it was
 * made in.
 */
#include "syscall.h"

#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17
#define PORT_DNS 53
#define SOCK_RAW_ 3
#define TLS_HANDSHAKE 0x16
#define TLS_CLIENT_HELLO 1
#define PAYLOAD_BYTES 2048 /* a ClientHello with a post-quantum key share is about 1,800 */

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

/* Its maker wrote the header himself, and said no address to connect or send. */
static __always_inline int is_of_raw_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	return sk && sk->type == SOCK_RAW_;
}

/* No hook was asked where it goes (a ping, a raw socket, SCTP), so the packet is. `port` is 0 where it is
 * neither TCP nor UDP. One that may be forbidden is not sent; once it was let go, those that follow are. */
static __always_inline int contact_by_packet(struct __sk_buff *skb, struct estop_flow *f, __u16 port,
					     __u32 session)
{
	struct estop_touch_key key = contact_key(session, 0, (__u64)f->protocol << 32 | port);
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
	int watched = weighed(session, weigh_address(&to, port), 1);
	if (told_lately(&key)) {
		note_contact(&key);
		return watched == CERTAIN ? REFUSE : ALLOW;
	}
	if (watched)
		ask(session);
	e = watched ? alarms.ringbuf_reserve(sizeof(*e)) : events.ringbuf_reserve(sizeof(*e));
	if (!e) {
		count_lost(ESTOP_LOST_SEND);
		if (watched)
			count_unsent(session);
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
	e->port = port;
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
	if ((!known || is_of_raw_socket(skb)) &&
	    !contact_by_packet(skb, &flow, known ? flow.port : 0, session)) {
		if (count)
			__sync_fetch_and_add(&count->cut_bytes, bytes);
		return REFUSE;
	}
	if (count)
		__sync_fetch_and_add(&count->sent_bytes, bytes);
	return ALLOW;
}
