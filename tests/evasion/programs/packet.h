/* SPDX-License-Identifier: Apache-2.0 */
/* A frame with a datagram for the address that a rule names, made by hand. */
#ifndef PACKET_H
#define PACKET_H

#include "sockets.h"
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

struct packet {
	struct ether_header ether;
	struct iphdr ip;
	struct udphdr udp;
	char data[sizeof(LINE)];
} __attribute__((packed));

static inline uint16_t folded(unsigned sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return htons(~(sum + (sum >> 16)));
}

static inline struct packet udp_packet(void)
{
	struct sockaddr_in to = sink();
	struct packet p = {.ether.ether_type = htons(ETHERTYPE_IP)};
	const unsigned char *bytes = (unsigned char *)&p.ip;
	unsigned sum = 0;

	p.ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP,
			      .tot_len = htons(sizeof(p) - sizeof(p.ether)),
			      .saddr = htonl(INADDR_LOOPBACK), .daddr = to.sin_addr.s_addr};
	p.udp.source = htons(4000);
	p.udp.dest = to.sin_port;
	p.udp.len = htons(sizeof(p.udp) + sizeof(p.data)); // no checksum: UDP over IPv4 may go without
	memcpy(p.data, LINE, sizeof(p.data));
	for (size_t i = 0; i < sizeof(p.ip); i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	p.ip.check = folded(sum);
	return p;
}
#endif
