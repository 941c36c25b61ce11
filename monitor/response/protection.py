# SPDX-License-Identifier: Apache-2.0
"""The monitor's own directories as watches: no rule is needed, and none can turn them off.

Where LSM programs run, what is done to them is refused; elsewhere it is held, and a rule (`%estop%`
in rules/) says what follows. Nobody is exempt: the monitor is in no session.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from monitor.lowered import Act, Watch, Where

RULE = "estop-self-protection"

_BELOW = (
    Act.WRITE
    | Act.CREATE
    | Act.TRUNCATE
    | Act.LINK_TO
    | Act.LINK_FROM
    | Act.SYMLINK
    | Act.CHMOD
    | Act.RENAME_TO
    | Act.RENAME_FROM
    | Act.DELETE
    | Act.MOUNT
)
_ITSELF = Act.SYMLINK | Act.CHMOD | Act.RENAME_TO | Act.RENAME_FROM | Act.DELETE | Act.MOUNT


def own_watches(directories: Iterable[Path], secrets: Iterable[Path] = ()) -> tuple[Watch, ...]:
    """Directories that no session may change, and files in them that none may read."""
    rules = frozenset({RULE})
    watches: list[Watch] = []
    for directory in {d.resolve() for d in directories}:
        path = str(directory)
        if path == "/":
            continue
        watches.append(Watch(Where.BELOW, f"{path}/", _BELOW, _BELOW, rules=rules))
        watches.append(Watch(Where.EXACT, path, _ITSELF, _ITSELF, rules=rules))
    for secret in {s.resolve() for s in secrets}:
        acts = _BELOW | Act.READ
        watches.append(Watch(Where.EXACT, str(secret), acts, acts, rules=rules))
    return tuple(watches)
