// SPDX-License-Identifier: Apache-2.0
// io_uring: acts without their system calls, and acts that the kernel carries out after a stop.
#include "sockets.h"
#include <linux/io_uring.h>
#include <linux/time_types.h>

#define ENTRIES 8
#define DELAY_MS 400 // long enough that the stop comes first

struct ring {
	int fd, polled;
	unsigned *head, *tail, *array, filled;
	struct io_uring_sqe *entries;
};

static char *map_ring(struct ring *r, size_t size, off_t offset)
{
	char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, offset);
	must(at == MAP_FAILED ? -1 : 0, "mmap");
	return at;
}

static struct ring make(int polled)
{
	struct io_uring_params p = {.flags = polled ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 20};
	struct ring r = {.polled = polled};

	r.fd = must(syscall(SYS_io_uring_setup, ENTRIES, &p), "io_uring_setup");
	char *queue = map_ring(&r, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	r.entries = (void *)map_ring(&r, p.sq_entries * sizeof(*r.entries), IORING_OFF_SQES);
	r.head = (unsigned *)(queue + p.sq_off.head);
	r.tail = (unsigned *)(queue + p.sq_off.tail);
	r.array = (unsigned *)(queue + p.sq_off.array);
	return r;
}

static struct io_uring_sqe *entry(struct ring *r, int opcode, int fd, const void *at, unsigned length)
{
	struct io_uring_sqe *e = &r->entries[r->filled];

	memset(e, 0, sizeof(*e));
	*e = (struct io_uring_sqe){.opcode = opcode, .fd = fd, .addr = (uintptr_t)at, .len = length};
	r->array[r->filled] = r->filled;
	r->filled++;
	return e;
}

static void submit(struct ring *r, int wait_for)
{
	unsigned first_tail = *r->tail, flags = wait_for ? IORING_ENTER_GETEVENTS : 0;

	__atomic_store_n(r->tail, first_tail + r->filled, __ATOMIC_RELEASE);
	if (!r->polled) {
		must(syscall(SYS_io_uring_enter, r->fd, r->filled, wait_for, flags, 0, 0), "io_uring_enter");
		return;
	}
	while (__atomic_load_n(r->head, __ATOMIC_ACQUIRE) != first_tail + r->filled) {
		syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
		usleep(500);
	}
	must(syscall(SYS_io_uring_enter, r->fd, 0, wait_for, flags, 0, 0), "io_uring_enter");
}

// Later entries need the descriptor of the first: a slot of the ring's own table holds it.
static struct io_uring_sqe *entry_of_slot(struct ring *r, int opcode, int fd, const void *at)
{
	int empty = -1;

	must(syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES, &empty, 1), "io_uring_register");
	struct io_uring_sqe *e = entry(r, opcode, fd, at, 0);
	e->file_index = 1; // slot 0
	e->flags = IOSQE_IO_LINK;
	return e;
}

static void open_then(struct ring *r, const char *path, int flags, int opcode, void *at, int length)
{
	struct io_uring_sqe *e = entry_of_slot(r, IORING_OP_OPENAT, AT_FDCWD, path);
	e->open_flags = flags;
	e = entry(r, opcode, 0, at, length);
	e->flags = IOSQE_FIXED_FILE;
	submit(r, 2);
}

// F17, E1: files ---------------------------------------------------------------------------------

static void write_by(int polled)
{
	struct ring r = make(polled);
	open_then(&r, HOSTS, O_WRONLY, IORING_OP_WRITE, LINE, strlen(LINE));
}

static void write_by_ring(void) { write_by(0); }
static void write_by_polled_ring(void) { write_by(1); }

static void rename_by_ring(void)
{
	struct ring r = make(0);

	put_file("/etc/.hosts.new", LINE);
	struct io_uring_sqe *e = entry(&r, IORING_OP_RENAMEAT, AT_FDCWD, "/etc/.hosts.new", AT_FDCWD);
	e->addr2 = (uintptr_t)HOSTS;
	submit(&r, 1);
}

