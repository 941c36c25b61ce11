// SPDX-License-Identifier: Apache-2.0
// attempt ENTRY NUMBER [ARGUMENT]...
//
// Makes one system call by the entry `64`, `x32` or `32` and prints the errno, 0 for none.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long compat(long number, const long *a)
{
	long result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3])
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static long native(long number, const long *a)
{
	long result = syscall(number, a[0], a[1], a[2], a[3], 0L, 0L);

	return result < 0 ? -errno : result;
}

int main(int argc, char **argv)
{
	long arguments[4] = {0}, number, result;

	if (argc < 3 || argc > 7)
		return 2;
	number = strtol(argv[2], 0, 0);
	for (int i = 3; i < argc; i++)
		arguments[i - 3] = strtol(argv[i], 0, 0);
	if (!strcmp(argv[1], "32"))
		result = compat(number, arguments);
	else
		result = native(number + (!strcmp(argv[1], "x32") ? 0x40000000 : 0), arguments);
	printf("%ld\n", result < 0 ? -result : 0);
	return 0;
}
