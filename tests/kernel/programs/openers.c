// SPDX-License-Identifier: Apache-2.0
// Opens a file from several threads at once and says what each got: an error number, or 0.
//
//   openers PATH THREADS [block]
//
// `ready`, and a line in, then all threads try; a line of their results comes out, and how often
// the handler of SIGUSR1 ran, which was installed without SA_RESTART. `block`: SIGCONT is blocked.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 8

static pthread_barrier_t start;
static const char *path;
static volatile sig_atomic_t handled;

static void count(int number)
{
	(void)number;
	handled++;
}

static void *try(void *result)
{
	pthread_barrier_wait(&start);
	*(int *)result = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) < 0 ? errno : 0;
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = count};
	int results[THREADS], threads = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t ids[THREADS];
	sigset_t blocked;
	char line[8];

	if (threads < 1 || threads > THREADS)
		return 1;
	path = argv[1];
	sigaction(SIGUSR1, &action, 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCONT);
	if (argc > 3)
		sigprocmask(SIG_BLOCK, &blocked, 0);
	pthread_barrier_init(&start, 0, threads);
	for (int i = 1; i < threads; i++)
		pthread_create(&ids[i], 0, try, &results[i]);
	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	try(&results[0]);
	for (int i = 1; i < threads; i++)
		pthread_join(ids[i], 0);
	for (int i = 0; i < threads; i++)
		printf("%d ", results[i]);
	printf("%d\n", (int)handled);
	return 0;
}
