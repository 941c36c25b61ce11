# SPDX-License-Identifier: Apache-2.0
"""Ways to leave the session."""

from __future__ import annotations

from effects import HOSTS, arrived, created, exists, outsider_changed, set_user_id
from technique import Technique
from techniques.reasons import LOCAL, MAY_BE_HONEST

_RUN_BY_OTHERS = (
    "An ordinary file in an ordinary place. What runs it later, and when, nobody knows."
)

WAYS_OUT = (
    Technique("C1-move", "ways_out", "move to another cgroup, then edit hosts", HOSTS),
    Technique("C2-clone", "ways_out", "be born in another cgroup (CLONE_INTO_CGROUP)", HOSTS),
    Technique("C3-below", "ways_out", "move to a cgroup below one's own", HOSTS),
    Technique("C4-daemon", "ways_out", "double fork and setsid", HOSTS),
    Technique(
        "C5-namespace", "ways_out", "mount cgroup2 anew in a cgroup namespace and move", HOSTS
    ),
    Technique("C6-pid", "ways_out", "take the pid of a process that ended", HOSTS),
    Technique(
        "D1-systemd",
        "ways_out",
        "ask the service manager on its private socket (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D1-dbus",
        "ways_out",
        "ask the service manager over the system bus (a stand-in)",
        arrived("service"),
        gap="The bus serves honest programs too; what is asked over it is not read.",
        world=True,
    ),
    Technique(
        "D2-docker",
        "ways_out",
        "ask the container engine (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D2-renamed",
        "ways_out",
        "ask the container engine by another path to its socket",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D2-socketcall",
        "ways_out",
        "ask the container engine through the 32-bit entry (socketcall)",
        arrived("service"),
        world=True,
    ),
    Technique(
        "D2-attached",
        "ways_out",
        "the same in a session that was attached",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
        attach=True,
    ),
    Technique(
        "D2-podman",
        "ways_out",
        "ask podman (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D2-containerd",
        "ways_out",
        "ask containerd (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D3-cron",
        "ways_out",
        "rename a file into /etc/cron.d",
        exists("/etc/cron.d/update"),
        gap=MAY_BE_HONEST,
    ),
    Technique(
        "D3-unit",
        "ways_out",
        "write a systemd unit",
        exists("/etc/systemd/system/update.service"),
        gap=MAY_BE_HONEST,
    ),
    Technique(
        "D3-hook",
        "ways_out",
        "write a git hook",
        created("work/.git/hooks/post-commit"),
        gap=_RUN_BY_OTHERS,
    ),
    Technique(
        "D4-screen",
        "ways_out",
        "type into somebody's terminal server (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D4-agent",
        "ways_out",
        "use somebody's ssh-agent (a stand-in)",
        arrived("service"),
        gap=LOCAL,
        world=True,
    ),
    Technique(
        "D4-ssh",
        "ways_out",
        "log in at localhost port 22 (a stand-in)",
        arrived("service"),
        gap="A connection to ssh is ordinary work, to this host as well.",
        world=True,
    ),
    Technique(
        "D4-engine-tcp",
        "ways_out",
        "ask a container engine on its TCP port (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D4-kubelet",
        "ways_out",
        "ask the cluster's agent of this node on its TCP port (a stand-in)",
        arrived("service"),
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D5-writev",
        "ways_out",
        "write another process's memory by process_vm_writev(2)",
        outsider_changed,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D5-mem",
        "ways_out",
        "write another process's memory by /proc/PID/mem",
        outsider_changed,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D5-ptrace",
        "ways_out",
        "trace another process and change it",
        outsider_changed,
        gap=MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D6-setuid", "ways_out", "make a set-user-ID program", set_user_id, gap=MAY_BE_HONEST
    ),
    Technique(
        "D7-makefile",
        "ways_out",
        "write a Makefile that somebody will run",
        created("work/Makefile"),
        gap=_RUN_BY_OTHERS,
    ),
    Technique(
        "D8-core",
        "ways_out",
        "have the kernel run a program (core_pattern)",
        created("core_pattern", "bank.example"),
    ),
)
