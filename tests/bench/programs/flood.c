// SPDX-License-Identifier: Apache-2.0
/*
 * flood DIRECTORY FILES: makes as many files, says so, and then opens them in turn, for ever and as fast as
 * it can. With more files than the kernel side remembers (MAX_TOUCHED of bpf/maps.h) each is news.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char name[32];
	long files;

	if (argc != 3 || chdir(argv[1]))
		return 2;
	files = atol(argv[2]);
	for (long turn = 0;; turn++) {
		snprintf(name, sizeof(name), "%ld", turn % files);
		close(open(name, turn < files ? O_WRONLY | O_CREAT : O_RDONLY, 0600));
		if (turn == files) {
			printf("at it\n");
			fflush(stdout);
		}
	}
}
