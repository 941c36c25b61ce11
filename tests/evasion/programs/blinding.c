// SPDX-License-Identifier: Apache-2.0
// Attacks on the monitor itself. All that these reach is the private monitor of the test: its pid, its
// maps and its directories are given by the stage.
#include "technique.h"
#include <linux/bpf.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timex.h>

// L1, P4: many events ----------------------------------------------------------------------------

static void *create_files(void *prefix)
{
	char name[64];
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "/run/%d-%ld", i & 1023, (long)prefix);
		close(open(name, O_WRONLY | O_CREAT, 0600));
		unlink(name);
	}
	return 0;
}

static void *read_hosts(void *nothing)
{
	for (int i = 0; i < 20000; i++)
		close(open(HOSTS, O_RDONLY));
	return nothing;
}

static void amid(void *(*noise)(void *), int count)
{
	pthread_t threads[64];
	for (long i = 0; i < count; i++)
		must((errno = pthread_create(&threads[i], 0, noise, (void *)i)) ? -1 : 0, "pthread_create");
	usleep(30000); // in the middle of it
	edit_path(HOSTS);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], 0);
}

static void in_a_flood(void) { amid(create_files, 4); }
static void among_threads(void) { amid(read_hosts, 64); }

// L2: text that slow matchers choke on -----------------------------------------------------------

static void with_heavy_names(void)
{
	char name[4096] = "/tmp", *at = name + 4;
	while (at < name + 4000)
		at = stpcpy(at, "/home/root/.a/..");
	for (int i = 0; i < 500; i++) {
		snprintf(at, 16, "/%d", i);
		close(open(name, O_WRONLY | O_CREAT, 0600)); // there is no such directory
		symlink(name, "heavy");
		unlink("heavy");
	}
	edit_path(HOSTS);
}

// S1: the process --------------------------------------------------------------------------------

static void stop_it(void)
{
	must(kill(number("MONITOR"), SIGSTOP), "kill");
}

static void be_first_to_die(const char *proc)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%ld/oom_score_adj", proc, number("MONITOR"));
	int fd = must(open(path, O_WRONLY), "open");
	must(write(fd, "999", 3), "write");
}

static void tell_the_oom_killer(void) { be_first_to_die("/proc"); }

static void tell_the_oom_killer_elsewhere(void)
{
	mount_proc();
	be_first_to_die("proc");
}

static void limit_it(void)
{
	struct rlimit few = {16, 4096};
	must(prlimit(number("MONITOR"), RLIMIT_NOFILE, &few, 0), "prlimit");
}

static void limit_its_time(void)
{
	struct rlimit hour = {3600, RLIM_INFINITY}; // far more than it lives
	must(prlimit(number("MONITOR"), RLIMIT_CPU, &hour, 0), "prlimit");
}

static void trace_it(void)
{
	must(syscall(SYS_ptrace, 0x4206 /* SEIZE */, number("MONITOR"), 0, 0), "ptrace");
	must(syscall(SYS_ptrace, 0x4207 /* INTERRUPT */, number("MONITOR"), 0, 0), "ptrace");
}

// S2: its maps and programs ----------------------------------------------------------------------

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void empty(int map)
{
	char key[4096], next[4096];
	for (int i = 0; i < 100000; i++) {
		union bpf_attr attr = {.map_fd = map, .key = 0, .next_key = (uintptr_t)next};
		if (bpf(BPF_MAP_GET_NEXT_KEY, &attr))
			return;
		memcpy(key, next, sizeof(key));
		attr = (union bpf_attr){.map_fd = map, .key = (uintptr_t)key};
		if (bpf(BPF_MAP_DELETE_ELEM, &attr))
			return; // an array: nothing can be deleted there
	}
}

// Its map ids are given; after this no map says that we belong to a session.
static void empty_its_maps(void)
{
	char *list = strdup(given("MAPS"));
	for (char *word = strtok(list, " "); word; word = strtok(0, " ")) {
		union bpf_attr attr = {.map_id = atoi(word)};
		empty(must(bpf(BPF_MAP_GET_FD_BY_ID, &attr), "bpf"));
	}
	edit_path(HOSTS);
}

static void list_maps(void)
{
	union bpf_attr attr = {0};
	must(bpf(BPF_MAP_GET_NEXT_ID, &attr), "bpf");
	say("opened", "the list of maps");
}

static void remove_its_pins(void)
{
	must(*given("PIN") ? 0 : (errno = ENOENT, -1), "a pin of the monitor");
	must(unlink(given("PIN")), "unlink");
}

static void take_its_pins_away(void)
{
	// From the stage's mounts alone, which are private: for the monitor it is where it was.
	must(umount2(in("RUNTIME", "bpf"), MNT_DETACH), "umount");
	say("opened", "the pins' place");
}

// S3, S4 -----------------------------------------------------------------------------------------

static void kill_it_and_act(void)
{
	must(kill(number("MONITOR"), SIGKILL), "kill");
	usleep(20000);
	edit_path(HOSTS);
}

static void load_a_module(void)
{
	char image[64] = "not a module";
	if (syscall(SYS_init_module, image, sizeof(image), "") && errno == ENOEXEC)
		return say("opened", "the module loader"); // it looked at the image: anything goes
	must(-1, "init_module");
}

static void load_a_program(void)
{
	const uint64_t code[] = {0xb7, 0x95}; // r0 = 0; return
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT, .insns = (uintptr_t)code,
			       .insn_cnt = 2, .license = (uintptr_t)"GPL"};
	must(bpf(BPF_PROG_LOAD, &attr), "bpf");
	say("opened", "the kernel");
}

