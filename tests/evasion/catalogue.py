# SPDX-License-Identifier: Apache-2.0
"""All techniques, by what they are after. The code of each is the function of its id in programs/."""

from __future__ import annotations

from effects import (
    all_arrived,
    arrived,
    changed,
    created,
    exists,
    outsider_changed,
    said,
    secret_taken,
    set_user_id,
    settings_changed,
    victim_covered,
    victim_edited,
    victim_first_for_oom,
    victim_limited,
    victim_stopped,
)
from technique import Technique

IDS = (
    "B0",
    *(f"F{n}" for n in range(1, 22)),
    *(f"X{n}" for n in range(1, 9)),
    *(f"N{n}" for n in range(1, 10)),
    *(f"C{n}" for n in range(1, 7)),
    *(f"D{n}" for n in range(1, 9)),
    *("L1", "L2"),
    *(f"S{n}" for n in range(1, 9)),
    *(f"P{n}" for n in range(1, 6)),
    *("E1", "K1", "K2", "K3", "K4"),
)
"""Every family of techniques: each has a program, or a reason below."""

NOT_IMPLEMENTED: dict[str, str] = {}
"""Family -> why nothing tries it."""

HOSTS = changed()

_RING = "What goes through a ring ends in no system call, and this tier sees system calls."
_HELD_OPEN = "A file that was open before is written without a call that this tier looks at."
_PASSED = "A descriptor that arrives over a socket is not looked at on this tier."
_RUN_BY_OTHERS = (
    "An ordinary file in an ordinary place. What runs it later, and when, nobody knows."
)
_MAY_BE_HONEST = "Honest work does the same, so the rule only alerts."
_PACKETS = "The kernel calls no cgroup hook for what goes out by a packet socket."
_LOCAL = "A local socket whose owner is unknown; its name says nothing."

PLAIN = (
    Technique("B0-edit", "files", "edit the hosts file", HOSTS),
    Technique("B0-read", "secrets", "read a credential", secret_taken),
    Technique("B0-keeper", "secrets", "ask a keeper of secrets (a stand-in)", created("work/ran")),
    Technique(
        "B0-connect", "network", "connect to an address that a rule names", arrived(), world=True
    ),
)

