// SPDX-License-Identifier: Apache-2.0
// Frames that go to the device past the whole network stack, from memory that is shared with the kernel.
#include "packet.h"
#include <linux/if_xdp.h>
#include <net/if.h>

#define FRAME_BYTES 4096
#define FRAMES 4

static void by_xdp_socket(void)
{
	struct xdp_umem_reg memory = {.len = FRAMES * FRAME_BYTES, .chunk_size = FRAME_BYTES};
	struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY,
				  .sxdp_ifindex = if_nametoindex("lo")};
	struct xdp_mmap_offsets at;
	socklen_t size = sizeof(at);
	struct packet packet = udp_packet();
	int fd = must(socket(AF_XDP, SOCK_RAW, 0), "socket"), frames = FRAMES;
	const int rings[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING};
	void *frame = mmap(0, memory.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(frame == MAP_FAILED ? -1 : 0, "mmap");
	memory.addr = (uintptr_t)frame;
	must(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)), "setsockopt");
	for (int i = 0; i < 3; i++)
		must(setsockopt(fd, SOL_XDP, rings[i], &frames, sizeof(frames)), "setsockopt");
	must(getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &size), "getsockopt");
	char *ring = mmap(0, at.tx.desc + FRAMES * sizeof(struct xdp_desc), PROT_READ | PROT_WRITE, MAP_SHARED,
			  fd, XDP_PGOFF_TX_RING);
	must(ring == MAP_FAILED ? -1 : 0, "mmap");
	must(bind(fd, (struct sockaddr *)&to, sizeof(to)), "bind");

	memcpy(frame, &packet, sizeof(packet));
	*(struct xdp_desc *)(ring + at.tx.desc) = (struct xdp_desc){.len = sizeof(packet)};
	__atomic_store_n((uint32_t *)(ring + at.tx.producer), 1, __ATOMIC_RELEASE);
	must(sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0), "sendto");
}

const struct technique techniques[] = {
	{"N5-xdp", by_xdp_socket},
	{"N5-attached-xdp", by_xdp_socket},
	{0},
};