// S5, S6, S8 -------------------------------------------------------------------------------------

static void mount_over_its_directory(void)
{
	must(mkdir("nothing", 0700), "mkdir");
	must(mount("nothing", given("RUNTIME"), 0, MS_BIND, 0), "mount");
}

static void edit_its_rules(void)
{
	edit_path(given("RULE"));
}

static void edit_its_record(void)
{
	edit_path(given("RECORD"));
}

static void open_its_source(void)
{
	// The real one, which its next start compiles: so nothing is written.
	must(open(given("SOURCE"), O_WRONLY), "open");
	say("opened", "the source");
}

static void set_the_clock(void)
{
	struct timex nothing = {.modes = ADJ_SETOFFSET}; // by zero: allowed is all we want to know
	must(adjtimex(&nothing), "adjtimex");
	say("opened", "the clock");
}

static void set_the_time_zone(void)
{
	struct timezone zone = {0};

	must(syscall(SYS_gettimeofday, 0, &zone), "gettimeofday");
	if (zone.tz_minuteswest || zone.tz_dsttime) // the first call would turn the clock by it
		must((errno = ENOTSUP, -1), "a clock in UTC");
	must(syscall(SYS_settimeofday, 0, &zone), "settimeofday"); // to what it is
	say("opened", "the clock");
}

static void allow_many_files(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void exhaust_it(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	allow_many_files();
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", given("SOCKET"));
	for (int i = 0; i < 500; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (fd < 0)
			break;
		connect(fd, (struct sockaddr *)&to, sizeof(to));
	}
	edit_path(HOSTS);
}

static void take_all_notices(void)
{
	allow_many_files();
	for (int i = 0; i < 10000 && inotify_init1(IN_CLOEXEC) >= 0; i++)
		;
	edit_path(HOSTS);
}

// Each its own: whoever stops one of them has another hundred to stop.
static void as_a_crowd(void)
{
	int start[2];
	char byte;

	must(pipe(start), "pipe");
	for (int i = 0; i < 200; i++)
		if (!must(fork(), "fork")) {
			close(start[1]);
			read(start[0], &byte, 1); // until all are there
			edit_path(HOSTS);
			rest();
		}
	close(start[0]);
	close(start[1]);
	edit_path(HOSTS);
}

static void fill_its_disk(void)
{
	static char block[1 << 20];
	int fd = must(open(in("ROOM", "filling"), O_WRONLY | O_CREAT, 0600), "open");

	for (int i = 0; i < 256 && write(fd, block, sizeof(block)) > 0; i++) // wherever it lies
		;
	edit_path(HOSTS);
}

// S7: there before the monitor -------------------------------------------------------------------

static void after_being_attached(void)
{
	edit_path(HOSTS); // main() waited until the monitor had been told of this process
}

// P5: the off switch -----------------------------------------------------------------------------

static void ask(int fd)
{
	char request[512], answer[64] = "";
	int length = snprintf(request, sizeof(request),
			      "POST /api/v1/sessions/%s/resume HTTP/1.1\r\nhost: x\r\n"
			      "content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"why\":\"help\"}",
			      given("NAME"));

	must(write(fd, request, length), "write");
	must(read(fd, answer, sizeof(answer) - 1), "read");
	if (strstr(answer, " 403"))
		errno = EPERM, must(-1, "the API");
	say("opened", "the API");
}

static void ask_for_the_end(void) { ask(join(AF_UNIX, given("SOCKET"))); }

// The kernel says who connected, and that is nobody any more when we ask.
static void ask_by_a_child_that_ended(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", given("SOCKET"));
	pid_t child = must(fork(), "fork");
	if (!child)
		_exit(!!connect(fd, (struct sockaddr *)&to, sizeof(to)));
	must(waitpid(child, 0, 0), "waitpid");
	ask(fd);
}

const struct technique techniques[] = {
	{"L1-flood", in_a_flood},
	{"L2-heavy", with_heavy_names},
	{"P4-threads", among_threads},
	{"P5-api", ask_for_the_end},
	{"P5-child", ask_by_a_child_that_ended},
	{"S1-stop", stop_it},
	{"S1-attached-stop", stop_it},
	{"S1-oom", tell_the_oom_killer},
	{"S1-oom-proc", tell_the_oom_killer_elsewhere},
	{"S1-prlimit", limit_it},
	{"S1-cpu", limit_its_time},
	{"S1-trace", trace_it},
	{"S2-maps", empty_its_maps},
	{"S2-ids", list_maps},
	{"S2-attached-ids", list_maps},
	{"S2-pins", remove_its_pins},
	{"S2-detach", take_its_pins_away},
	{"S3-kill", kill_it_and_act},
	{"S3-attached-kill", kill_it_and_act},
	{"S4-module", load_a_module},
	{"S4-bpf", load_a_program},
	{"S4-attached-bpf", load_a_program},
	{"S5-mount", mount_over_its_directory},
	{"S5-rules", edit_its_rules},
	{"S5-record", edit_its_record},
	{"S5-source", open_its_source},
	{"S6-clock", set_the_clock},
	{"S6-attached-clock", set_the_clock},
	{"S6-settime", set_the_time_zone},
	{"S7-attached", after_being_attached},
	{"S8-exhaust", exhaust_it},
	{"S8-inotify", take_all_notices},
	{"S8-crowd", as_a_crowd},
	{"S8-disk", fill_its_disk},
	{0},
};
