// SPDX-License-Identifier: Apache-2.0
// Ways out of the session, and ways to have somebody outside of it act.
#include "technique.h"
#include <linux/capability.h>
#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/xattr.h>

// C: the tree ------------------------------------------------------------------------------------

static void move_to(const char *cgroup)
{
	char path[4200];
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	int fd = must(open(path, O_WRONLY), "open");
	must(write(fd, "0", 1), "write");
	close(fd);
}

static void to_another_cgroup(void)
{
	move_to(given("AWAY"));
	edit_path(HOSTS);
}

static void edit_in_child(struct clone_args *args, size_t size)
{
	pid_t child = must(syscall(SYS_clone3, args, size), "clone3");
	if (!child) {
		edit_path(HOSTS);
		rest();
	}
	usleep(50000);
}

static void born_in_another_cgroup(void)
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	args.cgroup = must(open(given("AWAY"), O_RDONLY | O_DIRECTORY), "open");
	edit_in_child(&args, sizeof(args));
}

static void to_a_cgroup_below(void)
{
	char path[4200], line[4096];
	FILE *own = fopen("/proc/self/cgroup", "r");

	*path = 0;
	while (own && fgets(line, sizeof(line), own)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3))
			snprintf(path, sizeof(path), "%s%s/below", given("CGROUPS"), line + 3);
	}
	must(mkdir(path, 0700), "mkdir");
	move_to(path);
	edit_path(HOSTS);
}

static void by_double_fork(void)
{
	if (must(fork(), "fork"))
		return (void)usleep(50000);
	setsid();
	if (fork())
		_exit(0);
	while (getppid() == first)
		usleep(200);
	edit_path(HOSTS);
	rest();
}

static void by_mounted_cgroups(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWCGROUP), "unshare");
	must(mkdir("groups", 0700), "mkdir");
	must(mount("none", "groups", "cgroup2", 0, 0), "mount");
	must(mkdir("groups/deeper", 0700), "mkdir");
	move_to("groups/deeper");
	edit_path(HOSTS);
}

static void with_a_used_pid(void)
{
	pid_t child = must(fork(), "fork");
	if (!child)
		_exit(0);
	waitpid(child, 0, 0);
	uint64_t again = child;
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&again, .set_tid_size = 1};
	edit_in_child(&args, sizeof(args));
}

// D1, D2, D4: services that run programs for others ----------------------------------------------

static void by_service_manager(void) { edit(join(AF_UNIX, "/run/systemd/private")); }

static void by_its_program(void)
{
	const char *program = "/usr/bin/systemd-run";

	must(access(program, X_OK), "find systemd-run");
	if (!must(fork(), "fork")) {
		execl(program, program, "--no-ask-password", "true", (char *)0);
		_exit(1);
	}
	usleep(200000); // it waits for an answer that nobody gives
}

static void by_system_bus(void) { edit(join(AF_UNIX, "/run/dbus/system_bus_socket")); }
static void by_container_engine(void) { edit(join(AF_UNIX, "/run/docker.sock")); }
static void by_second_engine(void) { edit(join(AF_UNIX, "/run/podman/podman.sock")); }
static void by_third_engine(void) { edit(join(AF_UNIX, "/run/containerd/containerd.sock")); }
static void by_other_name_of_the_engine(void) { edit(join(AF_UNIX, "/run/other/engine.sock")); }
// By int $0x80, which a 64-bit program may use; what it points to must lie low.
static void by_old_socket_call(void)
{
	struct low {
		uint32_t arguments[3];
		struct sockaddr_un to;
	} *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), result;

	must(low == MAP_FAILED ? -1 : 0, "mmap");
	low->to.sun_family = AF_UNIX;
	strcpy(low->to.sun_path, "/run/docker.sock");
	low->arguments[0] = fd;
	low->arguments[1] = (uintptr_t)&low->to;
	low->arguments[2] = sizeof(low->to);
	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(102 /* socketcall */), "b"(3 /* SYS_CONNECT */), "c"(low->arguments)
		     : "r8", "r9", "r10", "r11", "memory");
	must(result < 0 ? (errno = -result, -1) : 0, "socketcall");
	edit(fd);
}

static void by_terminal_server(void) { edit(join(AF_UNIX, "/run/screen/S-root/1")); }
static void by_other_terminal_server(void) { edit(join(AF_UNIX, "/run/tmux-0/default")); }
static void by_key_agent(void) { edit(join(AF_UNIX, "/run/keys/agent.1")); }

