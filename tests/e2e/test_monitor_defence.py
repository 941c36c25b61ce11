# SPDX-License-Identifier: Apache-2.0
"""No session gets at the monitor: not at its memory, not at its API, not by its own cgroup."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil
import pytest
from oneliner import session_id, session_state, started, touch, write_rule

from agent.private_monitor import Monitor, private_monitor, until
from monitor.sessions.cgroups import find_root

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.mark.parametrize("which", ["monitor", "gatekeeper"])
def test_no_page_of_who_stops_an_agent_can_be_taken_away(monitor, which):
    """An agent that fills the memory would make the next stop wait for the disk."""
    watchers = [psutil.Process(monitor.pid), *psutil.Process(monitor.pid).children()]
    if which == "gatekeeper" and len(watchers) == 1:
        pytest.skip("the kernel refuses opens by itself here: nobody has to be asked")
    found = Path(f"/proc/{watchers[which == 'gatekeeper'].pid}/smaps_rollup").read_text()
    kib = {words[0]: int(words[1]) for words in map(str.split, found.splitlines()[1:])}
    assert kib["Locked:"] > 0.8 * kib["Pss:"]  # the rest are the rings, which are the kernel's


def test_a_monitor_that_was_moved_into_a_session_survives_what_it_may_not_stop(scratch, ground):
    rules = Path(f"{ground}/rules-{time.monotonic_ns()}")
    certain = write_rule(rules, 1, "/freeze-me", "freeze")
    certain.write_text(certain.read_text().replace("endswith:", "endswith|cased:"))
    code = (
        "import pathlib, time\n"
        f"while not pathlib.Path({str(scratch / 'go')!r}).exists(): time.sleep(0.01)\n"
        f"{touch(scratch / 'freeze-me')}"
    )
    with (
        private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor,
        started(monitor, "mover", code),
    ):
        line = Path(f"/proc/{monitor.pid}/cgroup").read_text().splitlines()[-1]
        home = find_root() / line.removeprefix("0::/")
        assert until(lambda: session_state(monitor, "mover") == "running", 20)
        try:
            session = Path(monitor.session("mover")["cgroup"])
            (session / "cgroup.procs").write_text(str(monitor.pid))
            (scratch / "go").touch()
            assert until(lambda: "refused" in _actions(monitor, "mover"), 20)
        finally:
            (home / "cgroup.procs").write_text(str(monitor.pid))
        assert monitor.health()["ok"], monitor.health()["problems"]


def _actions(monitor: Monitor, session: str) -> list[str]:
    return [alert["outcome"]["action"] for alert in monitor.alerts(session)]


def test_a_fifo_that_an_agent_puts_anywhere_keeps_nobody_waiting(scratch, rules):
    """Who opens one to read it waits for somebody to write, and that would be the pipeline."""
    home, at = scratch / "home", str(scratch / "fifo")
    home.mkdir()
    code = (
        "import os, time\n"
        f"os.mkfifo({at!r}); os.rename({at!r}, {at + '2'!r}); os.open({at + '2'!r}, os.O_RDWR)\n"
        "time.sleep(0.5)  # and it is looked at again\n"
        f"{touch(scratch / 'freeze-me')}"
    )
    with (
        private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor,
        started(monitor, "plumber", code, "--home", str(home)),
    ):
        assert until(lambda: session_state(monitor, "plumber") == "frozen", 20)
        assert monitor.health()["ok"], monitor.health()["problems"]


def test_a_supervised_process_is_refused_by_the_api_even_as_root_and_that_is_an_alert(monitor):
    code = (
        "import http.client, socket, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect("
        f"{monitor.socket!r})\n"
        "s.sendall(b'GET /api/v1/sessions HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n"
        "raise SystemExit(int(s.recv(100).split()[1]) - 400)"
    )
    with started(monitor, "asker", code) as agent:
        assert agent.wait(20) == 3
    titles = [a["rule"]["title"] for a in monitor.alerts(session_id(monitor, "asker"))]
    assert "A Supervised Process Asked The Monitor's API" in titles


def test_a_child_that_connects_and_ends_is_no_way_to_the_api_and_that_is_an_alert(monitor):
    code = (
        "import os, socket, time\n"
        "for _ in range(20):  # the alert knows the child once the pipeline has seen it\n"
        "    s = socket.socket(socket.AF_UNIX)\n"
        "    if not os.fork():\n"
        f"        s.connect({monitor.socket!r}); os._exit(0)\n"
        "    os.wait()\n"
        "    s.sendall(b'GET /api/v1/sessions HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n"
        "    status = int(s.recv(100).split()[1])\n"
        "    assert status == 403, status\n"
        "    time.sleep(0.1)"
    )
    with started(monitor, "parent", code) as agent:
        assert agent.wait(30) == 0
    titles = [a["rule"]["title"] for a in monitor.alerts(session_id(monitor, "parent"))]
    assert titles == ["A Supervised Process Asked The Monitor's API"]


def test_no_session_reaches_the_api_by_tcp_and_the_attempt_is_an_alert(scratch, rules):
    options = ("--listen", "127.0.0.1:0", "--rules", "rules")
    with private_monitor(scratch, *options) as monitor:
        port = next(
            c.laddr.port
            for c in psutil.net_connections("tcp4")
            if c.status == "LISTEN" and c.pid and _is_daemon(c.pid, monitor)
        )
        ways = [("127.0.0.1", 2), ("127.8.8.8", 2), ("0.0.0.0", 2), ("::ffff:127.0.0.1", 10)]
        code = (
            "import errno, socket\n"
            f"for address, family in {ways!r}:\n"
            "    with socket.socket(family) as s:\n"
            f"        assert s.connect_ex((address, {port})) == errno.EPERM, address\n"
        )
        with started(monitor, "caller", code) as agent:
            assert agent.wait(20) == 0
        session = session_id(monitor, "caller")
        titles = {alert["rule"]["title"] for alert in monitor.alerts(session)}
        assert titles == {"The monitor's API asked for"}
        with socket.create_connection(("127.0.0.1", port)):
            pass  # from outside it is there


def _is_daemon(pid: int, monitor: Monitor) -> bool:
    return str(monitor.runtime_dir) in psutil.Process(pid).cmdline()


_ROOTS, _FILES = 66, 256
_IN_ROOTS = """\
import os, time
for root in sorted(os.scandir({roots!r}), key=lambda entry: entry.name):
    if not os.fork():
        os.chroot(root.path)
        os.chdir("/")
        os.close(os.open("/w/0", os.O_RDONLY))
        time.sleep(60)
        os._exit(0)
