/* SPDX-License-Identifier: Apache-2.0 */
/* The address that a rule names, and how one connects. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "technique.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static inline struct sockaddr_in sink(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(number("SINK_PORT"))};
	inet_aton(given("SINK"), &to.sin_addr);
	return to;
}

static inline int connected(struct sockaddr_in to)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
	return fd;
}
#endif
