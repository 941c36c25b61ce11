// SPDX-License-Identifier: Apache-2.0
// Much of one kind of act at once.
//   same PATH COUNT      open one file to write
//   files DIRECTORY COUNT   create as many files, and remove them
//   opens DIRECTORY COUNT   create as many files
//   memfds COUNT
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *act = argc > 2 ? argv[1] : "";
	int count = atoi(argv[argc - 1]);
	char path[4096];

	for (int i = 0; i < count; i++) {
		if (!strcmp(act, "same")) {
			close(open(argv[2], O_WRONLY));
		} else if (!strcmp(act, "files") || !strcmp(act, "opens")) {
			snprintf(path, sizeof(path), "%s/%d", argv[2], i);
			close(open(path, O_WRONLY | O_CREAT, 0600));
			if (!strcmp(act, "files"))
				unlink(path);
		} else if (!strcmp(act, "memfds")) {
			close(memfd_create("flood", 0));
		} else {
			return 2;
		}
	}
	return 0;
}
