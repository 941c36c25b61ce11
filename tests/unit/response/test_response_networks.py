# SPDX-License-Identifier: Apache-2.0
"""What the kernel finds under an address says what all rules about it say, though it finds one row."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from monitor.lowered import PORTS, NetworkWatch
from monitor.response.networks import network_rows

HELD, CERTAIN = 1, 2
NETWORKS = (
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "::/0",
    "fd00::/8",
    "fd00::1/128",
)
ADDRESSES = ("8.8.8.8", "10.9.9.9", "10.1.9.9", "10.1.2.3", "2001:db8::1", "fd00::2", "fd00::1")
watches = st.builds(
    NetworkWatch,
    st.sampled_from(NETWORKS),
    st.lists(st.integers(1, 5), max_size=3, unique=True).map(tuple),
    certain=st.booleans(),
)


def judged(rows, address, port):
    """As `weigh_address` of bpf/network.bpf.c, on a trie that gives the longest match."""
    packed = ip_address(address).packed
    whole = int.from_bytes(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed)
    matching = [
        (length, row)
        for (length, network), row in rows.items()
        if length == 0 or whole >> (128 - length) == int.from_bytes(network) >> (128 - length)
    ]
    if not matching:
        return 0
    _, (certain, count, *ports) = max(matching)
    found = 0
    for n in range(count):
        if ports[n] in (0, port):
            found |= CERTAIN if certain >> n & 1 else HELD
    return CERTAIN if found & CERTAIN else found


def meant(some, address, port):
    """What the rules say: one that says it for certain is enough."""
    found = [
        watch.certain
        for watch in some
        if ip_address(address) in ip_network(watch.network)
        and (not watch.ports or port in watch.ports)
    ]
    return CERTAIN if any(found) else HELD if found else 0


@given(
    st.lists(watches, max_size=6),
    st.sampled_from(ADDRESSES),
    st.integers(1, 5),
)
def test_a_network_within_another_is_judged_by_the_rules_of_both(some, address, port):
    same_version = [w for w in some if (":" in w.network) == (":" in address)]
    assert judged(network_rows(same_version), address, port) == meant(same_version, address, port)


def test_more_ports_than_a_row_holds_are_held_and_the_certain_ones_stay_certain():
    many = NetworkWatch("10.0.0.0/8", tuple(range(100, 100 + PORTS)), certain=False)
    sure = NetworkWatch("0.0.0.0/0", (25, 26), certain=True)
    rows = network_rows([many, sure])
    assert judged(rows, "10.1.1.1", 25) == CERTAIN
    assert judged(rows, "10.1.1.1", 100 + PORTS - 1) == HELD