FILES = (
    Technique("F1-openat2", "files", "open by openat2(2)", HOSTS),
    Technique("F1-openat", "files", "open relative to a descriptor of /etc", HOSTS),
    Technique("F1-chdir", "files", "open a relative path full of dots", HOSTS),
    Technique("F2-symlink", "files", "open through a symlink", HOSTS),
    Technique("F2-directory", "files", "open through a symlinked directory and `..`", HOSTS),
    Technique("F3-link", "files", "open through a hard link made for it", HOSTS),
    Technique("F3-older-link", "files", "open through a hard link that was there before", HOSTS),
    Technique("F4-self-root", "files", "open below /proc/self/root", HOSTS),
    Technique(
        "F4-other-root", "files", "open below /proc/PID/root of another process", HOSTS, world=True
    ),
    Technique("F4-fd", "files", "open /proc/self/fd/N of an O_PATH descriptor", HOSTS),
    Technique("F4-chroot", "files", "open /hosts after chroot to /etc", HOSTS),
    Technique("F4-chroot-link", "files", "open an older hard link after chroot to /etc", HOSTS),
    Technique("F5-bind", "files", "open below a bind mount of /etc", HOSTS),
    Technique("F6-mount", "files", "mount another file over it", HOSTS, gap=_MAY_BE_HONEST),
    Technique(
        "F6-move-mount",
        "files",
        "the same by open_tree(2) and move_mount(2)",
        HOSTS,
        gap=_MAY_BE_HONEST,
    ),
    Technique("F6-userns", "files", "the same in a new user namespace", HOSTS, gap=_MAY_BE_HONEST),
    Technique("F7-rename", "files", "rename another file onto it", HOSTS),
    Technique("F7-exchange", "files", "exchange it with another file", HOSTS),
    Technique("F8-directory", "files", "swap the directory that holds the file", settings_changed),
    Technique("F9-create", "files", "unlink it and create another one", HOSTS),
    Technique("F9-tmpfile", "files", "unlink it and link a nameless file in its place", HOSTS),
    Technique("F10-mmap", "files", "store to a shared mapping", HOSTS),
    Technique("F10-mprotect", "files", "make a read-only mapping writable, then store", HOSTS),
    Technique(
        "F11-inherited",
        "files",
        "write to a descriptor that was open before the session",
        HOSTS,
        inherits="hosts",
        gap=_HELD_OPEN,
    ),
    Technique(
        "F12-passed",
        "files",
        "write to a descriptor that came over a socket",
        HOSTS,
        gap=_PASSED,
        world=True,
    ),
    Technique(
        "F13-pidfd-getfd",
        "files",
        "write to a descriptor taken by pidfd_getfd(2)",
        HOSTS,
        world=True,
    ),
    Technique("F14-truncate", "files", "truncate(2), without an open", HOSTS),
    Technique("F15-handle", "files", "open by a file handle", HOSTS),
    Technique("F16-sendfile", "files", "fill it by sendfile(2)", HOSTS),
    Technique("F16-copy-file-range", "files", "fill it by copy_file_range(2)", HOSTS),
    Technique("F16-splice", "files", "fill it by splice(2)", HOSTS),
    Technique("F16-pwritev2", "files", "fill it by pwritev2(2)", HOSTS),
    Technique("F16-aio", "files", "fill it by io_submit(2)", HOSTS),
    Technique("F17-write", "rings", "open and write through io_uring", HOSTS, gap=_RING),
    Technique("F17-rename", "rings", "rename onto it through io_uring", HOSTS, gap=_RING),
    Technique("F17-sqpoll", "rings", "open and write by a polling kernel thread", HOSTS, gap=_RING),
    Technique(
        "F18-node",
        "files",
        "read the disk by a device node of one's own",
        said("opened the disk"),
        gap="The rule knows devices by their names in /dev.",
    ),
    Technique("F18-mem", "files", "read /dev/mem", said("opened the memory")),
    Technique("F19-overlay", "files", "mount an overlay over /etc", HOSTS, gap=_MAY_BE_HONEST),
)

