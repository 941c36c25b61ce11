// SPDX-License-Identifier: Apache-2.0
// uring plain|sqpoll DELAY_MS PORT FILE
//
// Arms a chain in the kernel: TIMEOUT -HARDLINK-> READ of FILE -> CONNECT to 127.0.0.1:PORT -> SEND of
// what was read. Then says `armed` and does nothing more: what happens next is the kernel's doing.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 8
#define STEPS 4
#define BYTES 16

static char data[BYTES];
static struct sockaddr_in to;
static struct __kernel_timespec delay;

static void fill(struct io_uring_sqe *sqe, int file, int sock)
{
	memset(sqe, 0, STEPS * sizeof(*sqe));
	sqe[0].opcode = IORING_OP_TIMEOUT;
	sqe[0].addr = (__u64)&delay;
	sqe[0].len = 1;
	sqe[1].opcode = IORING_OP_READ;
	sqe[1].fd = file;
	sqe[1].addr = (__u64)data;
	sqe[1].len = BYTES;
	sqe[2].opcode = IORING_OP_CONNECT;
	sqe[2].fd = sock;
	sqe[2].addr = (__u64)&to;
	sqe[2].off = sizeof(to);
	sqe[3].opcode = IORING_OP_SEND;
	sqe[3].fd = sock;
	sqe[3].addr = (__u64)data;
	sqe[3].len = BYTES;
	for (int i = 0; i < STEPS - 1; i++)
		sqe[i].flags = IOSQE_IO_HARDLINK; // a timeout ends with ETIME: a soft link would break
	for (int i = 0; i < STEPS; i++)
		sqe[i].user_data = i;
}

int main(int argc, char **argv)
{
	struct io_uring_params p = {0};
	unsigned *array, *tail;
	long ms;
	int ring, file, sock, polled;
	char *queue;

	if (argc != 5)
		return 2;
	polled = !strcmp(argv[1], "sqpoll");
	ms = atol(argv[2]);
	delay.tv_sec = ms / 1000;
	delay.tv_nsec = ms % 1000 * 1000000;
	to.sin_family = AF_INET;
	to.sin_port = htons(atoi(argv[3]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	file = open(argv[4], O_RDONLY);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	if (read(file, data, BYTES) != BYTES || lseek(file, 0, SEEK_SET)) // in the page cache from here on
		return 1;
	p.flags = polled ? IORING_SETUP_SQPOLL : 0;
	p.sq_thread_idle = 20;
	ring = syscall(SYS_io_uring_setup, ENTRIES, &p);
	if (ring < 0) {
		perror("io_uring_setup");
		return 3;
	}
	queue = mmap(0, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	fill(mmap(0, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES),
	     file, sock);
	array = (unsigned *)(queue + p.sq_off.array);
	tail = (unsigned *)(queue + p.sq_off.tail);
	for (unsigned i = 0; i < STEPS; i++)
		array[i] = i;
	__atomic_store_n(tail, STEPS, __ATOMIC_RELEASE);
	if (polled) {
		unsigned *head = (unsigned *)(queue + p.sq_off.head);
		while (__atomic_load_n(head, __ATOMIC_ACQUIRE) != STEPS) {
			syscall(SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
			usleep(500);
		}
	} else if (syscall(SYS_io_uring_enter, ring, STEPS, 0, 0, 0, 0) != STEPS) {
		perror("io_uring_enter");
		return 1;
	}
	printf("armed\n");
	fflush(stdout);
	return pause();
}
