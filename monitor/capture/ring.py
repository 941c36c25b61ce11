# SPDX-License-Identifier: Apache-2.0
"""A consumer of BPF_MAP_TYPE_RINGBUF that takes records before it gives them back.

The kernel overwrites what lies before the consumer position, and that position lives in the map. It
is written by `commit` only: a record that was read and not committed is read again by whoever opens
the map next, so a monitor that is killed between reading an act and recording it loses nothing.

Layout (kernel/bpf/ringbuf.c): a page with the consumer position, which we write; a page with the
producer position; the data, mapped twice in a row so that no record is ever split. A record is a
`struct bpf_ringbuf_hdr` (u32 length with two flag bits, u32 of no use here), then its bytes, padded
to eight.

Waking: the kernel wakes those who poll the map only when the record being committed lies exactly at
the consumer position, that is, when we had given everything back. (A position that lags would make
poll return at once for ever, and a new record wake nobody.) So whoever waits must either have
committed everything, and may then wait in poll for as long as he likes; or look for himself, every
few milliseconds: `held_bytes` says which. Nothing is missed between the commit and the poll: the
kernel's poll compares the two positions itself.
"""

from __future__ import annotations

import mmap
from typing import Final

_BUSY: Final = 1 << 31
_DISCARD: Final = 1 << 30
_LENGTH: Final = _DISCARD - 1
_HEADER_BYTES: Final = 8


class RingReader:
    """One ring, read by one thread. `fd` stays the caller's."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.fd = fd
        self.size_bytes = size_bytes
        self._mask = size_bytes - 1
        self._ours = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._theirs = mmap.mmap(
            fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        # One aligned load or store each, and x86 keeps loads in order and stores in order and puts
        # no store before an earlier load: all that acquire and release would ask for here.
        self._consumer = memoryview(self._ours).cast("Q")
        self._producer = memoryview(self._theirs)[:8].cast("Q")
        self._headers = memoryview(self._theirs)[page:].cast("I")
        self._data = memoryview(self._theirs)[page:]
        self.position = self._consumer[0]
        """Where the next record is read; at or after what was committed."""
        self._seen = self.position

    @property
    def behind(self) -> bool:
        """Is there more than was read?"""
        return bool(self._producer[0] != self.position)

    @property
    def held_bytes(self) -> int:
        """Read and not yet given back."""
        return self.position - int(self._consumer[0])

    @property
    def backlog_bytes(self) -> int:
        """What nobody has read yet."""
        return int(self._producer[0]) - self.position

    @property
    def crowded(self) -> bool:
        """Is more than half of it full of what was not given back?"""
        return self._producer[0] - self._consumer[0] > self.size_bytes // 2

    def read(self, limit: int) -> list[bytes]:
        """Up to `limit` records, oldest first; does not wait."""
        records, self.position = self._records(self.position, limit)
        return records

    def ahead(self, limit: int) -> list[bytes]:
        """Up to `limit` records that neither this nor `read` returned; they stay to be read."""
        at = max(self._seen, self.position)
        if self._producer[0] == at:
            return []
        records, self._seen = self._records(at, limit)
        return records

    def _records(self, at: int, limit: int) -> tuple[list[bytes], int]:
        """What lies there, and where the next one will."""
        records: list[bytes] = []
        headers, data, mask = self._headers, self._data, self._mask
        end = self._producer[0]
        while at < end and len(records) < limit:
            start = at & mask
            header = headers[start >> 2]
            if header & _BUSY:  # reserved and not yet filled: what lies behind it must wait
                break
            length = header & _LENGTH
            if not header & _DISCARD:
                first = start + _HEADER_BYTES
                records.append(bytes(data[first : first + length]))
            at += (length + _HEADER_BYTES + 7) & ~7
        return records, at

    def commit(self, position: int | None = None) -> None:
        """Give everything before `position` (or all that was read) back to the kernel."""
        self._consumer[0] = self.position if position is None else position

    def close(self) -> None:
        """Unmap it. What was not committed stays for the next reader."""
        for view in (self._consumer, self._producer, self._headers, self._data):
            view.release()
        self._ours.close()
        self._theirs.close()
