/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of files by FUSE (the protocol of <linux/fuse.h>). Any name is there: a directory if it starts
 * with a dot, else a file. Nothing is remembered by the kernel, so every look is a question.
 */
#ifndef SERVED_H
#define SERVED_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY (1ULL << 62)
#define CONTENT "served\n"

static char request[1 << 18];
static struct {
	struct fuse_out_header header;
	char body[4096];
} answer;

static void attributes(struct fuse_attr *attr, uint64_t node)
{
	int directory = node == FUSE_ROOT_ID || (node & DIRECTORY);

	attr->ino = node;
	attr->mode = directory ? S_IFDIR | 0755 : S_IFREG | 0644;
	attr->nlink = 1;
	attr->size = directory ? 0 : strlen(CONTENT);
	attr->blksize = 4096;
}

static uint64_t node_of(uint64_t parent, const char *name)
{
	uint64_t node = parent * 31 + 7;

	for (const char *c = name; *c; c++)
		node = node * 131 + *c;
	node = (node & (DIRECTORY - 1)) | 2;
	return *name == '.' ? node | DIRECTORY : node;
}

/* How long the body of the answer is; a negative errno; or 1 where none is wanted. */
static int answer_to(struct fuse_in_header *in, char *body)
{
	struct fuse_entry_out *entry = (void *)answer.body;
	struct fuse_init_out *init = (void *)answer.body;
	struct fuse_attr_out *attr = (void *)answer.body;

	switch (in->opcode) {
	case FUSE_INIT:
		init->major = FUSE_KERNEL_VERSION;
		init->minor = 31;
		init->max_write = 65536;
		return sizeof(*init);
	case FUSE_LOOKUP:
		entry->nodeid = node_of(in->nodeid, body);
		attributes(&entry->attr, entry->nodeid);
		return sizeof(*entry);
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		attributes(&attr->attr, in->nodeid);
		return sizeof(*attr);
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		return sizeof(struct fuse_open_out);
	case FUSE_READ:
		memcpy(answer.body, CONTENT, strlen(CONTENT));
		return ((struct fuse_read_in *)body)->offset ? 0 : strlen(CONTENT);
	case FUSE_WRITE:
		((struct fuse_write_out *)answer.body)->size = ((struct fuse_write_in *)body)->size;
		return sizeof(struct fuse_write_out);
	case FUSE_READDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_UNLINK:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_ACCESS:
		return 0;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return 1;
	}
	return -ENOSYS;
}

/* A descriptor to serve by; -1. */
static inline int mount_served(const char *place)
{
	char options[128];
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	if (device < 0 || mount("served", place, "fuse", MS_NOSUID | MS_NODEV, options))
		return -1;
	return device;
}

/* Ends when it is unmounted. `own`: who is of another session (setsid(2)) waits for ever. */
static inline void serve(int device, int own)
{
	struct fuse_in_header *in = (void *)request;

	for (;;) {
		ssize_t got = read(device, request, sizeof(request));
		int done;

		if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (got < 0)
			_exit(0); /* unmounted */
		if (own && in->opcode != FUSE_INIT && in->pid && getsid(in->pid) != getsid(0))
			continue;
		memset(&answer, 0, sizeof(answer));
		done = answer_to(in, request + sizeof(*in));
		if (done == 1)
			continue;
		answer.header.unique = in->unique;
		answer.header.error = done < 0 ? done : 0;
		answer.header.len = sizeof(answer.header) + (done > 0 ? done : 0);
		if (write(device, &answer, answer.header.len) < 0 && errno != ENOENT)
			_exit(1);
	}
}
#endif
