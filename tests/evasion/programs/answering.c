// SPDX-License-Identifier: Apache-2.0
// Stands in for a keeper of secrets, such as secret-tool: shows that it was run.
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	(void)argv;
	return close(open("ran", O_WRONLY | O_CREAT, 0600)) && argc;
}
