// SPDX-License-Identifier: Apache-2.0
// Files that the session serves itself (FUSE): whoever looks at them waits for it.
#include "technique.h"
#include "../../kernel/programs/served.h"
#include <pthread.h>
#include <sys/prctl.h>

// A server in a process of its own, for this session and nobody else.
static pid_t serve_files(void)
{
	pid_t server;
	int device;

	must(mkdir("served", 0700), "mkdir");
	device = must(mount_served("served"), "mount");
	server = must(fork(), "fork");
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(device, 1);
	}
	close(device); // or with its server it would not end
	return server;
}

static void keep_it_waiting(void)
{
	serve_files();
	close(must(open("served/one", O_WRONLY | O_CREAT, 0600), "create"));
	must(rename("served/one", "served/two"), "rename");
	take(must(open(credentials(), O_RDONLY), "open"));
}

static void *wait_for_nobody(void *nothing)
{
	close(open("served/one", O_RDONLY));
	return nothing;
}

static void sleep_in_it(void)
{
	pid_t server = serve_files();
	pthread_t thread;

	must(kill(server, SIGSTOP), "kill");
	must((errno = pthread_create(&thread, 0, wait_for_nobody, 0)) ? -1 : 0, "pthread_create");
	usleep(30000); // until it waits
	edit_path(HOSTS);
}

const struct technique techniques[] = {
	{"K6-stuck", sleep_in_it},
	{"L3-served", keep_it_waiting},
	{0},
};
