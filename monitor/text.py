# SPDX-License-Identifier: Apache-2.0
"""Strings that an agent controls, made safe to record and to show; it must not lose a byte.

Inside the monitor a path or argument is `str` decoded with surrogateescape (as `os.fsdecode` does),
so that the same bytes come back when the file is opened again. JSON and SQLite cannot hold lone
surrogates and a terminal must never obey an escape sequence in a file name, so text leaves the
monitor through one of the two functions below.
"""

from __future__ import annotations


def decode(raw: bytes) -> str:
    """Bytes from the kernel as text that encodes back to the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    r"""Text that any JSON encoder takes: an undecodable byte 0xff becomes the four characters `\xff`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def terminal(text: str) -> str:
    """Text for a terminal: control characters (newline, ESC, bidi marks) are shown, not obeyed."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in printable(text)
    )
