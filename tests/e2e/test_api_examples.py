# SPDX-License-Identifier: Apache-2.0
"""Every example of the API is run again, against a real monitor with a real agent that is stopped.

`--write-examples` puts what was answered into monitor/api/examples; `make examples` does, and then
writes docs/api.md anew.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from api_examples import OPERATIONS, Desk, Normal, shape
from environment import environ
from supervised import Supervised, supervised
from tiers import PATIENCE

from agent import birth
from agent.birth import Plan
from agent.private_monitor import Monitor, private_monitor, until
from monitor.api import examples
from monitor.config import bundled_rules
from monitor.incidents import Role
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_WAIT_S = 20 * PATIENCE
_AGENT = 'while read -r line < "$1/order"; do echo "$line" | tee -a /etc/hosts; done'
"""It sleeps in open(2) until it is told what to write."""


@contextmanager
def coder(monitor: Monitor, ground: Path, user) -> Iterator[tuple[Supervised, Path]]:
    """An agent named `coder` that adds to the hosts file what it is told."""
    place = ground / "coder"
    home = place / "home"
    for directory in (home, place / "agent"):
        directory.mkdir(parents=True)
    subprocess.run(["cp", "-a", "/etc", place / "etc"], check=True)
    os.mkfifo(home / "order")
    for mine in (home, home / "order", place / "etc" / "hosts"):
        os.chown(mine, user.pw_uid, user.pw_gid)
    command = ["/bin/sh", "-c", _AGENT, "coder", str(home)]
    with supervised(monitor, place, user, command, []) as of:
        assert until(lambda: any(s["name"] == "coder" for s in monitor.get("/sessions")), _WAIT_S)
        yield of, home / "order"


@contextmanager
def newborn() -> Iterator[int]:
    """Pid of a child that waits to become an agent."""
    waiting = birth.conceive(Plan(["/bin/true"], os.environ, None, ()))
    try:
        yield waiting.pid
    finally:
        waiting.abandon()


@contextmanager
def tree() -> Iterator[int]:
    """Pid of a process that runs already."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def environment() -> dict[str, str]:
    """The defaults; but an emulated machine that is late has no more to tell than another."""
    limits = {"freeze_deadline": 1000, "hold_timeout": 1000, "deadman": 5000}
    slower = min(PATIENCE, 60)
    return environ(**{f"{name}_ms": int(ms * slower) for name, ms in limits.items()})


def tokens(monitor: Monitor) -> dict[Role, str]:
    transport = httpx.HTTPTransport(uds=monitor.socket)
    names = {Role.VIEWER: "vic", Role.RESPONDER: "ann", Role.ADMIN: "ada"}
    with httpx.Client(transport=transport, base_url="http://localhost/api/v1") as client:
        return {
            role: client.post("/tokens", json={"name": name, "role": role}).json()["secret"]
            for role, name in names.items()
        }


def a_day(desk: Desk, of: Supervised, order: Path, stack: ExitStack) -> None:
    """The agent is stopped, looked at, given leave, let go on, and ended."""
    ask = desk.ask
    facts = stack.enter_context(ThreadPoolExecutor(1)).submit(ask, "facts", session="coder")
    time.sleep(1.2 * PATIENCE)  # its files are marked in the housekeeper's next round
    order.write_text("203.0.113.7 pay.example.org\n")
    stop = of.await_stop(_WAIT_S)
    assert until(lambda: of.monitor.get(f"/alerts/{stop['id']}")["evidence"], _WAIT_S)

    ask("list_sessions", past=True)
    ask("one_session", session="coder")
    ask("list_alerts", session="coder", level="high", limit=1)
    ask("one_alert", alert=stop["id"])
    ask("acknowledge_alert", {"why": "seen"}, alert=stop["id"])
    ask("assign_alert", {"to": "ann"}, alert=stop["id"])
    ask("stream_alerts", headers={"last-event-id": "0"}, session="coder")

    (incident,) = ask("list_incidents", state="open")["items"]
    ask("one_incident", incident=incident["id"])
    ask("evidence_of", incident=incident["id"])
    ask("acknowledge_incident", {"why": "on it"}, incident=incident["id"])
    ask("assign_incident", {"to": "ann"}, incident=incident["id"])
    ask("stream_incidents", headers={"last-event-id": "0"})

    leave = {"rule": stop["rule"]["id"], "fields": {"TargetFilename": "/etc/hosts"}, "for_s": 600}
    grant = ask("create_grant", {**leave, "why": "a new name"}, session="coder")
    ask("list_grants", session="coder")
    ask("resume", {"why": "it may"}, session="coder")
    ask("revoke_grant", grant=grant["id"])
    ask("freeze", {"why": "odd traffic"}, session="coder")
    ask("kill", {"why": "enough"}, session="coder")
    ask("actions_on", session="coder")
    facts.result(_WAIT_S)

    command = {"argv": ["true"], "hardening": []}
    pid = stack.enter_context(newborn())
    ask("launch", {"pid": pid, "name": "writer", **command})
    pid = stack.enter_context(tree())
    ask("attach", {"pid": pid, "name": "helper", "mode": "observe"})

    ask("me")
    ask("health")
    ask("rules")
    ask("reload_rules")
    ask("metrics")
    token = ask("create_token", {"name": "bob", "role": "viewer"})
    ask("list_tokens")
    ask("revoke_token", token=token["id"])


@pytest.fixture(scope="module")
def ran(ground, user, request):
    """What every operation was asked and answered, without what varies."""
    if os.geteuid() != 0:
        pytest.skip("loads BPF: needs root")
    user = request.getfixturevalue("user")
    port = free_port()
    scratch = ground / "examples"
    scratch.mkdir()
    with (
        private_monitor(scratch, "--listen", f"127.0.0.1:{port}", environ=environment()) as monitor,
        coder(monitor, ground, user) as (of, order),
        ExitStack() as stack,
    ):
        address = f"http://127.0.0.1:{port}"
        desk = stack.enter_context(closing(Desk(address, monitor.socket, tokens(monitor))))
        a_day(desk, of, order, stack)
    places = {
        str(ground / "coder" / "home"): "/home/ann",
        str(ground / "coder"): "/srv/coder",
        str(bundled_rules()): "/usr/lib/estop/rules",
        f"{find_root()}/": "/sys/fs/cgroup/",
    }
    normal = Normal(places)
    found = {
        operation: msgspec.convert(normal(msgspec.to_builtins(example)), examples.Example)
        for operation, example in desk.ran.items()
    }
    if request.config.getoption("write_examples", default=False):
        for operation, example in found.items():
            examples.write(operation, example)
    return found


def test_every_operation_is_run_and_no_example_is_of_an_operation_that_is_gone(ran):
    assert set(ran) == set(OPERATIONS) == examples.known()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_answers_as_its_example_says(ran, operation):
    written = examples.of(operation)
    assert written is not None, "run `make examples`"
    for part in ("role", "socket_only", "path", "query", "headers", "body", "status", "media_type"):
        assert getattr(ran[operation], part) == getattr(written, part), part
    assert shape(ran[operation].answer) == shape(written.answer)


def test_nothing_in_an_example_is_of_the_machine_it_was_run_on(ran, ground):
    own = {socket.gethostname(), str(ground), str(Path.home()), str(Path.cwd()), "/tmp/"}
    own |= {getpass.getuser()} - {"root"}
    for operation, example in ran.items():
        text = msgspec.json.encode(example).decode()
        assert not {word for word in own if word in text}, operation
