// SPDX-License-Identifier: Apache-2.0
// Ways to change the hosts file that do not look like opening /etc/hosts and writing.
#include "technique.h"
#include <linux/aio_abi.h>
#include <linux/fanotify.h>
#include <linux/openat2.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>

// B0: without any evasion ------------------------------------------------------------------------

static void by_name(void)
{
	edit_path(HOSTS);
}

// F1: other calls, other spellings ---------------------------------------------------------------

static void by_openat2(void)
{
	struct open_how how = {.flags = O_WRONLY | O_APPEND, .resolve = RESOLVE_NO_MAGICLINKS};
	edit(must(syscall(SYS_openat2, AT_FDCWD, HOSTS, &how, sizeof(how)), "openat2"));
}

static void below_a_directory(void)
{
	int etc = must(open("/etc", O_PATH | O_DIRECTORY), "open");
	edit(must(openat(etc, "hosts", O_WRONLY | O_APPEND), "openat"));
}

static void from_a_directory(void)
{
	must(chdir("/etc"), "chdir");
	edit_path("./../etc/./hosts");
}

// F2, F3: other names ----------------------------------------------------------------------------

static void by_symlink(void)
{
	must(symlink(HOSTS, "notes"), "symlink");
	edit_path("notes");
}

static void by_directory_symlink(void)
{
	must(symlink("/etc/cron.d", "place"), "symlink");
	edit_path("place/../hosts"); // textually `./hosts`, really /etc/hosts
}

static void by_hard_link(void)
{
	must(link(HOSTS, "/etc/notes"), "link");
	edit_path("/etc/notes");
}

static void by_older_hard_link(void)
{
	edit_path("/etc/older-name"); // the stage made it before the session began
}

// F4: other roots --------------------------------------------------------------------------------

static void by_own_root(void)
{
	edit_path("/proc/self/root/etc/hosts");
}

static void by_root_of_another(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/root/etc/hosts", number("OUTSIDER"));
	edit_path(path);
}

static void by_own_descriptor(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%ld", must(open(HOSTS, O_PATH), "open"));
	edit_path(path);
}

static void in_a_chroot(void)
{
	must(chroot("/etc"), "chroot");
	edit_path("/hosts");
}

static void by_older_link_in_a_chroot(void)
{
	must(chroot("/etc"), "chroot");
	edit_path("/older-name");
}

// F5, F6, F19: mounts (the stage has put a file `false-hosts` into the working directory) ----------------------------------------------------------------------------

static void mount_an_alias(void)
{
	must(mkdir("alias", 0700), "mkdir");
	must(mount("/etc", "alias", 0, MS_BIND, 0), "mount");
}

static void by_bind_mount(void)
{
	mount_an_alias();
	edit_path("alias/hosts");
}

static void rename_in_an_alias(void)
{
	mount_an_alias();
	put_file("alias/.new", LINE);
	must(rename("alias/.new", "alias/hosts"), "rename");
}

static void unlink_in_an_alias(void)
{
	mount_an_alias();
	must(unlink("alias/hosts"), "unlink");
}

static void mount_over(void)
{
	must(mount("false-hosts", HOSTS, 0, MS_BIND, 0), "mount");
}

