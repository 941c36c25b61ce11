# SPDX-License-Identifier: Apache-2.0
"""Names in packets: the question of a DNS query, the server name of a TLS ClientHello.

Every length comes from the agent, so every read is bounded by the slice it is in; what does not
parse has no name and is not an error.
"""

from __future__ import annotations

_DNS_HEADER_BYTES = 12
_DNS_MAX_LABEL = 63
_TLS_RECORD_BYTES = 5
_TLS_SERVER_NAME = 0


def dns_question(payload: bytes, *, tcp: bool = False) -> str | None:
    """The first question's name (RFC 1035 4.1.2), lower case.

    Over TCP two bytes of length come before it, or went ahead in a packet of their own.
    """
    if not tcp:
        return _question(payload)
    whole = int.from_bytes(payload[:2], "big") == len(payload) - 2
    first, second = (payload[2:], payload) if whole else (payload, payload[2:])
    return _question(first) or _question(second)


def _question(query: bytes) -> str | None:
    at = _DNS_HEADER_BYTES
    labels: list[bytes] = []
    while at < len(query):
        length = query[at]
        if length == 0:
            return b".".join(labels).decode("ascii", "backslashreplace").lower() or None
        if (
            length > _DNS_MAX_LABEL
        ):  # a compression pointer: nothing before the question to point at
            return None
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    return None


class _Reader:
    """Big-endian numbers and length-prefixed blocks from a slice; short reads raise IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def take(self, count: int) -> bytes:
        block = self._data[self._at : self._at + count]
        if len(block) < count:
            raise IndexError
        self._at += count
        return block

    def block(self, width: int) -> bytes:
        return self.take(self.number(width))

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


def tls_server_name(payload: bytes) -> str | None:
    """The host name in the server_name extension (RFC 6066 3) of a ClientHello (RFC 8446 4.1.2).

    The record may be cut short: extensions that are whole are still read.
    """
    try:
        hello = _Reader(payload[_TLS_RECORD_BYTES:])
        hello.take(1 + 3 + 2 + 32)  # handshake type, length, version, random
        hello.block(1)  # session id
        hello.block(2)  # cipher suites
        hello.block(1)  # compression
        hello.take(2)  # length of the extensions, which may exceed what was captured
        while hello.more:
            kind = hello.number(2)
            body = hello.block(2)
            if kind == _TLS_SERVER_NAME:
                names = _Reader(_Reader(body).block(2))
                names.take(1)  # name type: host_name is the only one there is
                return names.block(2).decode("ascii", "backslashreplace").lower().rstrip(".")
    except IndexError:
        return None
    return None
