# SPDX-License-Identifier: Apache-2.0
"""What the variables of rules mean on this host."""

from __future__ import annotations

import pwd
from collections.abc import Iterable, Sequence
from pathlib import Path

_NO_LOGIN = ("/nologin", "/false", "/sync")


def home_directories() -> list[str]:
    """Homes of the users that can log in: what `%home%` means in a rule."""
    homes = {u.pw_dir for u in pwd.getpwall() if not u.pw_shell.endswith(_NO_LOGIN)}
    return sorted(home.rstrip("/") for home in homes if home not in {"", "/", "/nonexistent"})


def host_variables(
    payment_addresses: Sequence[str] = (), own: Iterable[Path] = (), secrets: Iterable[Path] = ()
) -> dict[str, list[str]]:
    """Values for `|expand`; a variable without values turns the rules that need it off."""
    variables = {
        "home": home_directories(),
        "estop": [str(path.resolve()) for path in own],
        "estop_secret": [str(path.resolve()) for path in secrets],
    }
    if payment_addresses:
        variables["payment_address"] = list(payment_addresses)
    return variables
