# SPDX-License-Identifier: Apache-2.0
"""Counts requests by method, route and status. Never by path: that would be one series for each id."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.metrics import Metrics

_METHODS = {"GET", "HEAD", "POST", "DELETE"}


class Counted:
    """ASGI middleware; the outermost, so that refusals are counted too."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.api_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and note the status when it is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A client may call its method anything, and every word would be a series.
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = getattr(scope.get("route"), "path", "none")
                self._requests.labels(method, route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, noting)