static void by_local_port(int port)
{
	unsigned char to[16] = {AF_INET, 0, port >> 8, port, 127, 0, 0, 1};
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(connect(fd, (void *)to, sizeof(to)), "connect");
	edit(fd);
}

static void by_local_shell_server(void) { by_local_port(22); }
static void by_port_of_the_engine(void) { by_local_port(2375); }
static void by_port_of_the_cluster(void) { by_local_port(10250); }

// D3, D7, D8: files that others run --------------------------------------------------------------

static void by_schedule(void)
{
	put_file("/etc/.new", "* * * * * root true\n");
	must(rename("/etc/.new", "/etc/cron.d/update"), "rename");
}

static void by_unit(void)
{
	put_file("/etc/systemd/system/update.service", "[Service]\nExecStart=/bin/true\n");
}

static void by_start_script(void)
{
	put_file("/etc/.new", "#!/bin/sh\n");
	must(rename("/etc/.new", "/etc/rc.local"), "rename");
}

static void by_device_rule(void)
{
	put_file("/etc/udev/rules.d/99-update.rules", "ACTION==\"add\", RUN+=\"/bin/true\"\n");
}

static void by_login_module(void)
{
	put_file("/etc/pam.d/login", "auth sufficient pam_permit.so\n");
}

static void by_login_shell(void)
{
	int fd = must(open(in("HOME", ".profile"), O_WRONLY | O_CREAT | O_APPEND, 0600), "open");
	must(write(fd, "true\n", 5), "write");
}

static void by_job(void)
{
	// The stage has a spool of its own.
	must(mkdir("/var/spool/cron", 0755), "mkdir");
	must(mkdir("/var/spool/cron/atjobs", 0700), "mkdir");
	put_file("/var/spool/cron/atjobs/a00001", "#!/bin/sh\n");
}

static void by_hook(void)
{
	put_file(in("WORK", ".git/hooks/post-commit"), "#!/bin/sh\n");
}

static void by_build_file(void)
{
	put_file(in("WORK", "Makefile"), "all:\n\ttrue\n");
}

static void by_installed_module(void)
{
	put_file(in("WORK", ".venv/lib/python3.11/site-packages/requests.py"), "import os\n");
}

static void by_install_script(void)
{
	put_file(in("WORK", "package.json"), "{\"scripts\": {\"postinstall\": \"true\"}}\n");
}

static void by_build_service(void)
{
	must(mkdir(".github", 0755), "mkdir");
	must(mkdir(".github/workflows", 0755), "mkdir");
	put_file(in("WORK", ".github/workflows/build.yml"), "on: push\n");
}

static void by_core_pattern(void)
{
	int fd = must(open("/proc/sys/kernel/core_pattern", O_WRONLY), "open");
	edit(fd);
}

// These are the machine's own, so they are opened, and nothing is written.
static void open_setting(const char *path)
{
	close(must(open(path, O_WRONLY), "open"));
	say("opened", "the setting");
}

static void by_mounted_proc(void)
{
	mount_proc();
	open_setting("proc/sys/kernel/core_pattern");
}

static void by_bound_setting(void)
{
	mount_proc();
	put_file("setting", "");
	must(mount("proc/sys/kernel/core_pattern", "setting", 0, MS_BIND, 0), "mount");
	open_setting("setting");
}

static void by_module_loader(void) { open_setting("/proc/sys/kernel/modprobe"); }
static void by_binary_format(void) { open_setting("/proc/sys/fs/binfmt_misc/register"); }

static void by_other_mount_of_formats(void)
{
	must(unshare(CLONE_NEWNS), "unshare");
	must(mkdir("formats", 0700), "mkdir");
	must(mount("none", "formats", "binfmt_misc", 0, 0), "mount");
	open_setting("formats/register");
}

// Only where such a hierarchy is there already: to mount another one makes it for everybody.
#define OLD_CGROUP "/sys/fs/cgroup/memory/release_agent"

static void by_release_agent(void) { open_setting(OLD_CGROUP); }

static void by_mounted_release_agent(void)
{
	must(access(OLD_CGROUP, F_OK), "find " OLD_CGROUP);
	must(unshare(CLONE_NEWNS), "unshare");
	must(mkdir("groups", 0700), "mkdir");
	must(mount("none", "groups", "cgroup", 0, "memory"), "mount");
	open_setting("groups/release_agent");
}

