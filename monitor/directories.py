# SPDX-License-Identifier: Apache-2.0
"""The monitor's own directories: made, or checked, so that nobody else can put files in them.

It must not change the mode of a directory it did not make: `--state-dir /tmp` is a mistake to
report, not one to carry out.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from monitor.errors import ConfigError

PRIVATE = 0o700
PUBLIC = 0o755
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def own_directory(path: Path, mode: int) -> None:
    """Make `path` with `mode`, or make sure that the one there is ours alone to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode)
        path.chmod(mode)  # the umask may have taken bits away
    except FileExistsError:
        _check(path)
    except OSError as error:
        raise ConfigError(
            f"cannot make the directory {path}: {error.strerror}",
            mend="run as root, or name another directory",
        ) from error


def _check(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is not a directory", mend="remove it or name another one")
    if found.st_uid not in {0, os.geteuid()}:
        raise ConfigError(
            f"{path} belongs to uid {found.st_uid}", mend=f"chown root {path}, or name another one"
        )
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigError(
            f"others may write to {path}", mend=f"chmod go-w {path}, or name another directory"
        )
