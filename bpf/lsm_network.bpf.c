/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Prevention: sockets. Who may be reached is judged by network.bpf.c. */
#include "lsm.h"

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
