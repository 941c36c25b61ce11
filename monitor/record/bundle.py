# SPDX-License-Identifier: Apache-2.0
"""The evidence of one incident as one file to hand on: a `.tar.zst` whose manifest has the hashes.

    manifest.json   estop's version, the incident's id, and of every other file its size and SHA-256
    incident.json   the incident as the API tells it: tree, timeline, what was sent, the rule
    alerts.jsonl    its alerts, a line each, oldest first
    actions.jsonl   what people did
    evidence.json   processes, files, sockets and last events, as they were while it stood still

`zstd -d < FILE | tar x && sha256sum` checks it without estop.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Mapping
from typing import Any

import zstandard

import monitor
from monitor.record.account import Account
from monitor.record.encode import to_json

MEDIA_TYPE = "application/zstd"


def bundle(told: Account, evidence: Mapping[str, Any] | None) -> bytes:
    """The whole file; some hundred kilobytes for a busy agent."""
    files = {
        "incident.json": to_json(told),
        "alerts.jsonl": b"".join(to_json(alert) + b"\n" for alert in told.alerts),
        "actions.jsonl": b"".join(to_json(action) + b"\n" for action in told.actions),
        "evidence.json": to_json(evidence or {}),
    }
    manifest = {
        "estop": monitor.__version__,
        "incident": told.id,
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ],
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in {"manifest.json": to_json(manifest), **files}.items():
            member = tarfile.TarInfo(f"estop-{told.id}/{name}")
            member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
            tar.addfile(member, io.BytesIO(data))
    return zstandard.ZstdCompressor().compress(packed.getvalue())
