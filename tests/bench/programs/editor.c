// SPDX-License-Identifier: Apache-2.0
/*
 * On every line of input an edit: `open PATH` to write, or `rename FROM TO`. Then prints the
 * CLOCK_BOOTTIME ns of the moment before the system call. In C, because an interpreter that wakes up
 * takes longer from its clock to the call than the call takes to be held. The answer comes after the
 * act, so the freeze comes before it: who reads it has to resume us first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void look_at(const char *path)
{
	char text[4096];
	int file = open(path, O_RDONLY);

	while (read(file, text, sizeof(text)) > 0)
		;
	close(file);
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void)
{
	char line[8192], first[4096], second[4096];

	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int words = sscanf(line, "%*s %4095s %4095s", first, second);
		long long before;
		int result;

		look_at(words == 2 ? second : first);
		if (words == 2) {
			before = now_ns();
			result = rename(first, second);
		} else {
			before = now_ns();
			result = open(first, O_WRONLY);
			if (result > 2)
				close(result);
		}
		if (result < 0 && errno != EPERM) /* refused: it did not happen */
			printf("failed: %s\n", strerror(errno));
		else
			printf("%lld\n", before);
		fflush(stdout);
	}
	return 0;
}
