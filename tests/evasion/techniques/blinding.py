# SPDX-License-Identifier: Apache-2.0
"""Ways to blind the monitor."""

from __future__ import annotations

from effects import (
    HOSTS,
    said,
    victim_covered,
    victim_edited,
    victim_first_for_oom,
    victim_limited,
    victim_short_of_time,
    victim_stopped,
)
from technique import Technique
from techniques.reasons import MAY_BE_HONEST

BLINDING = (
    Technique("L1-flood", "blinding", "edit hosts amid a flood of new files", HOSTS),
    Technique(
        "L2-heavy", "blinding", "edit hosts after 500 links whose targets matchers find hard", HOSTS
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
        "P5-child",
        "blinding",
        "ask the API over a connection of a child that has ended",
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
        "S1-oom-proc",
        "blinding",
        "the same in a procfs mounted anew",
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
        "S1-cpu",
        "blinding",
        "limit the processor time that the monitor may ever use (prlimit)",
        victim_short_of_time,
        damages=True,
    ),
    Technique(
        "S1-trace",
        "blinding",
        "stop the monitor by ptrace",
        victim_stopped,
        damages=True,
        gap=MAY_BE_HONEST,
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
        "S2-ids",
        "blinding",
        "look for the monitor's BPF maps (BPF_MAP_GET_NEXT_ID)",
        said("opened the list"),
        gap=MAY_BE_HONEST,
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
        "S2-detach",
        "blinding",
        "unmount what the monitor's BPF objects are pinned in (its own view alone)",
        said("opened the pins' place"),
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
        gap=MAY_BE_HONEST,
    ),
    Technique(
        "S4-bpf", "blinding", "load a BPF program", said("opened the kernel"), gap=MAY_BE_HONEST
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
        "S5-source",
        "blinding",
        "open for writing what the monitor compiles at its next start",
        said("opened the source"),
    ),
    Technique(
        "S6-clock",
        "blinding",
        "set the clock",
        said("opened the clock"),
        gap="Events carry a clock that cannot be set; the time shown to people can be.",
    ),
    Technique(
        "S6-settime",
        "blinding",
        "set the time zone by settimeofday(2)",
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
    Technique(
        "S8-inotify",
        "blinding",
        "take all of the user's inotify instances, then edit hosts",
        HOSTS,
    ),
    Technique(
        "S8-crowd",
        "blinding",
        "two hundred processes edit hosts at the same moment",
        HOSTS,
    ),
    Technique(
        "S8-disk",
        "blinding",
        "fill the file system on which the monitor keeps its record, then edit hosts",
        HOSTS,
        control=False,
        damages=True,
    ),
)
