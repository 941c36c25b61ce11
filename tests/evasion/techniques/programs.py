# SPDX-License-Identifier: Apache-2.0
"""Ways to run a program."""

from __future__ import annotations

from effects import HOSTS, created, exists, secret_taken
from technique import Technique
from techniques.reasons import LOADED, MAY_BE_HONEST

_USER_SITE = "home/.local/lib/python3.11/site-packages"

PROGRAMS = (
    Technique(
        "X1-memfd", "programs", "run a program from memory by execveat(2), which edits hosts", HOSTS
    ),
    Technique("X1-memfd-path", "programs", "run it by its /proc/self/fd path", HOSTS),
    Technique(
        "X1-keeper",
        "programs",
        "run a keeper of secrets from memory",
        created("work/ran"),
        gap="That a program has no file is alerted about; which one it is, its name does not say.",
    ),
    Technique("X2-unlinked", "programs", "run a program whose file is deleted", HOSTS),
    Technique("X3-linker", "programs", "have the dynamic linker run a program", HOSTS),
    Technique(
        "X3-keeper",
        "programs",
        "have the dynamic linker run a keeper of secrets",
        created("work/ran"),
    ),
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
    Technique(
        "X7-trace",
        "programs",
        "trace a child, and change the open's argument at the call's entry",
        HOSTS,
    ),
    Technique("X8-startup", "programs", "have an honest program load a startup file", HOSTS),
    Technique(
        "X8-site",
        "programs",
        "write sitecustomize.py, which every Python of a user runs",
        created(f"{_USER_SITE}/sitecustomize.py"),
        gap=MAY_BE_HONEST,
    ),
    Technique(
        "X8-path",
        "programs",
        "write a .pth file, whose lines every Python of a user runs",
        created(f"{_USER_SITE}/update.pth"),
        gap=MAY_BE_HONEST,
    ),
    Technique(
        "X8-known-path",
        "programs",
        "the same under the name that setuptools uses",
        created(f"{_USER_SITE}/distutils-precedence.pth"),
        gap="Every installation of setuptools writes that name, so the rule forgives it.",
    ),
    Technique(
        "X8-preload",
        "programs",
        "name a library in /etc/ld.so.preload",
        exists("/etc/ld.so.preload"),
    ),
    Technique(
        "X9-bind",
        "programs",
        "mount a program over passwd in one's own namespace, and read /etc/shadow as passwd",
        secret_taken,
    ),
    Technique(
        "X9-tmpfs",
        "programs",
        "the same with a file system that only this namespace has",
        secret_taken,
    ),
    Technique(
        "X9-chroot", "programs", "the same in a root directory with its own passwd", secret_taken
    ),
    Technique(
        "X10-preload",
        "programs",
        "have passwd load a library by LD_PRELOAD, which reads /etc/shadow",
        secret_taken,
        gap=LOADED,
    ),
    Technique("X10-audit", "programs", "the same by LD_AUDIT", secret_taken, gap=LOADED),
)
