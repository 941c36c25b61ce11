# SPDX-License-Identifier: Apache-2.0
"""The console's files: there for everybody on this machine but an agent, and nothing beside them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from monitor.api.console_routes import PATHS
from monitor.api.gate import Gate
from monitor.control import Peer

STATIC = Path(__file__).parents[3] / "monitor/api/static"
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}


@pytest.fixture
def anybody(api):
    """A client without a token, at the root of the server."""
    host, port = api.server.address
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        yield client


def _file(path):
    return STATIC / ("index.html" if path == "/" else path.removeprefix("/console/"))


def test_every_file_of_the_console_is_served_as_it_is_without_a_token(anybody):
    files = {str(path) for path in STATIC.rglob("*") if path.is_file()}
    assert {str(_file(path)) for path in PATHS} == files
    for path in PATHS:
        answer = anybody.get(path)
        assert (answer.status_code, answer.content) == (200, _file(path).read_bytes()), path
        assert answer.headers["content-type"] == TYPES[_file(path).suffix[1:]]


def test_every_file_comes_with_a_policy_that_lets_nothing_in_from_outside(anybody):
    for path in PATHS:
        headers = anybody.head(path).headers
        assert set(headers["content-security-policy"].split("; ")) == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/",
        "/console/index.html",
        "/console/../gate.py",
        "/console/%2e%2e/gate.py",
        "/console/..%2fgate.py",
        "/console//main.js",
        "/console/main.js/",
        "/console/pages",
        "/index.html",
        "/api/v1/sessions",
        "/metrics",
    ],
)
def test_nothing_but_the_files_is_open_without_a_token(anybody, path):
    assert anybody.get(path).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_files_can_only_be_read(anybody, method):
    assert anybody.request(method, "/").status_code == 401


def test_the_page_is_not_served_to_a_name_of_somebody_elses(anybody):
    assert anybody.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_a_supervised_process_may_not_even_see_the_page(api, anybody):
    api.behind_tcp = Peer(uid=0, pid=1, supervised=True)
    assert anybody.get("/").status_code == 403


def test_a_page_is_never_half_there_because_many_were_opened_at_once():
    async def served(scope, receive, send):
        await PlainTextResponse("a file")(scope, receive, send)

    async def statuses():
        gate = Gate(served, control=None, tokens=None, requests_per_s=1, open_paths={"/"})
        transport = httpx.ASGITransport(app=gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await client.get("/")).status_code for _ in range(3)]

    assert asyncio.run(statuses()) == [200, 200, 200]


def test_the_page_has_no_script_style_or_address_of_its_own():
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page)
    for file in STATIC.rglob("*.*"):
        outside = re.findall(r"https?://[\w./]+", file.read_text())
        assert set(outside) <= {"http://www.w3.org/2000/svg"}, file


def test_no_module_can_make_markup_from_text():
    markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\("
    )
    for file in STATIC.rglob("*.js"):
        assert not markup.search(file.read_text()), file
        assert file.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n"), file