// D5: inside of another process ------------------------------------------------------------------

static void by_memory_call(void)
{
	struct iovec here = {LINE, 8}, there = {(void *)number("OUTSIDER_CLAY"), 8};
	must(process_vm_writev(number("OUTSIDER"), &here, 1, &there, 1, 0), "process_vm_writev");
}

static void by_memory_file(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/mem", number("OUTSIDER"));
	int fd = must(open(path, O_RDWR), "open");
	must(pwrite(fd, LINE, 8, number("OUTSIDER_CLAY")), "pwrite");
}

static void by_ptrace(void)
{
	long pid = number("OUTSIDER"), word;
	memcpy(&word, LINE, sizeof(word));
	must(ptrace(PTRACE_SEIZE, pid, 0, 0), "ptrace");
	must(ptrace(PTRACE_INTERRUPT, pid, 0, 0), "ptrace");
	waitpid(pid, 0, __WALL);
	must(ptrace(PTRACE_POKEDATA, pid, number("OUTSIDER_CLAY"), word), "ptrace");
	must(ptrace(PTRACE_DETACH, pid, 0, 0), "ptrace");
}

// D6: a program with other rights ----------------------------------------------------------------

static void by_set_user_id(void)
{
	put_file("tool", "#!/bin/sh\n");
	must(chmod("tool", 04755), "chmod");
}

static void by_mode_at_birth(void)
{
	close(must(open("tool", O_WRONLY | O_CREAT, 04755), "create"));
}

static void by_file_capability(void)
{
	struct vfs_cap_data rights = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
				      .data[0].permitted = 1 << CAP_SETUID};
	put_file("tool", "#!/bin/sh\n");
	must(setxattr("tool", "security.capability", &rights, sizeof(rights), 0), "setxattr");
}

const struct technique techniques[] = {
	{"C1-move", to_another_cgroup},
	{"C2-clone", born_in_another_cgroup},
	{"C3-below", to_a_cgroup_below},
	{"C4-daemon", by_double_fork},
	{"C5-namespace", by_mounted_cgroups},
	{"C6-pid", with_a_used_pid},
	{"D1-systemd", by_service_manager},
	{"D1-run", by_its_program},
	{"D1-dbus", by_system_bus},
	{"D2-docker", by_container_engine},
	{"D2-renamed", by_other_name_of_the_engine},
	{"D2-socketcall", by_old_socket_call},
	{"D2-attached", by_old_socket_call},
	{"D2-podman", by_second_engine},
	{"D2-containerd", by_third_engine},
	{"D3-cron", by_schedule},
	{"D3-unit", by_unit},
	{"D3-rc", by_start_script},
	{"D3-udev", by_device_rule},
	{"D3-pam", by_login_module},
	{"D3-profile", by_login_shell},
	{"D3-at", by_job},
	{"D3-hook", by_hook},
	{"D4-screen", by_terminal_server},
	{"D4-tmux", by_other_terminal_server},
	{"D4-agent", by_key_agent},
	{"D4-ssh", by_local_shell_server},
	{"D4-engine-tcp", by_port_of_the_engine},
	{"D4-kubelet", by_port_of_the_cluster},
	{"D5-writev", by_memory_call},
	{"D5-attached-writev", by_memory_call},
	{"D5-mem", by_memory_file},
	{"D5-attached-mem", by_memory_file},
	{"D5-ptrace", by_ptrace},
	{"D5-attached-ptrace", by_ptrace},
	{"D6-setuid", by_set_user_id},
	{"D6-create", by_mode_at_birth},
	{"D6-capability", by_file_capability},
	{"D7-makefile", by_build_file},
	{"D7-venv", by_installed_module},
	{"D7-npm", by_install_script},
	{"D7-workflow", by_build_service},
	{"D8-core", by_core_pattern},
	{"D8-proc", by_mounted_proc},
	{"D8-bound", by_bound_setting},
	{"D8-modprobe", by_module_loader},
	{"D8-binfmt", by_binary_format},
	{"D8-formats", by_other_mount_of_formats},
	{"D8-release-agent", by_release_agent},
	{"D8-release-mount", by_mounted_release_agent},
	{0},
};
