# SPDX-License-Identifier: Apache-2.0
"""What is the monitor's own: its directories as watches, and the limits it started with.

No rule is needed for the watches, and none can turn them off. Where LSM programs run, what is done to
these directories is refused; elsewhere it is held, and a rule (`%estop%` in rules/) says what follows.
Nobody is exempt: the monitor is in no session.
"""

from __future__ import annotations

import resource
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
        if directory.parent == Path("/proc"):  # ours there, also where a session mounts it anew
            ending = f"/{directory.name}/oom_score_adj"
            watches.append(Watch(Where.ENDING, ending, Act.WRITE, Act.WRITE, rules=rules))
    for secret in {s.resolve() for s in secrets}:
        acts = _BELOW | Act.READ
        watches.append(Watch(Where.EXACT, str(secret), acts, acts, rules=rules))
    return tuple(watches)


class OwnLimits:
    """The resource limits of this process, for somebody else may lower them: prlimit(2)."""

    def __init__(self) -> None:
        self._limits = {number: resource.getrlimit(number) for number in _NAMES}

    def restore(self) -> list[str]:
        """Put back what was changed; its names. OSError where the kernel refuses."""
        changed = [n for n, old in self._limits.items() if resource.getrlimit(n) != old]
        for number in changed:
            resource.setrlimit(number, self._limits[number])
        return [_NAMES[number] for number in changed]


_NAMES: dict[int, str] = {
    getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")
}