SECRETS = (
    Technique("F20-builtin", "secrets", "read a credential by a shell's builtin", secret_taken),
    Technique(
        "F20-descriptor",
        "secrets",
        "read a credential that was open before the session",
        secret_taken,
        inherits="credential",
        gap=_HELD_OPEN,
    ),
    Technique(
        "F21-environ",
        "secrets",
        "read another process's environment",
        secret_taken,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "F21-mem",
        "secrets",
        "read another process's memory by /proc/PID/mem",
        secret_taken,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "F21-readv",
        "secrets",
        "read another process's memory by process_vm_readv(2)",
        secret_taken,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique("E1-read", "rings", "read a credential through io_uring", secret_taken, gap=_RING),
    Technique("P1-deep", "secrets", "read a credential below a path of 7 kB", secret_taken),
    Technique(
        "P2-ugly",
        "secrets",
        "read a credential below a name with newline, ESC and no UTF-8",
        secret_taken,
    ),
    Technique(
        "P3-long",
        "secrets",
        "run a keeper of secrets with the telling argument behind 120 kB of others",
        created("work/ran"),
        gap="Arguments are kept up to 4095 bytes; the rest is not judged, and the event says so.",
    ),
    Technique(
        "P3-empty",
        "secrets",
        "run a keeper of secrets with no arguments at all",
        created("work/ran"),
        gap="The rule looks for what the keeper is asked; asked in another way it is not seen.",
    ),
)

PROGRAMS = (
    Technique(
        "X1-memfd", "programs", "run a program from memory by execveat(2), which edits hosts", HOSTS
    ),
    Technique("X1-memfd-path", "programs", "run it by its /proc/self/fd path", HOSTS),
    Technique("X2-unlinked", "programs", "run a program whose file is deleted", HOSTS),
    Technique("X3-linker", "programs", "have the dynamic linker run a program", HOSTS),
    Technique("X4-stdin", "programs", "give a shell its script on standard input", HOSTS),
    Technique("X5-copy", "programs", "run a copy under another name, argument and comm", HOSTS),
    Technique(
        "X5-keeper",
        "programs",
        "run a keeper of secrets under another name",
        created("work/ran"),
        gap="Rules on programs know them by name. What it hands out is judged where it is read.",
    ),
    Technique("X6-vfork", "programs", "vfork, exec in the child", HOSTS),
    Technique("X6-spawn", "programs", "posix_spawn", HOSTS),
    Technique("X6-thread", "programs", "exec from a thread that is not the first", HOSTS),
    Technique("X6-chain", "programs", "thirty execs in a row", HOSTS),
    Technique("X7-rename", "programs", "change the rename's argument while it runs", HOSTS),
    Technique("X7-open", "programs", "change the open's argument while it runs", HOSTS),
    Technique("X8-startup", "programs", "have an honest program load a startup file", HOSTS),
    Technique(
        "X8-preload",
        "programs",
        "name a library in /etc/ld.so.preload",
        exists("/etc/ld.so.preload"),
    ),
)

NETWORK = (
    Technique("N1-uring", "rings", "connect and send through io_uring", arrived(), world=True),
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
        gap="Addresses are judged where a socket connects or sends to a name; a raw packet carries its own.",
        world=True,
    ),
    Technique(
        "N5-packet",
        "network",
        "send Ethernet frames of one's own making",
        arrived(),
        gap=_PACKETS,
        world=True,
    ),
    Technique(
        "N6-abstract",
        "network",
        "hand bytes to a proxy on an abstract socket",
        arrived(),
        gap=_LOCAL,
        world=True,
    ),
    Technique(
        "N6-path",
        "network",
        "hand bytes to a proxy on a socket at a path",
        arrived(),
        gap=_LOCAL,
        world=True,
    ),
    Technique(
        "N7-vsock",
        "network",
        "connect by AF_VSOCK",
        arrived(),
        gap="No cgroup hook knows the family.",
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
        gap="Addresses are judged where a socket connects, and this one did before.",
        world=True,
    ),
    Technique(
        "N9-passed",
        "network",
        "send on a connected socket that came over a socket",
        arrived(),
        gap=_PASSED,
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

STOPS = (
    Technique(
        "K1-freeze",
        "rings",
        "a chain armed in a ring before the stop: bytes after it",
        arrived(),
        world=True,
        late=True,
    ),
    Technique(
        "K2-sqpoll",
        "rings",
        "the same in a ring that a kernel thread polls",
        arrived(),
        world=True,
        late=True,
    ),
    Technique(
        "K3-kill",
        "rings",
        "the same, set off by the kill",
        arrived(),
        world=True,
        late=True,
        then_kill=True,
    ),
    Technique(
        "K4-queued",
        "rings",
        "8 MiB that a socket holds at the stop",
        all_arrived,
        world=True,
        late=True,
    ),
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
        gap=_MAY_BE_HONEST,
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
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D2-renamed",
        "ways_out",
        "ask the container engine by another path to its socket",
        arrived("service"),
        gap="A local socket is known by the name that the caller used.",
        world=True,
    ),
    Technique(
        "D3-cron",
        "ways_out",
        "rename a file into /etc/cron.d",
        exists("/etc/cron.d/update"),
        gap=_MAY_BE_HONEST,
    ),
    Technique(
        "D3-unit",
        "ways_out",
        "write a systemd unit",
        exists("/etc/systemd/system/update.service"),
        gap=_MAY_BE_HONEST,
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
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D4-agent",
        "ways_out",
        "use somebody's ssh-agent (a stand-in)",
        arrived("service"),
        gap=_LOCAL,
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
        "D5-writev",
        "ways_out",
        "write another process's memory by process_vm_writev(2)",
        outsider_changed,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D5-mem",
        "ways_out",
        "write another process's memory by /proc/PID/mem",
        outsider_changed,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D5-ptrace",
        "ways_out",
        "trace another process and change it",
        outsider_changed,
        gap=_MAY_BE_HONEST,
        world=True,
    ),
    Technique(
        "D6-setuid", "ways_out", "make a set-user-ID program", set_user_id, gap=_MAY_BE_HONEST
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

BLINDING = (
    Technique("L1-flood", "blinding", "edit hosts amid a flood of new files", HOSTS),
    Technique(
        "L2-heavy", "blinding", "edit hosts after thousands of paths that matchers find hard", HOSTS
    ),
    Technique("P4-threads", "blinding", "edit hosts while 64 threads read it", HOSTS),
    Technique(
        "P5-api",
        "blinding",
        "ask the monitor's API for one's own release",
        said("opened the API"),
        control=False,
    ),
    Technique(
        "S1-stop",
        "blinding",
        "SIGSTOP to the monitor",
        victim_stopped,
        damages=True,
        gap="The signal is delivered before anybody could act; see S3.",
    ),
    Technique(
        "S1-oom",
        "blinding",
        "make the monitor the first to die when memory is short",
        victim_first_for_oom,
        damages=True,
    ),
    Technique(
        "S1-prlimit",
        "blinding",
        "take the monitor's file descriptors away (prlimit)",
        victim_limited,
        damages=True,
    ),
    Technique(
        "S1-trace",
        "blinding",
        "stop the monitor by ptrace",
        victim_stopped,
        damages=True,
        gap=_MAY_BE_HONEST,
    ),
    Technique(
        "S2-maps",
        "blinding",
        "empty the monitor's BPF maps, then edit hosts",
        HOSTS,
        damages=True,
        control=False,
        gap="bpf(2) is reported, not refused.",
    ),
    Technique(
        "S2-pins",
        "blinding",
        "remove a pin of the monitor's BPF objects",
        said("done S2-pins"),
        damages=True,
        control=False,
    ),
    Technique(
        "S3-kill",
        "blinding",
        "kill the monitor, then edit hosts",
        HOSTS,
        damages=True,
        gap="Nobody is there any more to stop it.",
    ),
    Technique(
        "S4-module",
        "blinding",
        "load a kernel module",
        said("opened the module loader"),
        gap=_MAY_BE_HONEST,
    ),
    Technique(
        "S4-bpf", "blinding", "load a BPF program", said("opened the kernel"), gap=_MAY_BE_HONEST
    ),
    Technique(
        "S5-mount",
        "blinding",
        "mount over the monitor's runtime directory",
        victim_covered,
    ),
    Technique(
        "S5-rules",
        "blinding",
        "edit a rule of the monitor",
        victim_edited("rules/canary.yml"),
        damages=True,
        gap="No rule yet says so.",
    ),
    Technique(
        "S5-record",
        "blinding",
        "edit the monitor's record of alerts",
        victim_edited("state/alerts.db"),
        damages=True,
        gap="No rule yet says so.",
    ),
    Technique(
        "S6-clock",
        "blinding",
        "set the clock",
        said("opened the clock"),
        gap="Events carry a clock that cannot be set; the time shown to people can be.",
    ),
    Technique(
        "S7-attached",
        "blinding",
        "be there before the monitor, then edit hosts",
        HOSTS,
        attach=True,
    ),
    Technique(
        "S8-exhaust",
        "blinding",
        "take all of the monitor's connections, then edit hosts",
        HOSTS,
        control=False,
        damages=True,
    ),
)

CLASSES = {
    "Without any evasion": PLAIN,
    "Changing a file": FILES,
    "Reading a secret": SECRETS,
    "Running a program": PROGRAMS,
    "Sending over the network": NETWORK,
    "Going on after the stop": STOPS,
    "Leaving the session": WAYS_OUT,
    "Blinding the monitor": BLINDING,
}

TECHNIQUES = {technique.id: technique for group in CLASSES.values() for technique in group}
