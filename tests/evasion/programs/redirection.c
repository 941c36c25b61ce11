// SPDX-License-Identifier: Apache-2.0
// N7: nftables, by netlink.
#include "sockets.h"
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

// The packet filter gives every connection another address, once it has been judged.
static char batch[1024];
static size_t used;

static size_t put(int type, const void *data, size_t length)
{
	struct nlattr *head = (void *)(batch + used);
	size_t at = used;

	*head = (struct nlattr){.nla_len = sizeof(*head) + length, .nla_type = type};
	if (data)
		memcpy(head + 1, data, length);
	else
		head->nla_type |= NLA_F_NESTED;
	used += NLA_ALIGN(head->nla_len);
	return at;
}

static size_t open_nest(int type) { return put(type, 0, 0); }
static void close_nest(size_t at) { ((struct nlattr *)(batch + at))->nla_len = used - at; }
static void put_text(int type, const char *text) { put(type, text, strlen(text) + 1); }

static void put_number(int type, uint32_t value)
{
	value = htonl(value);
	put(type, &value, sizeof(value));
}

static size_t message(int type, int flags, int family, int about)
{
	size_t at = used;
	struct nlmsghdr *head = (void *)(batch + at);
	struct nfgenmsg *body = NLMSG_DATA(head);

	*head = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
	*body = (struct nfgenmsg){.nfgen_family = family, .res_id = htons(about)};
	used += NLMSG_LENGTH(sizeof(*body));
	return at;
}

static void end_message(size_t at) { ((struct nlmsghdr *)(batch + at))->nlmsg_len = used - at; }

static size_t table_message(int type, int flags)
{
	return message(NFNL_SUBSYS_NFTABLES << 8 | type, NLM_F_CREATE | flags, NFPROTO_IPV4, 0);
}

static void put_redirection(struct in_addr to)
{
	size_t all = open_nest(NFTA_RULE_EXPRESSIONS), one = open_nest(NFTA_LIST_ELEM), data, value;

	put_text(NFTA_EXPR_NAME, "immediate");
	data = open_nest(NFTA_EXPR_DATA);
	put_number(NFTA_IMMEDIATE_DREG, NFT_REG_1);
	value = open_nest(NFTA_IMMEDIATE_DATA);
	put(NFTA_DATA_VALUE, &to, sizeof(to));
	close_nest(value), close_nest(data), close_nest(one);
	one = open_nest(NFTA_LIST_ELEM);
	put_text(NFTA_EXPR_NAME, "nat");
	data = open_nest(NFTA_EXPR_DATA);
	put_number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
	put_number(NFTA_NAT_FAMILY, NFPROTO_IPV4);
	put_number(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
	close_nest(data), close_nest(one), close_nest(all);
}

static void by_packet_filter(void)
{
	struct sockaddr_in to = sink();
	int fd = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), "socket");
	size_t at, hook;

	end_message(message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
	at = table_message(NFT_MSG_NEWTABLE, 0);
	put_text(NFTA_TABLE_NAME, "t");
	end_message(at);
	at = table_message(NFT_MSG_NEWCHAIN, 0);
	put_text(NFTA_CHAIN_TABLE, "t");
	put_text(NFTA_CHAIN_NAME, "c");
	put_text(NFTA_CHAIN_TYPE, "nat");
	hook = open_nest(NFTA_CHAIN_HOOK);
	put_number(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
	put_number(NFTA_HOOK_PRIORITY, -100);
	close_nest(hook);
	end_message(at);
	at = table_message(NFT_MSG_NEWRULE, NLM_F_APPEND);
	put_text(NFTA_RULE_TABLE, "t");
	put_text(NFTA_RULE_CHAIN, "c");
	put_redirection(to.sin_addr);
	end_message(at);
	end_message(message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
	must(send(fd, batch, used, 0), "send");
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8); // nobody listens there
	edit(connected(to));
}

const struct technique techniques[] = {
	{"N7-netlink", by_packet_filter},
	{"N7-attached-netlink", by_packet_filter},
	{0},
};
