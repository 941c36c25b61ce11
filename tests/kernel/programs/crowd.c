// SPDX-License-Identifier: Apache-2.0
// Makes and removes a file from several threads at once, as often as it is told, and ends.
//
// usage: crowd DIRECTORY THREADS ROUNDS

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 16

static const char *directory;
static int rounds;

static void *make(void *number)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%ld", directory, (long)number);
	for (int i = 0; i < rounds; i++) {
		int fd = open(path, O_WRONLY | O_CREAT, 0600);
		if (fd < 0 || close(fd) || unlink(path))
			err(1, "%s", path);
	}
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t ids[THREADS];
	int threads = argc == 4 ? atoi(argv[2]) : 0;

	if (threads < 1 || threads > THREADS)
		errx(2, "usage: crowd DIRECTORY THREADS ROUNDS");
	directory = argv[1];
	rounds = atoi(argv[3]);
	for (long i = 0; i < threads; i++)
		if ((errno = pthread_create(&ids[i], 0, make, (void *)i)))
			err(1, "pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], 0);
	return 0;
}
