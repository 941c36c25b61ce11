# SPDX-License-Identifier: Apache-2.0
"""A day at the desk: every operation of the API is asked once of a real monitor, and written down.

What differs from one run to the next is taken out in `Normal`, and nowhere else.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import zstandard
from tiers import PATIENCE

from monitor.api import examples
from monitor.api.app import description
from monitor.api.examples import Example
from monitor.incidents import Role

OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, operations in description()["paths"].items()
    for method, operation in operations.items()
}
_ITEMS = 3
_WAIT_S = 20 * PATIENCE
_SHOWN_METRICS = re.compile(r"(# (HELP|TYPE) )?estop_(alerts_total|sessions)\b")


class Desk:
    """Asks with the least role that may, and remembers what it asked and was answered."""

    def __init__(self, address: str, socket: str, tokens: dict[Role, str]) -> None:
        self.ran: dict[str, Example] = {}
        self._clients = {
            role: httpx.Client(
                base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=_WAIT_S
            )
            for role, token in tokens.items()
        }
        transport = httpx.HTTPTransport(uds=socket)
        self._local = httpx.Client(
            transport=transport, base_url="http://localhost", timeout=_WAIT_S
        )

    def close(self) -> None:
        for client in (*self._clients.values(), self._local):
            client.close()

    def ask(self, operation: str, body: Any = None, **given: Any) -> Any:
        """The whole answer. Of `given`, what the path does not name is the query."""
        method, template = OPERATIONS[operation]
        headers = given.pop("headers", {})
        path = {name: given.pop(name) for name in re.findall(r"{(\w+)}", template)}
        request = {"params": given, "headers": headers, "json": body}
        for role, client in self._asking():
            with client.stream(method, template.format(**path), **request) as response:
                if response.status_code == 403 and client is not self._local:
                    continue
                assert response.is_success, response.read()
                media_type = response.headers["content-type"].partition(";")[0]
                answer = _READ.get(media_type, _json)(response)
            self.ran[operation] = Example(
                role=role,
                socket_only=client is self._local,
                path=path,
                query=given,
                headers=headers,
                body=body,
                status=response.status_code,
                media_type=media_type,
                answer=answer,
            )
            return answer
        raise AssertionError("the last client is never passed over")

    def _asking(self) -> Iterator[tuple[Role, httpx.Client]]:
        yield from self._clients.items()
        yield Role.RESPONDER, self._local  # what everybody is there for his own sessions


# Reading --------------------------------------------------------------------------------------------


def _json(response: httpx.Response) -> Any:
    return json.loads(response.read())


def _events(response: httpx.Response) -> list[dict[str, Any]]:
    """The first, which says where the stream begins, and the next."""
    found: list[dict[str, Any]] = [{}]
    for line in response.iter_lines():
        name, _, value = line.partition(":")
        value = value.strip()
        if name == "data" and value:
            value = json.loads(value)
        if line:
            found[-1][name] = value
        elif len(found) == 2:
            return found
        else:
            found.append({})
    raise AssertionError(f"the stream ended after {found}")


def _lines(response: httpx.Response) -> list[dict[str, Any]]:
    """The header, `tee` and its start; it is read until the session ends."""
    lines = [json.loads(line) for line in response.iter_lines() if line]
    tee = next(line for line in lines if line.get("fields", {}).get("Image") == "/usr/bin/tee")
    after = lines[lines.index(tee) :]
    return [lines[0], tee, next(line for line in after if "event" in line)]


def _metrics(response: httpx.Response) -> list[str]:
    return [line for line in response.read().decode().splitlines() if _SHOWN_METRICS.match(line)]


def _names(response: httpx.Response) -> list[str]:
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(response.read())
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return tar.getnames()


_READ: dict[str, Callable[[httpx.Response], Any]] = {
    examples.EVENTS: _events,
    examples.LINES: _lines,
    examples.PLAIN: _metrics,
    examples.BUNDLE: _names,
}


# What varies ----------------------------------------------------------------------------------------

_PIDS = {"pid", "parent_pid", "root_pid", "tgid", "tid", "child", "parent"}
_PIDS |= {"ProcessId", "ParentProcessId"}
_FIXED = {
    "uid": 1000,
    "User": "ann",
    "uptime_s": 86_400.0,
    "expires_s": 87_000.0,
    "started": 1_767_605_400.0,
    "ktime_ns": 86_400_000_000_000,
    "started_ns": 86_390_000_000_000,
    "held_ns": 0,
    "view": [4_026_531_841, 1],
    "inode": 131_072,
    "Inode": 131_072,
    "parent_inode": 131_000,
    "device": 2049,
    "Device": "8:1",
}
_BEGIN = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
_ULID = re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b")
_SESSION = re.compile(r"\b[0-9a-f]{11}-[0-9a-f]{4}\b")
_CGROUP = re.compile(r"/estop-[0-9a-f]{10}\b")
_SECRET = re.compile(r"estop_[\w-]{43}")
_PID = re.compile(r"\b(pid|process) (\d+)")
_PIPE = re.compile(r"pipe:\[\d+\]")


@dataclass
class Normal:
    """The same example without what is this machine's or this run's; long lists are cut."""

    places: dict[str, str]
    """Path -> what stands for it."""
    _pids: dict[int, int] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict)
    _began: dt.datetime | None = None

    def __call__(self, value: Any, key: str = "") -> Any:
        match value:
            case _ if key in _FIXED and type(value) is type(_FIXED[key]):
                return _FIXED[key]
            case dict():
                return {name: self(item, name) for name, item in value.items()}
            case list():
                return [self(item, key) for item in _cut(value, key)]
            case str():
                return self._text(value)
            case int() if key in _PIDS:
                return self._pid(value)
            case _:
                return value

    def _text(self, text: str) -> str:
        for place, stands_for in self.places.items():
            text = text.replace(place, stands_for)
        text = _CGROUP.sub("/estop", text)
        text = _SECRET.sub("estop_" + "x" * 43, text)
        text = _PID.sub(lambda found: f"{found[1]} {self._pid(int(found[2]))}", text)
        text = _PIPE.sub("pipe:[70001]", text)
        text = _TIME.sub(self._time, text)
        text = _SESSION.sub(lambda found: self._id(found, "19b8d8e6a{:02}-0001"), text)
        return _ULID.sub(lambda found: self._id(found, "01KE6Q4M00{:016}"), text)

    def _pid(self, pid: int) -> int:
        return self._pids.setdefault(pid, 4100 + len(self._pids)) if pid > 1 else pid

    def _id(self, found: re.Match[str], template: str) -> str:
        return self._ids.setdefault(found[0], template.format(len(self._ids) + 1))

    def _time(self, found: re.Match[str]) -> str:
        """Another day, but as long after the first time as it was."""
        time = dt.datetime.fromisoformat(found[0])
        self._began = self._began or time
        return (_BEGIN + (time - self._began)).isoformat(timespec="milliseconds")


def _cut(items: list[Any], key: str) -> list[Any]:
    if key == "events":  # of the evidence: events of each kind have fields of their own
        return [item for item in items if item["kind"] == "Executed"][:1]
    if key == "timeline":  # what the stop did is at its end
        return items[-_ITEMS:]
    return items[:_ITEMS] if items and isinstance(items[0], dict) else items


# Comparing ------------------------------------------------------------------------------------------

_BY_HOST = {"problems", "hooks_missing", "disarmed", "files", "sockets"}
"""Lists that are empty on one host and not on another."""
_COUNTS = {"programs", "lost", "timings_ns"}
"""Objects whose keys are data."""


def shape(value: Any, key: str = "") -> Any:
    """Keys and types: what a program that reads the answer relies on."""
    match value:
        case dict() if key in _COUNTS:
            return {"...": sorted({type(item).__name__ for item in value.values()})}
        case dict():
            return {name: shape(item, name) for name, item in sorted(value.items())}
        case list() if key in _BY_HOST:
            return []
        case list():
            shapes = [shape(item, key) for item in value]
            return [found for n, found in enumerate(shapes) if found not in shapes[:n]]
        case _:
            return type(value).__name__
