# SPDX-License-Identifier: Apache-2.0
"""Whom notices go to: webhooks, signed; and everything that apprise knows, as text."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from monitor.errors import ConfigError
from monitor.notify.notices import Notice
from monitor.notify.wording import Wording
from monitor.record.encode import to_json

_ANSWER_S = 10.0
_MANY = 3
"""More notices than that at once become one message for people."""


class DeliveryError(Exception):
    """It did not arrive; the message says why and holds no secret."""


class Target(Protocol):
    """One place to tell."""

    name: str
    """For logs, metrics and the cursor's row: without secrets, and the same after a restart."""
    former: str
    """What earlier versions called it, for the cursor that they left."""

    def deliver(self, notices: Sequence[Notice]) -> None:
        """Tell all of them, or raise DeliveryError."""
        ...


class Webhook:
    """POSTs each notice as JSON, signed like `Estop-Signature: t=UNIX_TIME,v1=HEX`.

    HEX is the HMAC-SHA256 of `UNIX_TIME.BODY` under the secret: the receiver can tell that it is from
    us and not an old one sent again.
    """

    def __init__(self, url: str, secret: bytes) -> None:
        self._url = url
        self._secret = secret
        # The hash keeps those apart that one host receives: each is told, so each has a cursor.
        self.former = f"webhook {_without_path(url)}"
        self.name = f"{self.former} {_hash(url)}"

    def deliver(self, notices: Sequence[Notice]) -> None:
        """One request for each; those that arrived come again if a later one does not."""
        with httpx.Client(timeout=_ANSWER_S) as client:
            for notice in notices:
                self._post(client, to_json(notice), f"{notice.incident.id}-{notice.kind.name}")

    def _post(self, client: httpx.Client, body: bytes, delivery: str) -> None:
        now = str(int(time.time()))
        signature = hmac.new(self._secret, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "Estop-Delivery": delivery,
            "Estop-Signature": f"t={now},v1={signature}",
        }
        try:
            answer = client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise DeliveryError(f"it answered {answer.status_code}")


class People:
    """Mail, Slack, Telegram, WeCom, DingTalk, Feishu, the desktop: whatever apprise has a URL for."""

    def __init__(self, url: str, wording: Wording) -> None:
        import apprise  # noqa: PLC0415 - takes half a second, and few have targets

        self._wording = wording
        self._apprise = apprise.Apprise()
        # The scheme alone: for many services what stands in the place of the host is the secret.
        scheme = urlsplit(url).scheme
        self.name = f"notice {scheme} {_hash(url)}"
        self.former = f"notice {_without_path(url)} {_hash(url)}"
        if not self._apprise.add(url):
            raise ConfigError(
                f"apprise knows no service for the URL that begins with {scheme + ':'!r}",
                mend="see https://github.com/caronc/apprise/wiki for the URLs there are",
            )

    def deliver(self, notices: Sequence[Notice]) -> None:
        """One message each; of many at once, one for all."""
        if len(notices) > _MANY:
            self._send(*self._wording.many(notices))
            return
        for notice in notices:
            self._send(*self._wording.one(notice))

    def _send(self, title: str, body: str) -> None:
        if not self._apprise.notify(title=title, body=body):
            raise DeliveryError("apprise could not deliver it; the log has its reason")


def targets(
    urls: Sequence[str],
    webhooks: Sequence[str],
    secret_file: Path | None,
    templates: Path | None = None,
    config: Path | None = None,
) -> list[Target]:
    """From the settings; ConfigError for one that cannot work.

    `config` is the file that they came from: where it names people, it holds the passwords to them.
    """
    if webhooks and secret_file is None:
        raise ConfigError(
            "webhooks are signed, and there is no secret",
            mend="write one to a file of root's and name it: webhook_secret_file",
        )
    secret = _secret(secret_file) if webhooks and secret_file else b""
    if urls and config is not None:
        _must_be_private(config)
    wording = Wording(templates)
    return [*(Webhook(url, secret) for url in webhooks), *(People(url, wording) for url in urls)]


def _secret(file: Path) -> bytes:
    try:
        _must_be_private(file)
        secret = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", mend="name another") from error
    if len(secret) < 16:  # noqa: PLR2004 - 128 bits, as few as anybody should sign with
        raise ConfigError(
            f"the secret in {file} is shorter than 16 bytes", mend="make a longer one"
        )
    return secret


def _must_be_private(file: Path) -> None:
    if file.stat().st_mode & 0o077:
        raise ConfigError(f"others may read {file}", mend=f"chmod 600 {file}")


def _without_path(url: str) -> str:
    """Scheme and host: user, path and query hold what nobody else should know."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.hostname or ''}"


def _hash(url: str) -> str:
    """Tells targets apart of which no more may be said."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]