while not os.path.exists({go!r}): time.sleep(0.01)
{touch}
"""


def test_who_has_watched_files_below_many_roots_is_told_of_and_followed_on(scratch, ground):
    """The kernel's map has room for 16,384 files, and an agent can make as many as it likes."""
    rules = Path(f"{ground}/rules-{time.monotonic_ns()}")
    write_rule(rules, 1, "/freeze-me", "freeze")
    paths = ", ".join(f"/w/{number}" for number in range(_FILES))
    many = write_rule(rules, 2, "", "freeze")
    many.write_text(many.read_text().replace("|endswith: ", f"|cased: [{paths}]"))
    for root in range(_ROOTS):
        directory = scratch / "roots" / str(root) / "w"
        directory.mkdir(parents=True)
        for number in range(_FILES):
            (directory / str(number)).touch()
    code = _IN_ROOTS.format(
        roots=str(scratch / "roots"), go=str(scratch / "go"), touch=touch(scratch / "freeze-me")
    )
    with (
        private_monitor(scratch, "--listen", "", "--rules", str(rules)) as monitor,
        started(monitor, "crowd", code),
    ):
        assert until(lambda: "estop-files-left-out" in _own_rules(monitor, "crowd"), 60)
        assert "watched files" in " ".join(monitor.health()["problems"])
        (scratch / "go").touch()
        assert until(lambda: session_state(monitor, "crowd") == "frozen", 20)
        assert _own_rules(monitor, "crowd") == ["estop-files-left-out"]


def _own_rules(monitor: Monitor, session: str) -> list[str]:
    ids = [alert["rule"]["id"] for alert in monitor.alerts(session)]
    return [rule for rule in ids if rule.startswith("estop-")]
