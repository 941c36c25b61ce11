// SPDX-License-Identifier: Apache-2.0
// Serves files by FUSE and runs a command, or waits, while it does.
//   served MOUNTPOINT all|own [COMMAND...]
// `own` answers nobody but processes of its own session (setsid(2)): others wait for ever.
#define _GNU_SOURCE
#include "served.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	int device, status;
	pid_t command;

	if (argc < 3)
		return 2;
	device = mount_served(argv[1]);
	if (device < 0) {
		perror("served");
		return 1;
	}
	command = fork();
	if (!command) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(device);
		if (argc > 3)
			execvp(argv[3], argv + 3);
		else
			pause();
		perror("served");
		_exit(127);
	}
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(device, !strcmp(argv[2], "own"));
	}
	close(device); // or with its server it would not end
	puts("served");
	fflush(stdout);
	waitpid(command, &status, 0);
	umount2(argv[1], MNT_DETACH);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
