# SPDX-License-Identifier: Apache-2.0
"""Serves the app on the unix socket and on loopback TCP, from one thread with its own loop.

It must not handle signals (the daemon does) nor decide who may ask (the gate does).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from monitor.api import peers
from monitor.api.app import release
from monitor.directories import PUBLIC, own_directory
from monitor.errors import ConfigError

_LOG = logging.getLogger(__name__)

_STARTED_WITHIN_S = 10.0
_STOPPED_WITHIN_S = 3
_SOCKET_MODE = 0o666
"""Anybody may knock: the gate looks at the credentials of whoever does."""


class Server:
    """One served app. `start` returns once it answers; `stop` once nobody is served any more."""

    def __init__(
        self, app: FastAPI, *, socket_path: Path, address: tuple[str, int] | None = None
    ) -> None:
        self._app = app
        self._socket_path = socket_path
        self._address = address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._server = _Server(
            uvicorn.Config(
                app,
                http=peers.protocol(app.state.is_supervised),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # X-Forwarded-For would let a client lie about its address
                timeout_graceful_shutdown=_STOPPED_WITHIN_S,
            ),
            self._ready,
        )
        self.address: tuple[str, int] | None = None
        """Host and port that are really served; differs from what was asked for port 0."""

    @property
    def alive(self) -> bool:
        """False before `start`, after `stop`, and if the API broke: then health must say so."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the console; empty without TCP."""
        if self.address is None:
            return ""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def start(self) -> None:
        """Open both sockets and answer on them."""
        sockets = [_unix_socket(self._socket_path)]
        try:
            if self._address is not None:
                sockets.append(_tcp_socket(*self._address))
                self.address = sockets[-1].getsockname()[:2]
        except ConfigError:
            self._close(sockets)
            raise
        self._thread = threading.Thread(
            target=self._serve, args=(sockets,), name="api", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(_STARTED_WITHIN_S):
            self.stop()
            raise ConfigError(f"the API did not start within {_STARTED_WITHIN_S:.0f} s")

    def stop(self) -> None:
        """End the streams, finish the requests under way, close and remove the sockets."""
        if self._thread is None:
            return
        self._server.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed between the question and the call
                self._loop.call_soon_threadsafe(self._app.state.followers.end)
        self._thread.join()
        self._thread = None
        release(self._app)

    def _serve(self, sockets: list[socket.socket]) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._server.serve(sockets=sockets))
        except Exception:  # noqa: BLE001 - the monitor goes on without its API
            _LOG.exception("the API ended; sessions are still watched")
        finally:
            self._close(sockets)

    def _close(self, sockets: list[socket.socket]) -> None:
        for opened in sockets:
            opened.close()
        self._socket_path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn's server that says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and then say so."""
        await super().startup(sockets)
        self._ready.set()


def _unix_socket(path: Path) -> socket.socket:
    own_directory(path.parent, PUBLIC)
    _remove_stale(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(str(path))
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"cannot make the socket {path}: {error.strerror or error}",
            mend="name a shorter or writable --runtime-dir",
        ) from error
    path.chmod(_SOCKET_MODE)
    opened.listen()
    return opened


def _remove_stale(path: Path) -> None:
    """A socket that nobody answers is left from a monitor that was killed."""
    if not path.is_socket():
        if path.exists():
            raise ConfigError(f"{path} is not a socket", mend=f"remove {path}")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigError(
        f"another estop daemon answers on {path}",
        mend="stop it, or give this one another --runtime-dir",
    )


def _tcp_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen()
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use",
                mend="give another --listen HOST:PORT, port 0 for any, or --listen '' for none",
            ) from error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}", mend="give another --listen"
        ) from error
    return opened
