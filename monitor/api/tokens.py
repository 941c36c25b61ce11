# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens of the API on loopback TCP: only their hashes are kept, in memory and in the record.

A secret has 256 bits, so a plain SHA-256 of it cannot be guessed back; a slow hash would only help
whoever wants to keep the API busy.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

from msgspec.structs import replace
from ulid import ULID

from monitor.control import NewToken, TokenRequest
from monitor.errors import RecordNotFoundError
from monitor.incidents import Token
from monitor.record.store import Store
from monitor.sessions.live import now_text

_SECRET_BYTES = 32
PREFIX = "estop_"
"""So that a scanner for leaked secrets can know one."""


class Tokens:
    """All of one monitor; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._by_hash = dict(store.tokens())

    def find(self, secret: str) -> Token | None:
        """The token with this secret, unless it was revoked."""
        # By the hash: how long the look-up takes tells nothing about the secret.
        found = self._by_hash.get(_hash(secret))
        return None if found is None or found.revoked else found

    def create(self, request: TokenRequest, *, who: str) -> NewToken:
        """A new one; its secret is in the answer and nowhere else."""
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(
            id=str(ULID()),
            name=request.name,
            role=request.role,
            created=now_text(),
            created_by=who,
        )
        self._keep(_hash(secret), token)
        return NewToken(
            **{name: getattr(token, name) for name in token.__struct_fields__}, secret=secret
        )

    def listed(self) -> list[Token]:
        """Every token ever made, oldest first."""
        return sorted(self._by_hash.values(), key=lambda token: token.id)

    def revoke(self, token_id: str) -> Token:
        """It opens nothing any more, from the next request on."""
        with self._lock:
            known = next(((h, t) for h, t in self._by_hash.items() if t.id == token_id), None)
            if known is None:
                raise RecordNotFoundError(
                    f"there is no token {token_id!r}", mend="`estop token list`"
                )
            hashed, token = known
            revoked = token if token.revoked else replace(token, revoked=now_text())
            self._keep_locked(hashed, revoked)
        return revoked

    def _keep(self, hashed: str, token: Token) -> None:
        with self._lock:
            self._keep_locked(hashed, token)

    def _keep_locked(self, hashed: str, token: Token) -> None:
        self._store.save_token(token, hashed)
        self._by_hash[hashed] = token


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
