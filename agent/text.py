# SPDX-License-Identifier: Apache-2.0
"""Lines for the person at the terminal; it must not let an agent's text steer that terminal."""

from __future__ import annotations

import os
import sys


def shown(text: str) -> str:
    """Control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell(line: str, *, amid_output: bool = False) -> None:
    """One line on stderr. `amid_output`: the agent may have left the cursor in any column."""
    start = "\r\n" if amid_output and os.isatty(sys.stderr.fileno()) else ""
    print(f"{start}estop: {shown(line)}", file=sys.stderr, flush=True)  # noqa: T201 - the command line
