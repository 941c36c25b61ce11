# SPDX-License-Identifier: Apache-2.0
"""What is to be seen of a try while it goes on, by the kernel's word and the monitor's; and what it means."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from technique import Outcome, Scene, Technique, image

from agent.client import MonitorError
from agent.private_monitor import Monitor
from monitor.sessions import cgroups

CANARY = "Canary touched"
_ENDINGS = ("done", "refused", "failed")
_STOPS = {"frozen", "killed"}


def judge(
    technique: Technique, *, happened: bool, stopped: bool, held: bool, refused: bool, noticed: bool
) -> Outcome:
    """The outcome. A freeze that won a race promises nothing, so it does not count as prevention."""
    if refused and not happened:
        return Outcome.PREVENTED
    if stopped:
        if technique.late:
            return Outcome.FROZEN_AFTER if happened else Outcome.PREVENTED
        return Outcome.HELD if held and not technique.undoes_hold else Outcome.FROZEN_AFTER
    assert happened, "it worked without a monitor, and nobody refused it"
    return Outcome.DETECTED if noticed else Outcome.MISSED


def ended(scene: Scene) -> bool:
    return any(line.startswith(_ENDINGS) for line in scene.output().splitlines())


def obstacle(scene: Scene) -> str:
    """What the program says that it lacks here."""
    steps = [s for s in scene.output().splitlines() if s.startswith(("refused", "failed"))]
    assert steps, f"it was done, and has no effect: {scene.output()}"
    return steps[0]


def settled(scene: Scene, monitor: Monitor, name: str) -> bool:
    """Stopped and said so, or everything up to the canary is judged; or there is nobody who judges."""
    try:
        found = monitor.alerts(name)
    except MonitorError:
        return ended(scene)
    if is_stopped(scene):
        return any(alert["outcome"]["action"] in _STOPS for alert in found)
    return CANARY in {alert["rule"]["title"] for alert in found}


def is_stopped(scene: Scene) -> bool:
    """By the kernel's word, not the monitor's: every process of the session stands still."""
    if scene.session is None or not scene.session.exists():
        return False
    if "frozen 1" in (scene.session / "cgroup.events").read_text():
        return True
    states = [_state(pid) for pid in cgroups.members(scene.session)]
    return bool(states) and set(states) == {"T"}


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def alerts(monitor: Monitor, name: str) -> list[dict[str, Any]]:
    """What was worth an alert, complete with the times of the stop."""
    try:
        return [a for a in monitor.alerts(name) if a["outcome"]["action"] != "logged"]
    except MonitorError:
        return []


def at_the_gate(scene: Scene) -> bool:
    """The launcher's child has become the program, which waits for our word."""
    assert scene.session is not None
    images = map(image, cgroups.members(scene.session))
    return any(path.parent == scene.place.parent for path in images)
