// SPDX-License-Identifier: Apache-2.0
// Processes that are hard to bring to a halt. Each says `ready` once it is at it.
//   forks [MS]   forks without end; each child lives for MS
//   execs        runs itself without end
//   vforks       waits, as a vfork parent, for a child that does not exec
//   traces       holds a child in a ptrace stop
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void ready(void)
{
	if (write(1, "ready\n", 6) != 6)
		_exit(1);
}

static int forks(int life_ms)
{
	for (ready();; wait(0)) {
		if (fork() == 0) {
			usleep(life_ms * 1000);
			_exit(0);
		}
	}
}

static int vforks(void)
{
	pid_t child = vfork();

	if (child == 0) {
		ready();
		pause();
		_exit(0);
	}
	return 0;
}

static int traces(void)
{
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, 0, 0);
	ready();
	return pause();
}

int main(int argc, char **argv)
{
	const char *act = argc > 1 ? argv[1] : "";

	if (!strcmp(act, "forks"))
		return forks(argc > 2 ? atoi(argv[2]) : 0);
	if (!strcmp(act, "execs"))
		ready();
	if (!strcmp(act, "execs") || !strcmp(act, "again"))
		return execl(argv[0], argv[0], "again", (char *)0);
	if (!strcmp(act, "vforks"))
		return vforks();
	if (!strcmp(act, "traces"))
		return traces();
	return 2;
}
