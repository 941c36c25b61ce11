# SPDX-License-Identifier: Apache-2.0
"""Files whose device, as `os.stat` tells it, is not the one that the kernel side knows them by."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from monitor.procfs import mounted_devices


def unknown_to_the_kernel(paths: Iterable[str]) -> bool:
    """Does one of them lie where the device of a file is not that of its filesystem?

    So it is on btrfs, and on an overlay over two filesystems. The kernel side sees the filesystem's
    only, and by that inode numbers are not unique: one file would be taken for another.
    """
    devices = set()
    for path in paths:
        with suppress(OSError):
            devices.add(os.stat(path).st_dev)
    unnamed = {device for device in devices if not os.major(device)}  # of no disk
    return bool(unnamed) and not unnamed <= mounted_devices()
