# SPDX-License-Identifier: Apache-2.0
"""Ways to change a file."""

from __future__ import annotations

from effects import HOSTS, said, settings_changed
from technique import Technique
from techniques.reasons import HELD_OPEN, MAY_BE_HONEST, PASSED, RING

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
    Technique(
        "F5-rename", "files", "rename another file onto it below a bind mount of /etc", HOSTS
    ),
    Technique("F5-unlink", "files", "remove it below a bind mount of /etc", HOSTS),
    Technique("F6-mount", "files", "mount another file over it", HOSTS, gap=MAY_BE_HONEST),
    Technique(
        "F6-move-mount",
        "files",
        "the same by open_tree(2) and move_mount(2)",
        HOSTS,
        gap=MAY_BE_HONEST,
    ),
    Technique("F6-userns", "files", "the same in a new user namespace", HOSTS, gap=MAY_BE_HONEST),
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
        gap=HELD_OPEN,
    ),
    Technique(
        "F12-passed",
        "files",
        "write to a descriptor that came over a socket",
        HOSTS,
        gap=PASSED,
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
    Technique("F16-sendfile", "files", "open it, and fill it by sendfile(2)", HOSTS),
    Technique("F16-copy-file-range", "files", "open it, and fill it by copy_file_range(2)", HOSTS),
    Technique("F16-splice", "files", "open it, and fill it by splice(2)", HOSTS),
    Technique("F16-pwritev2", "files", "open it, and fill it by pwritev2(2)", HOSTS),
    Technique("F16-aio", "files", "open it, and fill it by io_submit(2)", HOSTS),
    Technique("F17-write", "rings", "open and write through io_uring", HOSTS, gap=RING),
    Technique("F17-rename", "rings", "rename onto it through io_uring", HOSTS, gap=RING),
    Technique("F17-sqpoll", "rings", "open and write by a polling kernel thread", HOSTS, gap=RING),
    Technique(
        "F18-node",
        "files",
        "read the disk by a device node of one's own",
        said("opened the disk"),
        gap="The rule knows devices by their names in /dev, and not by their numbers.",
    ),
    Technique("F18-mem", "files", "read /dev/mem", said("opened the memory")),
    Technique("F19-overlay", "files", "mount an overlay over /etc", HOSTS, gap=MAY_BE_HONEST),
    Technique("F22-fanotify", "files", "write to a descriptor that fanotify hands out", HOSTS),
    Technique(
        "F22-attached",
        "files",
        "the same in a session that was attached",
        HOSTS,
        attach=True,
    ),
)
