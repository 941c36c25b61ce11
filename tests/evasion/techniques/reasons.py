# SPDX-License-Identifier: Apache-2.0
"""Why a technique is not stopped: the reasons that several share."""

from __future__ import annotations

RING = "What goes through a ring ends in no system call, and this tier sees system calls."
HELD_OPEN = "A file that was open before is written without a call that this tier looks at."
PASSED = "A descriptor that arrives over a socket is not looked at on this tier."
PASSED_SOCKET = (
    "A socket that arrives over a socket is not looked at: addresses are judged where it connects."
)
MAY_BE_HONEST = "Honest work does the same, so the rule only alerts."
LOCAL = "The name of the local socket says nothing, and no rule asks who listens there."
LOADED = (
    "The library acts as the program that loaded it, and that one the rule forgives. Of its environment "
    "only what is left after the exec is seen."
)
