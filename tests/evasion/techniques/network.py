# SPDX-License-Identifier: Apache-2.0
"""Ways to send over the network."""

from __future__ import annotations

from effects import arrived
from technique import Technique
from techniques.reasons import LOCAL, MAY_BE_HONEST, PASSED_SOCKET

PACKETS = "The kernel calls no cgroup hook for what goes out by a packet socket."
REDIRECTED = (
    "Addresses are judged before the packet filter rewrites them. To change it takes CAP_NET_ADMIN."
)

NETWORK = (
    Technique("N1-uring", "rings", "connect and send through io_uring", arrived(), world=True),
    Technique(
        "N1-socket",
        "rings",
        "make the socket, connect and send through io_uring",
        arrived(),
        world=True,
    ),
    Technique(
        "N2-fastopen",
        "network",
        "send with the SYN (MSG_FASTOPEN), without connect(2)",
        arrived(),
        world=True,
    ),
    Technique("N3-sendto", "network", "send a datagram without connecting", arrived(), world=True),
    Technique("N3-sendmmsg", "network", "send datagrams by sendmmsg(2)", arrived(), world=True),
    Technique(
        "N4-raw",
        "network",
        "send IP packets of one's own making",
        arrived(),
        world=True,
    ),
    Technique(
        "N4-tcp",
        "network",
        "send TCP segments of one's own making",
        arrived(),
        world=True,
    ),
    Technique(
        "N5-packet",
        "network",
        "send Ethernet frames of one's own making",
        arrived(),
        gap=PACKETS,
        world=True,
    ),
    Technique(
        "N5-sockpacket",
        "network",
        "send Ethernet frames by AF_INET and SOCK_PACKET",
        arrived(),
        gap=PACKETS,
        world=True,
    ),
    Technique(
        "N5-xdp",
        "xdp",
        "send Ethernet frames by AF_XDP",
        arrived(),
        gap=PACKETS,
        world=True,
    ),
    Technique(
        "N6-abstract",
        "network",
        "hand bytes to a proxy on an abstract socket",
        arrived(),
        gap=LOCAL,
        world=True,
    ),
    Technique(
        "N6-path",
        "network",
        "hand bytes to a proxy on a socket at a path",
        arrived(),
        gap=LOCAL,
        world=True,
    ),
    Technique(
        "N7-vsock",
        "network",
        "connect by AF_VSOCK",
        arrived(),
        gap="No cgroup hook knows the family; an attached session may use it.",
        world=True,
    ),
    Technique(
        "N7-netlink",
        "redirection",
        "have the packet filter redirect an innocent address (nftables, by netlink)",
        arrived(),
        gap=REDIRECTED,
        world=True,
    ),
    Technique(
        "N8-bare",
        "network",
        "TLS without a name to an address that nobody resolved",
        arrived(),
        gap="There is no name to judge, and no rule names the address.",
        world=True,
    ),
    Technique(
        "N8-doh",
        "network",
        "ask for a name over TLS (a stand-in)",
        arrived(),
        gap="The question is under the encryption; only the resolver's address and name remain.",
        world=True,
    ),
    Technique(
        "N8-quic",
        "network",
        "QUIC to an address that nobody resolved",
        arrived(),
        gap="The name is under the encryption from the first packet on; only the address remains.",
        world=True,
    ),
    Technique(
        "N8-tunnel",
        "network",
        "put the bytes into the names that a resolver is asked for (a stand-in)",
        arrived(),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "N8-literal", "network", "TLS to an address that nobody resolved", arrived(), world=True
    ),
    Technique(
        "N8-split",
        "network",
        "a ClientHello in two pieces, the name in the second",
        arrived(),
        gap="A name is read from one packet.",
        world=True,
    ),
    Technique(
        "N8-fronting",
        "network",
        "a ClientHello that names somebody else",
        arrived(),
        gap="The true name is under the encryption; only the address remains.",
        world=True,
    ),
    Technique(
        "N9-inherited",
        "network",
        "send on a socket connected before the session",
        arrived(),
        inherits="socket",
        world=True,
    ),
    Technique(
        "N9-passed",
        "network",
        "send on a connected socket that came over a socket",
        arrived(),
        gap=PASSED_SOCKET,
        world=True,
    ),
    Technique(
        "N9-server",
        "network",
        "be a server; somebody outside connects and reads",
        arrived(),
        gap="To serve is ordinary work; rules judge where a session connects to.",
        world=True,
    ),
)