static void move_mount_over(void)
{
	int tree = must(syscall(SYS_open_tree, AT_FDCWD, "false-hosts", OPEN_TREE_CLONE), "open_tree");
	must(syscall(SYS_move_mount, tree, "", AT_FDCWD, HOSTS, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
}

static void mount_over_in_a_user_namespace(void)
{
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
	must(mount("false-hosts", HOSTS, 0, MS_BIND, 0), "mount");
}

static void overlay_over(void)
{
	// The upper layer cannot lie on the kind of file system that / may be here: a tmpfs can.
	must(mkdir("layers", 0700), "mkdir");
	must(mount("none", "layers", "tmpfs", 0, 0), "mount");
	must(mkdir("layers/upper", 0755), "mkdir");
	must(mkdir("layers/work", 0700), "mkdir");
	put_file("layers/upper/hosts", LINE);
	must(mount("none", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=layers/upper,workdir=layers/work"),
	     "mount");
}

// F7, F8, F9: another file under the name --------------------------------------------------------

static void rename_onto(void)
{
	put_file("/etc/.hosts.new", LINE);
	must(rename("/etc/.hosts.new", HOSTS), "rename");
}

static void exchange(void)
{
	put_file("/etc/.hosts.new", LINE);
	must(syscall(SYS_renameat2, AT_FDCWD, "/etc/.hosts.new", AT_FDCWD, HOSTS, RENAME_EXCHANGE),
	     "renameat2");
}

static void swap_the_directory(void)
{
	must(mkdir("/etc/new", 0755), "mkdir");
	put_file("/etc/new/resolved.conf", "DNS=127.0.0.1\n");
	must(rename("/etc/systemd", "/etc/old"), "rename");
	must(rename("/etc/new", "/etc/systemd"), "rename");
}

static void unlink_and_create(void)
{
	must(unlink(HOSTS), "unlink");
	put_file(HOSTS, LINE);
}

static void link_a_nameless_file(void)
{
	char path[64];
	int fd = must(open("/etc", O_TMPFILE | O_RDWR, 0644), "open");

	edit(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must(unlink(HOSTS), "unlink");
	must(linkat(AT_FDCWD, path, AT_FDCWD, HOSTS, AT_SYMLINK_FOLLOW), "linkat");
}

// F10: memory ------------------------------------------------------------------------------------

static void store_to_a_mapping(void)
{
	int fd = must(open(HOSTS, O_RDWR), "open");
	char *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(at == MAP_FAILED ? -1 : 0, "mmap");
	memcpy(at, "6.6.6.6", 7);
}

static void store_after_mprotect(void)
{
	int fd = must(open(HOSTS, O_RDWR), "open");
	char *at = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	must(at == MAP_FAILED ? -1 : 0, "mmap");
	close(fd);
	must(mprotect(at, 4096, PROT_READ | PROT_WRITE), "mprotect");
	memcpy(at, "6.6.6.6", 7);
}

// F11, F12, F13: descriptors that others opened --------------------------------------------------

static void by_inherited_descriptor(void)
{
	edit(number("INHERITED_FD"));
}

static void by_passed_descriptor(void)
{
	edit(receive_fd("@estop-hosts"));
}

static void by_stolen_descriptor(void)
{
	int process = must(syscall(SYS_pidfd_open, number("OUTSIDER"), 0), "pidfd_open");
	edit(must(syscall(SYS_pidfd_getfd, process, number("OUTSIDER_FD"), 0), "pidfd_getfd"));
}

// F14, F15, F16: other calls ---------------------------------------------------------------------

static void by_truncate(void)
{
	must(truncate(HOSTS, 0), "truncate");
}

static void by_handle(void)
{
	union {
		struct file_handle head;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} handle = {.head.handle_bytes = MAX_HANDLE_SZ};
	int mount_id, etc = must(open("/etc", O_RDONLY | O_DIRECTORY), "open");

	must(name_to_handle_at(AT_FDCWD, HOSTS, &handle.head, &mount_id, 0), "name_to_handle_at");
	edit(must(open_by_handle_at(etc, &handle.head, O_WRONLY | O_APPEND), "open_by_handle_at"));
}

static int source(void)
{
	return must(open("false-hosts", O_RDONLY), "open");
}

static int target(void)
{
	return must(open(HOSTS, O_WRONLY), "open");
}

static void by_sendfile(void)
{
	int from = source();
	must(sendfile(target(), from, 0, strlen(LINE)), "sendfile");
}

static void by_copy_file_range(void)
{
	int from = source();
	must(copy_file_range(from, 0, target(), 0, strlen(LINE), 0), "copy_file_range");
}

static void by_splice(void)
{
	int pipes[2];
	must(pipe(pipes), "pipe");
	edit(pipes[1]);
	must(splice(pipes[0], 0, target(), 0, strlen(LINE), 0), "splice");
}

static void by_pwritev2(void)
{
	struct iovec line = {LINE, strlen(LINE)};
	must(pwritev2(target(), &line, 1, 0, RWF_DSYNC), "pwritev2");
}

static void by_aio(void)
{
	aio_context_t context = 0;
	struct io_event event;
	struct iocb write_it = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = target(),
				.aio_buf = (uintptr_t)LINE, .aio_nbytes = strlen(LINE)};
	struct iocb *list[] = {&write_it};

	must(syscall(SYS_io_setup, 1, &context), "io_setup");
	must(syscall(SYS_io_submit, context, 1, list), "io_submit");
	must(syscall(SYS_io_getevents, context, 1, 1, &event, 0), "io_getevents");
}

// F18: below the file system ---------------------------------------------------------------------

static void by_device_node(void)
{
	unsigned major, minor;
	must(sscanf(given("DISK"), "%u:%u", &major, &minor) == 2 ? 0 : (errno = ENODEV, -1), "a disk");
	must(mknod("spare", S_IFBLK | 0600, makedev(major, minor)), "mknod");
	must(open("spare", O_RDONLY), "open");
	say("opened", "the disk");
}

static void by_memory_device(void)
{
	must(open("/dev/mem", O_RDONLY), "open /dev/mem");
	say("opened", "the memory");
}

// F22: a descriptor that the kernel opens for us -------------------------------------------------

static void by_fanotify(void)
{
	struct fanotify_event_metadata event;
	int group = must(syscall(SYS_fanotify_init, FAN_CLASS_NOTIF, O_RDWR), "fanotify_init");

	must(syscall(SYS_fanotify_mark, group, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, HOSTS),
	     "fanotify_mark");
	must(open(HOSTS, O_RDONLY), "open"); // as everybody may
	must(read(group, &event, sizeof(event)), "read");
	edit(event.fd);
}

const struct technique techniques[] = {
	{"B0-edit", by_name},
	{"F1-openat2", by_openat2},
	{"F1-openat", below_a_directory},
	{"F1-chdir", from_a_directory},
	{"F2-symlink", by_symlink},
	{"F2-directory", by_directory_symlink},
	{"F3-link", by_hard_link},
	{"F3-older-link", by_older_hard_link},
	{"F4-self-root", by_own_root},
	{"F4-other-root", by_root_of_another},
	{"F4-attached-other-root", by_root_of_another},
	{"F4-fd", by_own_descriptor},
	{"F4-chroot", in_a_chroot},
	{"F4-chroot-link", by_older_link_in_a_chroot},
	{"F5-bind", by_bind_mount},
	{"F5-rename", rename_in_an_alias},
	{"F5-unlink", unlink_in_an_alias},
	{"F6-mount", mount_over},
	{"F6-move-mount", move_mount_over},
	{"F6-userns", mount_over_in_a_user_namespace},
	{"F7-rename", rename_onto},
	{"F7-exchange", exchange},
	{"F8-directory", swap_the_directory},
	{"F9-create", unlink_and_create},
	{"F9-tmpfile", link_a_nameless_file},
	{"F10-mmap", store_to_a_mapping},
	{"F10-mprotect", store_after_mprotect},
	{"F11-inherited", by_inherited_descriptor},
	{"F12-passed", by_passed_descriptor},
	{"F13-pidfd-getfd", by_stolen_descriptor},
	{"F13-attached-pidfd-getfd", by_stolen_descriptor},
	{"F14-truncate", by_truncate},
	{"F15-handle", by_handle},
	{"F15-attached-handle", by_handle},
	{"F16-sendfile", by_sendfile},
	{"F16-copy-file-range", by_copy_file_range},
	{"F16-splice", by_splice},
	{"F16-pwritev2", by_pwritev2},
	{"F16-aio", by_aio},
	{"F18-node", by_device_node},
	{"F18-mem", by_memory_device},
	{"F19-overlay", overlay_over},
	{"F22-fanotify", by_fanotify},
	{"F22-attached", by_fanotify},
	{0},
};
