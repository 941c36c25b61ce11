// SPDX-License-Identifier: Apache-2.0
// A process that makes exactly the system calls it is told, so that a test can name the act itself.
//
// One line in, one line out, numbers in decimal, bytes in hex:
//   s NR ARGUMENT...   a system call; an argument `xHEX` is a pointer to these bytes and a NUL
//   c NR ARGUMENT...   the same through the 32-bit entry
//   a HEX              put bytes somewhere and say where
//   r ADDRESS LENGTH   say what lies there
// What it says of a call is the kernel's own result: negative for an error number.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE_BYTES (1 << 20)
#define ARENA_BYTES (64 << 20)

static char line[LINE_BYTES];
static char *arena; // below 4 GiB, or the 32-bit entry could not reach it
static size_t used;

static char *put(const char *hex)
{
	char *start = arena + used, *to = start;
	unsigned byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		*to++ = (char)byte;
	*to++ = 0;
	used += (to - start + 15) & ~15ul;
	return start;
}

static long native(long nr, long *a)
{
	register long r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

static long compat(long nr, long *a)
{
	int result;

	asm volatile("int $0x80"
		     : "=a"(result)
		     : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
		     : "r8", "r9", "r10", "r11", "memory");
	return result;
}

static long call(char *words, long (*how)(long, long *))
{
	long a[6] = {0}, nr = strtol(strtok(words, " \n"), 0, 10);
	char *word;

	for (int i = 0; i < 6 && (word = strtok(0, " \n")); i++)
		a[i] = *word == 'x' ? (long)put(word + 1) : strtol(word, 0, 10);
	return how(nr, a);
}

static void show(const unsigned char *at, long length)
{
	while (length-- > 0)
		printf("%02x", *at++);
	printf("\n");
}

int main(void)
{
	arena = mmap(0, ARENA_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED)
		return 1;
	printf("ready\n");
	for (fflush(stdout); fgets(line, sizeof(line), stdin); fflush(stdout)) {
		char *at, *rest = line + 2;

		switch (line[0]) {
		case 's': printf("%ld\n", call(rest, native)); break;
		case 'c': printf("%ld\n", call(rest, compat)); break;
		case 'a': printf("%ld\n", (long)put(rest)); break;
		case 'r':
			at = (char *)strtol(rest, &rest, 10);
			show((unsigned char *)at, strtol(rest, 0, 10));
			break;
		}
	}
	return 0;
}
