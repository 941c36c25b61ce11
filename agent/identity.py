# SPDX-License-Identifier: Apache-2.0
"""As whom the agent runs: the person behind sudo rather than root; it must not start anything."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass


class IdentityError(Exception):
    """The wanted user does not exist, or only root could become that user."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A login: what `sudo -u` would set."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @classmethod
    def of(cls, user: str) -> Identity:
        """Look up a login by name or number."""
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError as error:
            raise IdentityError(f"no user is called {user!r} on this machine") from error
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def choose(user: str | None, environ: Mapping[str, str], uid: int) -> Identity | None:
    """Who the agent becomes, or None to stay who we are (`uid`).

    Root behind sudo becomes the person who called sudo; nobody else can become anyone.
    """
    if uid == 0:
        wanted = user or environ.get("SUDO_USER") or "root"
        return None if wanted in {"root", "0"} else Identity.of(wanted)
    if user is not None and Identity.of(user).uid != uid:
        raise IdentityError(f"only root can start an agent as {user!r}")
    return None


def environment(identity: Identity, environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with the variables that name the user set to `identity`."""
    return {
        **environ,
        "HOME": identity.home,
        "USER": identity.name,
        "LOGNAME": identity.name,
        "SHELL": identity.shell or "/bin/sh",
    }


def assume(identity: Identity) -> None:
    """Become `identity` for good: groups first, because after setuid they can no longer change."""
    os.initgroups(identity.name, identity.gid)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
