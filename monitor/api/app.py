# SPDX-License-Identifier: Apache-2.0
"""The application: routes behind the gate; it must not open sockets (see `server.py`)."""

from __future__ import annotations

import functools
from typing import Any

from fastapi import FastAPI

import monitor
from monitor.api import (
    alert_routes,
    console_routes,
    grant_routes,
    incident_routes,
    monitor_routes,
    problems,
    recording_routes,
    schema,
    session_routes,
    token_routes,
)
from monitor.api.counted import Counted
from monitor.api.gate import Gate, PeerOf, nobody_known
from monitor.api.peers import IsSupervised, nobody_supervised
from monitor.api.requests import Monitor
from monitor.api.stream import Followers
from monitor.api.tokens import Tokens
from monitor.control import Control
from monitor.metrics import Metrics
from monitor.record.store import Store

PREFIX = "/api/v1"
_ROUTES = (
    session_routes,
    recording_routes,
    incident_routes,
    grant_routes,
    alert_routes,
    monitor_routes,
    token_routes,
)

_DESCRIPTION = """The emergency stop for AI agents.

Over the unix socket the kernel says who asks: root acts on every session, others on their own.
Over loopback TCP send `Authorization: Bearer TOKEN`: a viewer reads, a responder acts, an admin also
reads rules anew and makes tokens. A supervised process may ask nothing."""


def create_app(
    control: Control,
    store: Store,
    *,
    metrics: Metrics,
    requests_per_s: int = 200,
    is_supervised: IsSupervised = nobody_supervised,
    peer_of: PeerOf = nobody_known,
) -> FastAPI:
    """The API of one monitor. Call `release(app)` when it is served no more."""
    app = _described()
    tokens = Tokens(store)
    app.state.monitor = Monitor(control, store, metrics, tokens)
    app.state.is_supervised = is_supervised
    app.state.followers = Followers(metrics.api_followers)
    store.subscribe(app.state.followers.committed)
    problems.install(app)
    app.add_middleware(
        Gate,
        control=control,
        tokens=tokens,
        requests_per_s=requests_per_s,
        peer_of=peer_of,
        open_paths=console_routes.PATHS,
    )
    app.add_middleware(Counted, metrics=metrics)
    return app


def description() -> dict[str, Any]:
    """The OpenAPI document, without a monitor behind it."""
    return _described().openapi()


def _described() -> FastAPI:
    """All routes and what is said of them; nobody answers yet."""
    app = FastAPI(
        title="estop",
        version=monitor.__version__,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        # The interactive pages would load their scripts from somebody else's server.
        docs_url=None,
        redoc_url=None,
        # Names that a generated client can use, and examples are filed under.
        generate_unique_id_function=lambda route: route.name,
    )
    for routes in _ROUTES:
        app.include_router(routes.router, prefix=PREFIX)
    app.include_router(monitor_routes.metrics_router)
    app.include_router(console_routes.router)
    app.openapi = functools.partial(schema.describe, app)  # type: ignore[method-assign]
    return app


def release(app: FastAPI) -> None:
    """Let go of the store."""
    app.state.monitor.store.unsubscribe(app.state.followers.committed)
