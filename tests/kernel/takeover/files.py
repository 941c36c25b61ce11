# SPDX-License-Identifier: Apache-2.0
"""Files that a puppet makes, and what records say of them."""

from __future__ import annotations

import os

from monitor.capture.decode import decode
from monitor.events import Opened


def opened(records, path):
    """How often the file appears among records."""
    events = (decode(record) for record in records)
    return sum(isinstance(e, Opened) and e.file.path.text == str(path) for e in events)


def drained(kernel):
    records = []
    while found := kernel.records.read(0):
        records += found
    return records


def make(puppet, path):
    puppet("close", puppet("open", os.fsencode(path) + b"\0", os.O_CREAT | os.O_WRONLY, 0o600))
