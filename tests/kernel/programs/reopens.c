// SPDX-License-Identifier: Apache-2.0
// reopens DIRECTORY FILES OPENS CHILDREN
//
// Opens files of a directory in turn, as fast as it can, and has short-lived children in between.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096];
	long files, opens, children;

	if (argc != 5)
		return 2;
	files = atol(argv[2]);
	opens = atol(argv[3]);
	children = atol(argv[4]);
	for (long i = 0; i < opens; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%ld", argv[1], i % files);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			return 1;
		close(fd);
		if (i % (opens / children) == 0) {
			pid_t child = fork();

			if (!child)
				_exit(0);
			waitpid(child, 0, 0);
		}
	}
	return 0;
}
