# SPDX-License-Identifier: Apache-2.0
"""The format of a recording: JSON lines, read and written; it must not know where they go.

    {"estop_recording": 1, "session": "...", "argv": [...], "started": "..."}
    {"process": 1, "fields": {"Image": "/usr/bin/git", ...}}
    {"event": 1, "ktime_ns": 8123, "category": "file_access", "process": 1, "fields": {...}}
    {"lost": 3}

A `process` line comes before the facts that name it, and a later one takes its number over. Facts of
one event have its number. A recording may be passed on, so what looks like a secret is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from monitor.errors import RecordingError
from monitor.fields import PROCESS_FIELDS, Fact
from monitor.recording.redact import redacted
from monitor.text import printable

VERSION = 1
_ENCODER = msgspec.json.Encoder()


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    estop_recording: int = VERSION
    session: str = ""
    argv: tuple[str, ...] = ()
    started: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Any other line; which one it is, is told by what it has."""

    event: int = 0
    ktime_ns: int = 0
    category: str = ""
    process: int = 0
    fields: dict[str, Any] = {}
    lost: int = 0


_HEADER = msgspec.json.Decoder(Header)
_LINE = msgspec.json.Decoder(Line)


class Happening(msgspec.Struct, frozen=True):
    """One event of a recording: `ktime_ns` is CLOCK_BOOTTIME."""

    ktime_ns: int
    facts: tuple[Fact, ...]


class Writer:
    """Happenings to lines; remembers which processes were told."""

    def __init__(self) -> None:
        self._event = 0
        self._processes: dict[int, tuple[int, dict[str, Any]]] = {}
        """pid -> the number of its newest line, and what that said."""
        self._lines = 0

    def header(self, header: Header) -> bytes:
        """The first line."""
        return _encoded(msgspec.structs.replace(header, argv=tuple(map(redacted, header.argv))))

    def lost(self, count: int) -> bytes:
        """So many events are missing here."""
        return _encoded(Line(lost=count))

    def lines(self, happening: Happening) -> Iterator[bytes]:
        """The lines of one event."""
        self._event += 1
        for fact in happening.facts:
            yield from self._fact(happening.ktime_ns, fact)

    def _fact(self, ktime_ns: int, fact: Fact) -> Iterator[bytes]:
        whose = {name: fact.fields[name] for name in PROCESS_FIELDS if name in fact.fields}
        pid = int(whose.get("ProcessId", 0))
        number, told = self._processes.get(pid, (0, None))
        if whose != told:
            self._lines += 1
            number = self._lines
            self._processes[pid] = number, whose
            yield _encoded(Line(process=number, fields=_clean(whose)))
        own = {name: value for name, value in fact.fields.items() if name not in PROCESS_FIELDS}
        yield _encoded(
            Line(
                event=self._event,
                ktime_ns=ktime_ns,
                category=fact.category,
                process=number,
                fields=_clean(own),
            )
        )


def read(path: Path) -> tuple[Header, Iterator[Happening]]:
    """A recording; a RecordingError names the line that is none."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = _HEADER.decode(first)
    except msgspec.DecodeError:
        header = None
    if header is None or header.estop_recording != VERSION or b'"estop_recording"' not in first:
        raise RecordingError(
            f"{path} is no recording of this version", mend="make one with `estop record`"
        )
    return header, _happenings(path)


def _happenings(path: Path) -> Iterator[Happening]:
    with path.open("rb") as file:
        next(file)
        yield from _joined(path, file)


def _joined(path: Path, file: Iterable[bytes]) -> Iterator[Happening]:
    processes: dict[int, dict[str, Any]] = {}
    number, ktime_ns = 0, 0
    facts: list[Fact] = []
    for at, text in enumerate(file, 2):
        try:
            line = _LINE.decode(text)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{path}:{at}: {error}", mend="record it again") from error
        if line.process and not line.event:
            processes[line.process] = line.fields
        elif line.event:
            if line.event != number and facts:
                yield Happening(ktime_ns, tuple(facts))
                facts = []
            number, ktime_ns = line.event, line.ktime_ns
            whose = processes.get(line.process, {})
            facts.append(Fact(category=line.category, fields={**whose, **line.fields}))
    if facts:
        yield Happening(ktime_ns, tuple(facts))


def _clean(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_secrets(value) for name, value in fields.items()}


def _without_secrets(value: object) -> object:
    if isinstance(value, str):
        return printable(redacted(value))
    if isinstance(value, Sequence):
        return [_without_secrets(one) for one in value]
    return value


def _encoded(line: Header | Line) -> bytes:
    return _ENCODER.encode(line) + b"\n"
