# SPDX-License-Identifier: Apache-2.0
"""The bearer token of the API on loopback TCP: made once, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from monitor.directories import PRIVATE, own_directory
from monitor.errors import ConfigError

_BYTES = 32
_LEAST_CHARACTERS = 32


def load_token(path: Path) -> str:
    """The token in `path`; made there if there is none."""
    own_directory(path.parent, PRIVATE)
    try:
        return _create(path)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", mend="free space or fix its permissions"
        ) from error


def _create(path: Path) -> str:
    token = secrets.token_urlsafe(_BYTES)
    # Written whole under another name first: a full disk must not leave an empty token behind.
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(token + "\n")
        os.link(fresh, path)  # unlike a rename, fails if there is one already
    finally:
        fresh.unlink(missing_ok=True)
    return token


def _read(path: Path) -> str:
    mend = f"remove {path}; the next start makes a new one"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as stream:
            mode = os.fstat(descriptor).st_mode
            token = stream.read().strip()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", mend=mend) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"others may read the token in {path}", mend=mend)
    if len(token) < _LEAST_CHARACTERS:
        raise ConfigError(f"the token in {path} is too short to be safe", mend=mend)
    return token
