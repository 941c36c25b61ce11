/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all programs of the evasion suite share. A program holds some techniques, one function each;
 * its argument names the one to carry out. The stage (../stagehand.py) tells it by the environment
 * where things are. At the end it touches the canary: once the monitor has judged that, it has judged
 * all that came before.
 */
#ifndef TECHNIQUE_H
#define TECHNIQUE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOSTS "/etc/hosts"
#define LINE "127.0.0.1 bank.example\n"

struct technique {
	const char *id;
	void (*act)(void);
};
extern const struct technique techniques[];

/* The test looks for the secret here, in the memory of the stopped process. */
static char secret[4096];
static pid_t first;
static int scene = AT_FDCWD; /* its directory: who is in a chroot needs it open */

static inline const char *given(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

static inline long number(const char *name)
{
	return strtol(given(name), 0, 0);
}

/* A path below the stage's own scratch directory, which is the working directory too. */
static inline const char *in(const char *directory, const char *name)
{
	static char paths[8][4200];
	static int next;
	char *path = paths[next++ & 7];

	snprintf(path, sizeof(paths[0]), "%s/%s", given(directory), name);
	return path;
}

static inline const char *credentials(void)
{
	return in("HOME", ".aws/credentials");
}

static inline void say(const char *how, const char *what)
{
	char line[512];
	int length = snprintf(line, sizeof(line), "%s %s\n", how, what);
	if (write(1, line, length) != length)
		_exit(9);
}

static inline void rest(void) __attribute__((noreturn));
static inline void rest(void)
{
	for (;;)
		pause();
}

static inline void finish(void)
{
	int fd = openat(scene, "estop-canary", O_WRONLY | O_CREAT, 0600);
	if (fd >= 0)
		close(fd);
	rest();
}

/* A seccomp filter says of a family of sockets that there is none. */
static inline int is_refusal(int error)
{
	return error == EPERM || error == EACCES || error == EAFNOSUPPORT || error == EPROTONOSUPPORT;
}

/* A step that the technique needs. Who is refused says so, and is done. */
static inline long must(long result, const char *step)
{
	char text[256];

	if (result != -1)
		return result;
	snprintf(text, sizeof(text), "%s: %s", step, strerror(errno));
	say(is_refusal(errno) ? "refused" : "failed", text);
	if (getpid() != first)
		_exit(1);
	finish();
	return -1;
}

static inline void edit(int fd)
{
	must(write(fd, LINE, strlen(LINE)), "write");
}

static inline void edit_path(const char *path)
{
	edit(must(open(path, O_WRONLY | O_APPEND), "open"));
}

static inline void put_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), "create");
	must(write(fd, text, strlen(text)), "write");
	close(fd);
}

static inline void take(int fd)
{
	must(read(fd, secret, sizeof(secret)), "read");
}

static inline int join(int family, const char *name)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int fd = must(socket(family, SOCK_STREAM, 0), "socket");

	memcpy(to.sun_path, name, strlen(name));
	if (*name == '@') /* the abstract namespace */
		to.sun_path[0] = 0;
	else
		length++;
	must(connect(fd, (struct sockaddr *)&to, length), "connect");
	return fd;
}

/* In the directory `proc`, and in a mount namespace of its own. */
static inline void mount_proc(void)
{
	must(unshare(CLONE_NEWNS), "unshare");
	must(mkdir("proc", 0700), "mkdir");
	must(mount("none", "proc", "proc", 0, 0), "mount");
}

/* The descriptor that somebody outside of the session hands over. */
static inline int receive_fd(const char *name)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec one = {&byte, 1};
	struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = room,
				 .msg_controllen = sizeof(room)};
	struct cmsghdr *head;

	must(recvmsg(join(AF_UNIX, name), &message, 0), "recvmsg");
	head = CMSG_FIRSTHDR(&message);
	if (!head)
		must((errno = EPERM, -1), "receive a descriptor");
	return *(int *)CMSG_DATA(head);
}

int main(int argc, char **argv)
{
	const struct technique *t = techniques;

	first = getpid();
	if (argc < 2) { /* which techniques are there? */
		for (; t->id; t++)
			printf("%s\n", t->id);
		return 0;
	}
	scene = open("..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (*given("GATE") && access(given("GATE"), F_OK)) /* closed until the test is ready to look */
		usleep(1000);
	while (t->id && strcmp(t->id, argv[1]))
		t++;
	if (!t->id)
		return 2;
	t->act();
	say("done", t->id);
	finish();
}
#endif
