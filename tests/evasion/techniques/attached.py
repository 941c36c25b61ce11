# SPDX-License-Identifier: Apache-2.0
"""Techniques that are tried in an attached session as well: it has no seccomp filter and no Landlock."""

from __future__ import annotations

from technique import Technique, attached
from techniques.network import PACKETS, REDIRECTED
from techniques.reasons import MAY_BE_HONEST, RING

TWINS = {
    "F4-other-root": "",
    "F13-pidfd-getfd": "",
    "F15-handle": "",
    "F17-write": RING,
    "F17-rename": RING,
    "F17-sqpoll": RING,
    "F21-environ": MAY_BE_HONEST,
    "F21-mem": MAY_BE_HONEST,
    "F21-readv": MAY_BE_HONEST,
    "E1-read": RING,
    "N1-uring": "",
    "N1-socket": "",
    "N4-raw": "",
    "N4-tcp": "",
    "N5-packet": PACKETS,
    "N5-xdp": PACKETS,
    "N7-netlink": REDIRECTED,
    "N9-inherited": "",
    "K1-freeze": "",
    "K2-sqpoll": "",
    "K3-kill": "",
    "D5-writev": MAY_BE_HONEST,
    "D5-mem": MAY_BE_HONEST,
    "D5-ptrace": MAY_BE_HONEST,
    "S1-stop": "The signal is delivered before anybody could act. The session is frozen once somebody "
    "continues the monitor; see S3 for what it does meanwhile.",
    "S2-ids": MAY_BE_HONEST,
    "S3-kill": "",
    "S4-bpf": MAY_BE_HONEST,
    "S6-clock": "Events carry a clock that cannot be set; the time shown to people can be.",
}
"""Technique -> why its twin is not stopped, where it is not."""


def with_twins(group: tuple[Technique, ...]) -> tuple[Technique, ...]:
    """The group, each twin behind its technique."""
    both = []
    for technique in group:
        both.append(technique)
        if technique.id in TWINS:
            both.append(attached(technique, TWINS[technique.id]))
    return tuple(both)
