# SPDX-License-Identifier: Apache-2.0
"""A real monitor, real agents on stages of their own, and a real Chromium that looks at them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from agents import agent
from environment import environ
from playwright.sync_api import expect, sync_playwright

from agent.client import ask
from agent.private_monitor import private_monitor

CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # CI is root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WAIT_MS = 20_000  # a page has much to do on a busy machine with two cores
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ground():
    """A scratch place that any user can pass through."""
    path = Path(tempfile.mkdtemp(prefix="estop-console-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def address():
    """Where the page will be; nobody else takes the port in the moment between."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="session")
def monitor(ground, address):
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    settings = environ(disarm_stops=100)  # one rule stops many agents here
    with private_monitor(
        ground, "--listen", address.removeprefix("http://"), environ=settings
    ) as started:
        yield started


@pytest.fixture(scope="module")  # Playwright's loop must be gone when others run theirs
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `make setup-e2e` installs it")
    expect.set_options(timeout=_WAIT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def token(monitor):
    """Makes a token of a role, as `estop token create` does."""

    def make(role="admin"):
        wanted = {"name": f"ann-{next(_numbers)}", "role": role}
        return ask(monitor.socket, "POST", "/api/v1/tokens", wanted)["secret"]

    return make


@pytest.fixture
def console(browser, address, token):
    """Opens a page, signed in; whatever the browser complains of fails the test."""
    contexts, complaints = [], []

    def opened(path="/incidents", *, role="admin", width=1280, scheme="light", secret=None):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(_WAIT_MS)
        page = context.new_page()
        page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        secret = token(role) if secret is None else secret
        page.goto(f"{address}/" + (f"#token={secret}&page={path}" if secret else f"#{path}"))
        return page

    opened.complaints, opened.token = complaints, token
    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def start(monitor, ground):
    """Starts agents; at the end nothing of them is left."""
    with contextlib.ExitStack() as stack:
        yield lambda name, *words: stack.enter_context(agent(monitor, ground, name, *words))
