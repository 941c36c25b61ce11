// SPDX-License-Identifier: Apache-2.0
// Births, deaths and threads that a monitor could lose sight of. Each act ends with a touch of PATH.
//   exit CODE | signal NUMBER | wait
//   daemon PATH               double fork and a new session; the grandchild touches PATH
//   leader-leaves PATH        the main thread ends first, another one touches PATH, then exits 7
//   outlived [DIRECTORY TARGET]   the main thread has ended, another one waits; told to (by a line), it mounts
//                             over DIRECTORY where nobody else sees it, and changes the mode of a link to TARGET
//   beside DIRECTORY TARGET   the same with a main thread that stays
//   thread-ends PATH          a thread ends, then the main thread touches PATH, then exits 7
//   thread-yields PATH        a thread makes itself less important, then touches PATH
//   born-into CGROUP PATH     a child made straight into a cgroup touches PATH
//   children COUNT            that many children, each waiting
//   owners UID WHICH          two children, one with that as its real, effective or saved user id
//   zombie                    a child that ended and is not asked for
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void touch(const char *path)
{
	close(open(path, O_WRONLY | O_CREAT, 0600));
}

static int daemonise(const char *path)
{
	if (fork()) {
		wait(0);
		return 0;
	}
	setsid();
	if (fork() == 0) {
		while (getppid() != 1) // re-parented: nothing but the map leads back to us
			usleep(200);
		touch(path);
	}
	_exit(0);
}

static void *outlive(void *path)
{
	usleep(20000);
	touch(path);
	exit(7);
}

static void *end(void *nothing)
{
	return nothing;
}

static int leader_leaves(char *path)
{
	pthread_t thread;

	pthread_create(&thread, 0, outlive, path);
	pthread_exit(0);
}

static char state_of_the_main_thread(void)
{
	char text[512] = "", *end;
	int stat = open("/proc/self/stat", O_RDONLY);

	if (read(stat, text, sizeof(text) - 1) < 0)
		perror("stat");
	close(stat);
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

static int change_behind(const char *directory, const char *target)
{
	if (unshare(CLONE_NEWNS | CLONE_FS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0)
	    || mount("none", directory, "tmpfs", 0, 0) || chdir(directory) || symlink(target, "link"))
		return -1;
	return chmod("link", 0700);
}

static void *outlive_and_wait(void *argv)
{
	char **arguments = argv;

	while (!strcmp(arguments[1], "outlived") && state_of_the_main_thread() != 'Z')
		usleep(200);
	printf("ready\n");
	fflush(stdout);
	while (getchar() != '\n' || !arguments[2])
		if (feof(stdin))
			pause();
	printf(change_behind(arguments[2], arguments[3]) ? "failed\n" : "done\n");
	fflush(stdout);
	pause();
	return 0;
}

static int outlived(char **argv)
{
	pthread_t thread;

	pthread_create(&thread, 0, outlive_and_wait, argv);
	if (!strcmp(argv[1], "beside"))
		return pthread_join(thread, 0);
	pthread_exit(0);
}

static int thread_ends(char *path)
{
	pthread_t thread;

	pthread_create(&thread, 0, end, 0);
	pthread_join(thread, 0);
	usleep(5000); // join returns a little before the thread is gone
	touch(path);
	return 7;
}

static void *yield_and_touch(void *path)
{
	setpriority(PRIO_PROCESS, gettid(), 5);
	touch(path);
	return 0;
}

static int thread_yields(char *path)
{
	pthread_t thread;

	pthread_create(&thread, 0, yield_and_touch, path);
	return pthread_join(thread, 0);
}

static int born_into(const char *cgroup, const char *path)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)open(cgroup, O_DIRECTORY | O_RDONLY),
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0) {
		perror("clone3");
		return 1;
	}
	if (pid == 0) {
		touch(path);
		_exit(0);
	}
	printf("%ld\n", pid);
	wait(0);
	return 0;
}

static int children(int count)
{
	while (count--)
		if (fork() == 0)
			pause();
	printf("ready\n");
	fflush(stdout);
	return pause();
}

static int owners(int uid, const char *which)
{
	int ready[2];
	char byte;

	if (pipe(ready))
		return 1;
	if (fork() == 0)
		pause();
	if (fork() == 0) {
		if (!setresuid(*which == 'r' ? uid : -1, *which == 'e' ? uid : -1, *which == 's' ? uid : -1)
		    && write(ready[1], "", 1) == 1)
			pause();
	}
	if (read(ready[0], &byte, 1) == 1)
		printf("ready\n");
	fflush(stdout);
	return pause();
}

static int zombie(void)
{
	siginfo_t info;

	if (fork() == 0)
		_exit(0);
	waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
	printf("ready\n");
	fflush(stdout);
	return pause();
}

int main(int argc, char **argv)
{
	const char *act = argc > 1 ? argv[1] : "";

	if (!strcmp(act, "exit"))
		return atoi(argv[2]);
	if (!strcmp(act, "signal"))
		return raise(atoi(argv[2]));
	if (!strcmp(act, "wait"))
		return pause();
	if (!strcmp(act, "daemon"))
		return daemonise(argv[2]);
	if (!strcmp(act, "leader-leaves"))
		return leader_leaves(argv[2]);
	if (!strcmp(act, "outlived") || !strcmp(act, "beside"))
		return outlived(argv);
	if (!strcmp(act, "thread-ends"))
		return thread_ends(argv[2]);
	if (!strcmp(act, "thread-yields"))
		return thread_yields(argv[2]);
	if (!strcmp(act, "born-into"))
		return born_into(argv[2], argv[3]);
	if (!strcmp(act, "children"))
		return children(atoi(argv[2]));
	if (!strcmp(act, "owners"))
		return owners(atoi(argv[2]), argv[3]);
	if (!strcmp(act, "zombie"))
		return zombie();
	return 2;
}