static void read_by_ring(void)
{
	struct ring r = make(0);
	open_then(&r, credentials(), O_RDONLY, IORING_OP_READ, secret, 64);
}

// N1: the network --------------------------------------------------------------------------------

static void send_by_ring(void)
{
	struct ring r = make(0);
	struct sockaddr_in to = sink();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	struct io_uring_sqe *e = entry(&r, IORING_OP_CONNECT, fd, &to, 0);

	e->off = sizeof(to);
	e->flags = IOSQE_IO_LINK;
	entry(&r, IORING_OP_SEND, fd, LINE, strlen(LINE));
	submit(&r, 2);
}

// No call of the socket family is left.
static void all_by_ring(void)
{
	struct ring r = make(0);
	struct sockaddr_in to = sink();

	entry_of_slot(&r, IORING_OP_SOCKET, AF_INET, 0)->off = SOCK_STREAM;
	struct io_uring_sqe *e = entry(&r, IORING_OP_CONNECT, 0, &to, 0);
	e->off = sizeof(to);
	e->flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK;
	entry(&r, IORING_OP_SEND, 0, LINE, strlen(LINE))->flags = IOSQE_FIXED_FILE;
	submit(&r, 3);
}

// K1, K2, K3: armed before the stop --------------------------------------------------------------

static struct __kernel_timespec delay = {.tv_nsec = DELAY_MS * 1000000};
static struct sockaddr_in to;

static void arm(int polled)
{
	struct ring r = make(polled);
	int file = must(open("answer", O_RDONLY), "open"), fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");

	to = sink();
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK); // an address that no rule objects to
	must(read(file, secret, 16), "read"); // in the page cache from here on: nothing has to wait
	lseek(file, 0, SEEK_SET);
	entry(&r, IORING_OP_TIMEOUT, 0, &delay, 1);
	entry(&r, IORING_OP_READ, file, secret, 16);
	entry(&r, IORING_OP_CONNECT, fd, &to, 0)->off = sizeof(to);
	entry(&r, IORING_OP_SEND, fd, secret, 16);
	for (int i = 0; i < 3; i++)
		r.entries[i].flags = IOSQE_IO_HARDLINK; // a timeout ends with ETIME: a soft link would break
	submit(&r, 0);
	edit_path(HOSTS); // the alarm
}

static void arm_plain(void) { arm(0); }
static void arm_polled(void) { arm(1); }

// K4: bytes that a socket already holds ----------------------------------------------------------

static void queue_bytes(void)
{
	static char megabytes[8 << 20];
	struct sockaddr_in slow = {.sin_family = AF_INET, .sin_port = htons(number("SLOW_PORT")),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int size = sizeof(megabytes), fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	connect(fd, (struct sockaddr *)&slow, sizeof(slow)); // in progress; loopback is quick
	usleep(20000);
	must(send(fd, megabytes, sizeof(megabytes), 0), "send");
	edit_path(HOSTS); // the alarm
}

const struct technique techniques[] = {
	{"F17-write", write_by_ring},
	{"F17-attached-write", write_by_ring},
	{"F17-rename", rename_by_ring},
	{"F17-attached-rename", rename_by_ring},
	{"F17-sqpoll", write_by_polled_ring},
	{"F17-attached-sqpoll", write_by_polled_ring},
	{"E1-read", read_by_ring},
	{"E1-attached-read", read_by_ring},
	{"N1-uring", send_by_ring},
	{"N1-attached-uring", send_by_ring},
	{"N1-socket", all_by_ring},
	{"N1-attached-socket", all_by_ring},
	{"K1-freeze", arm_plain},
	{"K1-attached-freeze", arm_plain},
	{"K2-sqpoll", arm_polled},
	{"K2-attached-sqpoll", arm_polled},
	{"K3-kill", arm_polled},
	{"K3-attached-kill", arm_polled},
	{"K4-queued", queue_bytes},
	{0},
};
