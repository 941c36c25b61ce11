# SPDX-License-Identifier: Apache-2.0
"""The web console: one page and its modules, from memory; it must serve nothing else.

The files hold no secrets and come without a token: what they ask of the API needs one. They are
read once, into a table of whole paths, so that no request can name another file.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response

_STATIC = Path(__file__).with_name("static")
_PAGE = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# The last two: text cannot become markup even by a mistake of ours, for innerHTML raises.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Modules of two versions must never meet in one page; over loopback they cost nothing.
    "Cache-Control": "no-store",
}


def _read() -> dict[str, tuple[bytes, str]]:
    found = {
        f"/console/{path.relative_to(_STATIC).as_posix()}": (path.read_bytes(), _TYPES[path.suffix])
        for path in _STATIC.rglob("*")
        if path.suffix in _TYPES
    }
    return {"/": found.pop(f"/console/{_PAGE}"), **found}


_FILES = _read()
PATHS = frozenset(_FILES)
"""What may be read without a token."""

router = APIRouter(include_in_schema=False)


def _serve(request: Request) -> Response:
    body, media_type = _FILES[request.scope["path"]]
    return Response(body, media_type=media_type, headers=HEADERS)


for _path in PATHS:
    router.add_api_route(_path, _serve, methods=["GET", "HEAD"])
