# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of rules: event categories and their fields, under Sigma's standard names.

`sessions/facts.py` fills these, `detection/loader.py` refuses a rule that names anything else, and
`rules/README.md` is checked against this table. A field that is absent from an event is null.

A `Fact` is one event under one spelling of its path: the same open is evaluated once for the path
through mounts, once for the path inside its own filesystem, and once for every watched path that
is the same inode, so that a hard link or a bind mount changes nothing for a rule.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What rules see of an event: a Sigma logsource category and its fields."""

    category: str
    fields: dict[str, Any]


_PROCESS = {
    "Image": "the kernel's path of the program that acts (the interpreter for a script); see below",
    "Script": "the script an interpreter was started for, by `#!` or as its first file argument",
    "CommandLine": "its arguments joined by spaces, as given to exec",
    "CurrentDirectory": "its working directory at exec",
    "ProcessId": "its pid in the root pid namespace",
    "ParentImage": "Image of the parent at birth",
    "ParentCommandLine": "CommandLine of the parent at birth",
    "ParentProcessId": "pid of the parent at birth",
    "User": "login name of its real uid, or the number where it has no name",
    "AgentSession": "id of the session",
    "ParentImages": "list: Image of every ancestor within the session, the nearest first; empty for"
    " the agent itself, also where it started its own program anew",
    "Interactive": "`true` if the session was started from a terminal",
    "Tainted": "list: labels that flowed to the process, such as `credential`; see below",
}

PROCESS_FIELDS = tuple(_PROCESS)
"""Fields that tell of the process that acts, and not of what it does."""

_FILE = {
    **_PROCESS,
    "TargetFilename": "absolute path of the file acted on, in one of its spellings",
    "Device": "`major:minor` of the file's filesystem",
    "Inode": "inode number; 0 where it could not be known",
    "WrittenBySession": "`true` if a process of this session created or wrote the file before",
    "SelfCopy": "`true` if it is a copy of a file of the agent's own program or home",
    "SelfPath": "`true` if the file is part of the agent's own program or home",
}

_NAMED = {
    "SelfNamed": "`true` if a small file holds the path of the agent's own program or home",
}

_NET = {
    **_PROCESS,
    "Protocol": "`tcp`, `udp`, `unix`, `icmp`, `icmpv6`, `sctp`; of others the number",
    "DestinationIp": "address; empty for unix",
    "DestinationPort": "port number; 0 for unix",
    "DestinationHostname": "server name in a TLS ClientHello, or the unix socket's path",
    "Initiated": "`true`: the session opened the connection",
    "SentBytes": "bytes that had left the session by then",
    "FirstSeen": "`true` if the session never did this before: same address and port, or name",
}

LISTS = frozenset({"ParentImages", "Tainted"})
"""Fields that hold a list, of which any element may match."""

CATEGORIES: dict[str, dict[str, str]] = {
    "process_creation": {
        **_PROCESS,
        "LogonId": "number of its real uid, as Sysmon for Linux has it",
        "WrittenBySession": "`true` if the program, or a file it was told to run, is new",
        "SelfCopy": "`true` if the program, or a file it was told to run, is such a copy",
        "SelfNamed": "`true` if an argument names the agent's own program or home",
        "FirstSeen": "`true` if the session never ran this program before",
        "Downloaded": "`true` if the program, or a file it was told to run, a download tool wrote",
        "Preloaded": "`true` if the environment has the dynamic linker load a library from another"
        " place than the system's (`LD_PRELOAD`, `LD_AUDIT`, `LD_LIBRARY_PATH`); see below",
        "Deleted": "`true` if the program has no name on disk (memfd, unlinked)",
    },
    "process_termination": {**_PROCESS, "ExitCode": "exit status, or 128 + signal"},
    "file_access": {**_FILE, "Downloaded": "`true` if a download tool of this session wrote it"},
    "file_event": {
        **_FILE,
        **_NAMED,
        "Operation": "`open` (to write), `create`, `truncate`, `link`, `symlink`, `chmod`, `settled`",
        "SourceFilename": "for link: the other name; for symlink: the text it holds",
        "Mode": "for chmod and create: the new mode in octal, e.g. `4755`",
    },
    "file_rename": {**_FILE, **_NAMED, "SourceFilename": "the path before the rename"},
    "file_delete": dict(_FILE),
    "network_connection": {
        **_NET,
        "CloudMetadata": "`true` if the address is where a cloud tells its instances' credentials",
    },
    "dns_query": {
        **_NET,
        "QueryName": "the name asked for, lower case, without the final dot",
    },
    "process_access": {
        **_PROCESS,
        "Operation": "`ptrace`, `process_vm_readv`, `process_vm_writev`",
        "TargetProcessId": "pid of the other process",
        "TargetInSession": "`true` if that process belongs to the same session",
        "Refused": "`true` if the kernel refused it: it did not happen",
    },
    "privileged_operation": {
        **_PROCESS,
        "Operation": "what was called: see rules/README.md for the names",
        "Detail": "what it acted on: mount target, bpf command, new uid, pid, cgroup path",
        "Refused": "`true` if the kernel refused it: it did not happen",
    },
}
"""category -> field -> what it holds. Categories are Sigma's where Sigma has one; only
`privileged_operation` is ours."""
