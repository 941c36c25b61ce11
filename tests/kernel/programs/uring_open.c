// SPDX-License-Identifier: Apache-2.0
// uring_open FILE [inline]: a worker of io_uring, or the caller itself on its behalf, opens the file
// for write; says the result, or `off`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct io_uring_params p = {0};
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	char *sq, *cq;
	int ring;

	if (argc < 2)
		return 2;
	ring = syscall(SYS_io_uring_setup, 2, &p);
	if (ring < 0) {
		puts("off");
		return 0;
	}
	sq = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqe = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return 1;
	sqe->opcode = IORING_OP_OPENAT;
	sqe->flags = argc == 2 ? IOSQE_ASYNC : 0;
	sqe->fd = AT_FDCWD;
	sqe->addr = (unsigned long)argv[1];
	sqe->open_flags = O_WRONLY;
	((unsigned *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
		return 1;
	cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	printf("%d\n", cqe->res);
	return 0;
}
