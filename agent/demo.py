# SPDX-License-Identifier: Apache-2.0
"""`make run`: the demo agent does four forbidden things and is stopped each time.

It must not touch the machine's own files nor leave anything behind.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from agent import demo_agent, stage
from agent.client import MonitorError
from agent.private_monitor import Monitor, StartError, private_monitor, until
from agent.report import Act, Result, act_table
from agent.supervise import supervise

_PYTHON = "/usr/bin/python3"  # the monitor's own may lie where the agent's user cannot look
_STOP_S = 30.0  # the agent's ordinary work included
_ALERT_S = 5.0
_SETTLE_S = 3 * demo_agent.GO_ON_S  # after this an agent that runs on has shown itself
_STOPS = {"frozen", "killed"}


ACTS = (
    Act("hosts", "edits the hosts file"),
    Act("credentials", "reads mail and cloud credentials"),
    Act("payment", "contacts a payment service"),
    Act("copy", "copies itself to where it starts by itself"),
)


def main() -> int:
    """The demo without a command; supervision of the command otherwise."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="an agent to supervise")
    words: list[str] = parser.parse_args().words
    console = Console(highlight=False)
    try:
        return supervise(console, words) if words else _show(console)
    except (StartError, MonitorError) as error:
        console.print(f"estop: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _show(console: Console) -> int:
    """Every act once, each as a session of its own, and the table."""
    with _scratch() as scratch:
        console.print("starting a monitor of our own (the machine's files stay untouched)")
        with private_monitor(scratch, "--listen", "") as monitor:
            health = monitor.health()
            console.print(f"watching: tier {health['tier']}, {health['rules']} signatures")
            for problem in health["problems"]:
                console.print(f"  problem: {problem}", style="yellow", markup=False)
            results = [_perform(console, monitor, scratch, act) for act in ACTS]
    console.print(act_table(results))
    stopped = sum(result.stopped for result in results)
    console.print(f"{stopped} of {len(results)} acts stopped")
    return 0 if stopped == len(results) else 1


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory that the agent's user can pass through, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="estop-demo-"))
    try:
        path.chmod(0o711)
        yield path
    finally:
        shutil.rmtree(path)


def _perform(console: Console, monitor: Monitor, scratch: Path, act: Act) -> Result:
    """Run the demo agent on a stage until it is stopped (or not), then end what is left of it."""
    console.print(f"\n[bold]{act.title}[/bold]")
    name, user = f"demo-{act.word}", os.environ.get("SUDO_USER", "nobody")
    place = _furnish(scratch / act.word, pwd.getpwnam(user))
    program, home = place / "agent" / "agent.py", place / "home"
    words = monitor.run_command(name, "--user", user, "--home", str(program.parent))
    words += [_PYTHON, str(program), act.word, str(home)]
    binds = {str(place / "hosts"): "/etc/hosts"}
    # A session of its own: Ctrl-C ends the demo, which then ends the stage in order.
    running = subprocess.Popen(stage.command(binds, words), cwd=home, start_new_session=True)
    try:
        until(lambda: _stopped(monitor, name) or running.poll() is not None, _STOP_S)
        alert = _stopping_alert(monitor, name)
        # A canary in time would come now; there is no event to wait for that never happens.
        went_on = until((home / demo_agent.CANARY).exists, _SETTLE_S)
    finally:
        with suppress(MonitorError):  # no such session: it was never adopted
            monitor.act(name, "kill", "end of the act")
        with suppress(subprocess.TimeoutExpired):
            running.wait(_ALERT_S)
        running.terminate()
        running.wait()
    return Result(act, alert, went_on)


def _furnish(place: Path, user: pwd.struct_passwd) -> Path:
    """The agent's program, a home with credentials that open nothing, and a copy of /etc/hosts."""
    home = place / "home"
    for directory in (place / "agent", home / ".aws"):
        directory.mkdir(parents=True)
    shutil.copy(demo_agent.__file__, place / "agent" / "agent.py")
    shutil.copy("/etc/hosts", place / "hosts")
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = none\n")
    (home / ".msmtprc").write_text("password none\n")
    for path in (place / "hosts", home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return place


def _stopped(monitor: Monitor, name: str) -> bool:
    try:
        return bool(monitor.session(name)["state"] != "running")
    except MonitorError as error:
        if error.status:  # not adopted yet
            return False
        raise


def _stopping_alert(monitor: Monitor, name: str) -> dict[str, Any] | None:
    """The alert whose response stopped the session, once its times are complete."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        alerts = monitor.alerts(name)
        found[:] = [alert for alert in alerts if alert["outcome"]["action"] in _STOPS]
        return bool(found)

    until(look, _ALERT_S)
    return found[-1] if found else None


if __name__ == "__main__":
    sys.exit(main())
