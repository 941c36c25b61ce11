# SPDX-License-Identifier: Apache-2.0
"""Which file it is, whatever its name."""

from __future__ import annotations

import os


def identity(path):
    found = os.lstat(path)
    return found.st_dev, found.st_ino
