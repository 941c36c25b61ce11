# SPDX-License-Identifier: Apache-2.0
"""Records of the wire contract as events; kernel words in, user words out, nothing is looked up."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from monitor import events
from monitor.capture import wire
from monitor.capture.names import dns_question, tls_server_name
from monitor.capture.wire import Kind
from monitor.text import decode as text

_PROTOCOLS = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_ICMP: "icmp",
    socket.IPPROTO_ICMPV6: "icmpv6",
    socket.IPPROTO_SCTP: "sctp",
}
_MINOR_BITS = 20  # of the kernel's dev_t


class _Tail:
    """Reads the tail of a record front to back."""

    __slots__ = ("_at", "_record")

    def __init__(self, record: bytes, at: int) -> None:
        self._record = record
        self._at = at

    def take(self, length: int) -> bytes:
        start = self._at
        self._at += length
        return self._record[start : start + length]

    def path(self, length: int, own: int, above: int, dev: int) -> events.Path:
        """Names lie from the leaf to the root: see `struct estop_wire_path`."""
        names = self.take(length)
        higher = self.take(above)
        whole = _join(names)
        within = whole if own == length and not above else _join(names[:own] + higher)
        return events.Path(whole, within, _device(dev))

    def file(self, fields: tuple[int, ...]) -> events.File:
        length, own, above, dev, inode, parent, mode, links = fields
        return events.File(self.path(length, own, above, dev), inode, parent, mode, links)

    def name(self, fields: tuple[int, ...]) -> events.Name:
        length, own, above, dev, text_len, _ = fields
        base = self.path(length, own, above, dev) if length or dev else None
        return events.Name(base, text(self.take(text_len)))


def _join(names: bytes) -> str:
    parts = names.split(b"\0")[:-1]
    parts.reverse()
    return "/" + text(b"/".join(parts))


def _device(dev: int) -> int:
    return os.makedev(dev >> _MINOR_BITS, dev & ((1 << _MINOR_BITS) - 1))


def _address(family: int, raw: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    return socket.inet_ntop(socket.AF_INET6, raw)


_Head = dict[str, Any]
_ACCESSES = tuple(map(events.Access, range(8)))
_HEADER_FIELDS = len(wire.HEADER.members)


def _fork(head: _Head, f: tuple[int, ...], _: _Tail) -> events.Event:
    return events.Forked(**head, child_started_ns=f[0], child=f[1])


def _exec(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    image = tail.file(f[0:8])
    cwd = tail.path(*f[8:12])
    started_ns, parent, script_len, argv_len, argv_total = f[12:17]
    script = text(tail.take(script_len))
    raw = tail.take(argv_len)
    argv = tuple(text(arg) for arg in raw.removesuffix(b"\0").split(b"\0")) if raw else ()
    return events.Executed(
        **head,
        image=image,
        cwd=cwd,
        script=script,
        argv=argv,
        argv_truncated=argv_len < argv_total,
        started_ns=started_ns,
        parent=parent,
    )


def _exit(head: _Head, f: tuple[int, ...], _: _Tail) -> events.Event:
    return events.Exited(**head, code=f[0])


def _open(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Opened(**head, file=tail.file(f[0:8]), access=_ACCESSES[f[8] & 7], repeats=f[10])


def _rename(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Renamed(**head, source=tail.name(f[0:6]), target=tail.name(f[6:12]))


def _link(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Linked(**head, source=tail.name(f[0:6]), target=tail.name(f[6:12]))


def _symlink(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Symlinked(**head, text=tail.name(f[0:6]).text, target=tail.name(f[6:12]))


def _unlink(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Unlinked(**head, target=tail.name(f[6:12]))


def _truncate(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Truncated(**head, target=tail.name(f[6:12]), size=f[12])


def _chmod(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.ModeChanged(**head, target=tail.name(f[6:12]), mode=f[12] & 0o7777)


def _destination(datagram: bool) -> Callable[[_Head, tuple[int, ...], _Tail], events.Event]:  # noqa: FBT001
    def decode(head: _Head, f: tuple[int, ...], _: _Tail) -> events.Event:
        cookie, address, family, port, protocol, to_monitor = f
        return events.Connected(
            **head,
            address=_address(family, address),  # type: ignore[arg-type]
            port=port,
            protocol=_PROTOCOLS.get(protocol, str(protocol)),
            cookie=cookie,
            datagram=datagram,
            to_monitor=bool(to_monitor),
        )

    return decode


def _dns(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event | None:
    address, family, port, protocol, length, _ = f
    name = dns_question(tail.take(length), tcp=protocol == socket.IPPROTO_TCP)
    if name is None:
        return None
    return events.NameAsked(
        **head,
        name=name,
        address=_address(family, address),  # type: ignore[arg-type]
        port=port,
        protocol=_PROTOCOLS[protocol],
    )


def _tls(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event | None:
    address, family, port, _, length, _ = f
    name = tls_server_name(tail.take(length))
    if name is None:
        return None
    return events.ServerNamed(
        **head,
        name=name,
        address=_address(family, address),  # type: ignore[arg-type]
        port=port,
    )


def _unix(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    name = text(tail.take(f[1]))
    # An abstract name starts with NUL and may hold any byte; a path ends at its NUL.
    shown = "@" + name[1:] if name.startswith("\0") else name.rstrip("\0")
    return events.UnixConnected(**head, name=shown, listener=f[0])


def _cgroup(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    _, target, inside, length, _ = f
    return events.CgroupMoved(
        **head, target=target, inside=bool(inside), path=text(tail.take(length))
    )


def _privileged(head: _Head, f: tuple[int, ...], tail: _Tail) -> events.Event:
    return events.Privileged(
        **head,
        args=f[0:6],
        result=f[6],
        operation=wire.Operation(f[7]).name.lower(),
        text=text(tail.take(f[8])),
    )


def _signal(head: _Head, f: tuple[int, ...], _: _Tail) -> events.Event:
    return events.Signalled(**head, signal=f[0])


_DECODERS: dict[int, tuple[wire.Layout, Callable[..., events.Event | None]]] = {
    Kind.FORK: (wire.FORK, _fork),
    Kind.EXEC: (wire.EXEC, _exec),
    Kind.EXIT: (wire.EXIT, _exit),
    Kind.OPEN: (wire.OPEN, _open),
    Kind.RENAME: (wire.NAME, _rename),
    Kind.LINK: (wire.NAME, _link),
    Kind.SYMLINK: (wire.NAME, _symlink),
    Kind.UNLINK: (wire.NAME, _unlink),
    Kind.TRUNCATE: (wire.NAME, _truncate),
    Kind.CHMOD: (wire.NAME, _chmod),
    Kind.CONNECT: (wire.CONNECT, _destination(datagram=False)),
    Kind.SEND: (wire.CONNECT, _destination(datagram=True)),
    Kind.UNIX: (wire.UNIX, _unix),
    Kind.DNS: (wire.PAYLOAD, _dns),
    Kind.TLS: (wire.PAYLOAD, _tls),
    Kind.CGROUP: (wire.CGROUP, _cgroup),
    Kind.PRIVILEGED: (wire.PRIVILEGED, _privileged),
    Kind.SIGNAL: (wire.SIGNAL, _signal),
}

NAMES = frozenset(kind for kind, (layout, _) in _DECODERS.items() if layout is wire.NAME)
"""Kinds that tell of a name that was changed."""
_VERDICT_BITS = sum(events.Verdict)
# Flags made once: an enum takes as long to make one as the rest of the header does.
_VERDICTS = {bits: events.Verdict(bits) for bits in range(_VERDICT_BITS + 1)}


def decode(record: bytes) -> events.Event | None:
    """One record as an event; None for a packet that turned out to name nobody."""
    layout, build = _DECODERS[wire.kind(record)]
    fields = layout.packed.unpack_from(record)
    _, _, flags, ktime_ns, egress_bytes, slot, tgid, tid, uid, mnt_ns, root, held_ns = fields[
        :_HEADER_FIELDS
    ]
    head = {
        "ktime_ns": ktime_ns,
        "egress_bytes": egress_bytes,
        "slot": slot,
        "tgid": tgid,
        "tid": tid,
        "uid": uid,
        "view": events.View(mnt_ns, root),
        "cut": bool(flags & wire.TEXT_CUT),
        "held_ns": held_ns,
        "verdict": _VERDICTS[flags & _VERDICT_BITS],
    }
    return build(head, fields[_HEADER_FIELDS:], _Tail(record, layout.size))
