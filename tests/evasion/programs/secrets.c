// SPDX-License-Identifier: Apache-2.0
// Ways to a secret that do not look like opening the file that holds it, or not by its name.
#include "technique.h"

// B0: without any evasion ------------------------------------------------------------------------

static void by_name(void)
{
	take(must(open(credentials(), O_RDONLY), "open"));
}

// F5: moved away under another name of its directory ----------------------------------------------

static void moved_in_an_alias(void)
{
	must(mkdir("alias", 0700), "mkdir");
	must(mount(in("HOME", ".aws"), "alias", 0, MS_BIND, 0), "mount");
	must(rename("alias/credentials", "alias/x"), "rename");
	take(must(open("alias/x", O_RDONLY), "open"));
}

// F20: whose process, whose descriptor -----------------------------------------------------------

static void by_shell_builtin(void)
{
	const char *script = "{ read head; read secret; } < \"$HOME/.aws/credentials\"; echo done; "
			     ": > \"$CANARY\"; read rest < never";
	must(mkfifo("never", 0600), "mkfifo"); // a shell that runs `sleep` has forgotten its variables
	must(execl("/bin/sh", "sh", "-c", script, (char *)0), "execl");
}

static void by_inherited_descriptor(void)
{
	take(number("INHERITED_FD"));
}

// K5: a hold that somebody of one's own undoes ----------------------------------------------------

static void continued_by_a_sibling(void)
{
	if (!must(fork(), "fork"))
		for (;;)
			kill(first, SIGCONT);
	usleep(1000); // it is at it
	take(must(open(credentials(), O_RDONLY), "open"));
}

static void continued_to_keep_it(void)
{
	continued_by_a_sibling();
	put_file("taken", secret);
}

// F21: out of another process --------------------------------------------------------------------

static int open_of(const char *file)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/%s", number("OUTSIDER"), file);
	return must(open(path, O_RDONLY), "open");
}

static void by_environment(void)
{
	take(open_of("environ"));
}

static void by_environment_elsewhere(void)
{
	char path[64];
	mount_proc();
	snprintf(path, sizeof(path), "proc/%ld/environ", number("OUTSIDER"));
	take(must(open(path, O_RDONLY), "open"));
}

static void by_memory_file(void)
{
	must(pread(open_of("mem"), secret, 64, number("OUTSIDER_SECRET")), "pread");
}

static void by_memory_call(void)
{
	struct iovec here = {secret, 64}, there = {(void *)number("OUTSIDER_SECRET"), 64};
	must(process_vm_readv(number("OUTSIDER"), &here, 1, &there, 1, 0), "process_vm_readv");
}

// P1, P2: names that a monitor may trip over -----------------------------------------------------

#define DEEPER 30 // names of 199 bytes (props.py): longer than any path that a call takes

static void below_a_deep_directory(void)
{
	must(chdir(given("DEEP")), "chdir");
	for (int i = 0; i < DEEPER; i++) {
		char name[200];
		memset(name, 'd', sizeof(name) - 1);
		name[sizeof(name) - 1] = 0;
		must(chdir(name), "chdir");
	}
	take(must(open(".aws/credentials", O_RDONLY), "open"));
}

static void below_an_ugly_name(void)
{
	must(chdir("\n\033[2J\xff"), "chdir");
	take(must(open(".aws/credentials", O_RDONLY), "open"));
}

// P3: arguments that hide each other -------------------------------------------------------------

static void keeper(char *const argv[])
{
	pid_t child = must(fork(), "fork");
	if (!child) {
		execv("secret-tool", argv);
		must(-1, "execv");
	}
	waitpid(child, 0, 0);
}

static void keeper_by_its_name(void)
{
	keeper((char *[]){"secret-tool", "lookup", "service", "mail", 0});
}

static void behind_long_arguments(void)
{
	char *filler = malloc(120000);
	memset(filler, 'x', 119999);
	filler[119999] = 0;
	keeper((char *[]){"secret-tool", filler, "lookup", "service", "mail", 0});
}

static void with_empty_arguments(void)
{
	char *const nothing[] = {0};
	keeper(nothing); // a real keeper would ask on its standard input
}

const struct technique techniques[] = {
	{"B0-read", by_name},
	{"B0-keeper", keeper_by_its_name},
	{"F5-move", moved_in_an_alias},
	{"F20-builtin", by_shell_builtin},
	{"F20-descriptor", by_inherited_descriptor},
	{"K5-continue", continued_by_a_sibling},
	{"K5-keep", continued_to_keep_it},
	{"F21-environ", by_environment},
	{"F21-attached-environ", by_environment},
	{"F21-proc", by_environment_elsewhere},
	{"F21-mem", by_memory_file},
	{"F21-attached-mem", by_memory_file},
	{"F21-readv", by_memory_call},
	{"F21-attached-readv", by_memory_call},
	{"P1-deep", below_a_deep_directory},
	{"P2-ugly", below_an_ugly_name},
	{"P3-long", behind_long_arguments},
	{"P3-empty", with_empty_arguments},
	{0},
};
