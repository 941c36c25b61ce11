# SPDX-License-Identifier: Apache-2.0
"""Puts a technique on a stage: once without a monitor, to see that it works here, and once with one.

What happened is looked at, never assumed: see effects.py. It touches scratch files, its own cgroups
and a private monitor only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import world
from catalogue import TECHNIQUES
from environment import environ
from lookout import alerts, at_the_gate, ended, is_stopped, judge, obstacle, settled
from props import SECRET, disk, furnish, maps, stand_in
from technique import Outcome, Scene, Technique
from tiers import PATIENCE

from agent.client import MonitorError, ask
from agent.private_monitor import Monitor, private_monitor, unpin, until
from monitor.config import load
from monitor.sessions import cgroups

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
RULES = HERE.parents[1] / "rules"
CANARY_RULE = """\
title: Canary touched
id: 3d1f1f0e-5f6a-4b43-9a6c-7b1d8a2e4c01
status: experimental
description: What came before is judged.
author: estop
logsource: {product: linux, category: file_event}
detection:
    selection: {TargetFilename|endswith: /estop-canary}
    condition: selection
level: informational
response: log
"""
_LOOK_S = 0.01
_PATIENCE_S = 100.0 * PATIENCE  # for what surely comes, on the slowest machine
_DEADMAN_MS = 15_000 * PATIENCE  # an emulated monitor is late
_SLOWER = min(PATIENCE, 10.0)
_DISK_MIB = 128
"""Of a monitor: a technique fills it."""
_GRACE_S = 0.3 * _SLOWER  # for bytes that are under way
_ARMED_S = (
    1.5 * _SLOWER
)  # what was armed before the stop (rings.c, world.SLOW_FOR_S) has run by then


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a technique. `outcome` is None where it cannot be tried here: `why` says it."""

    technique: Technique
    outcome: Outcome | None
    why: str = ""
    titles: tuple[str, ...] = ()
    """The signatures that noticed."""


class Theatre:
    """One for a test run: compiled programs, a stagehand, a monitor, cgroups of our own."""

    def __init__(self, ground: Path) -> None:
        self.ground = ground
        self.base = cgroups.make(cgroups.find_root(), f"estop-evasion-{os.getpid()}")
        self._numbers = iter(range(1, 10_000))
        self._monitors = ExitStack()
        self._monitor: Monitor | None = None
        self._works: set[str] = set()
        """Techniques that were seen to work without a monitor."""
        self._stagehand = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "stagehand.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-static"]
        compilers = [
            subprocess.Popen(["cc", *flags, "-o", ground / source.stem, source, "-lpthread"])
            for source in PROGRAMS.glob("*.c")
            if source.stem != "answering"
        ]
        loaded = (
            ([], PROGRAMS / "answering.c", "answering"),  # by the dynamic linker: X3-keeper
            (["-shared", "-fPIC"], PROGRAMS / "loaded" / "reader.c", "reader.so"),
        )
        compilers += [
            subprocess.Popen(["cc", *kind, *flags[:-1], "-o", ground / name, source])
            for kind, source, name in loaded
        ]
        for compiler in compilers:
            assert compiler.wait() == 0

    def close(self) -> None:
        self._discard()
        assert self._stagehand.stdin is not None
        assert self._stagehand.stdout is not None
        self._stagehand.stdin.close()
        self._stagehand.stdout.close()
        self._stagehand.wait()
        _empty(self.base)

    def known(self) -> set[str]:
        """The ids that the programs say they have."""
        names: set[str] = set()
        for stem in {technique.program for technique in TECHNIQUES.values()}:
            done = subprocess.run([self.ground / stem], capture_output=True, check=True)
            names |= set(done.stdout.decode().split())
        return names

    # The monitor --------------------------------------------------------------------------------

    def monitor(self) -> Monitor:
        """The shared one, or a new one if the last was given to a technique to damage."""
        if self._monitor is None:
            place = self.ground / f"monitor-{next(self._numbers)}"
            place.mkdir()
            small = f"size={_DISK_MIB}m,mode=0711"
            subprocess.run(["mount", "-t", "tmpfs", "-o", small, "none", place], check=True)
            (place / "rules").mkdir()
            (place / "room").mkdir(mode=0o777)
            (place / "rules" / "canary.yml").write_text(CANARY_RULE)
            self._monitor = self._start(place)
        return self._monitor

    def _start(self, place: Path) -> Monitor:
        settings = environ(
            disarm_stops=1000,
            payment_addresses=f"{world.SINK}/32",
            # The verdict is what is tried, and not what comes of a machine too slow to give one.
            hold_timeout_ms=round(1000 * min(PATIENCE, 60)),
            # Under emulation, on a busy host, one look around in a new session takes most of a minute.
            deadman_ms=round(_DEADMAN_MS),
        )
        rules = [word for path in (RULES, place / "rules") for word in ("--rules", str(path))]
        # Who is held, the next one has to find: a monitor that is killed takes no pins with it.
        started = private_monitor(place, "--listen", "", *rules, environ=settings, keep=True)
        return self._monitors.enter_context(started)

    def _discard(self) -> None:
        """End the monitor, whatever a technique did to it, and every session that it left."""
        if self._monitor is None:
            return
        left = cgroups.find_root() / load(runtime_dir=self._monitor.runtime_dir).cgroup_name
        for cgroup in [path for path in left.glob("*") if path.is_dir()]:
            (cgroup / "cgroup.kill").write_text("1")
        process = _daemon(self._monitor)
        if process is not None:
            process.resume()
        with suppress(subprocess.TimeoutExpired):
            self._monitors.close()
        unpin(self._monitor.runtime_dir / "bpf")
        subprocess.run(["umount", "--lazy", self._monitor.runtime_dir.parent], check=True)
        if left.exists():
            _empty(left)
        self._monitor = None

    # A performance ------------------------------------------------------------------------------

    def perform(self, technique: Technique) -> Observation:
        """Try it without a monitor, then with one."""
        if technique.control and technique.twin not in self._works:
            with self._scene(technique, None) as scene:
                until(lambda: ended(scene), _PATIENCE_S, _LOOK_S)
                if not until(lambda: technique.effect(scene), _ARMED_S * 2, _LOOK_S):
                    return Observation(technique, None, obstacle(scene))
            self._works.add(technique.id)
        monitor, unharmed = self.monitor(), not technique.damages
        try:
            with self._scene(technique, monitor) as scene:
                observation = self._observe(technique, scene, monitor)
                if observation.outcome is Outcome.PREVENTED:  # to start another takes long
                    unharmed = unharmed or _is_whole(monitor, scene.victim)
                return observation
        finally:
            if not unharmed:
                self._discard()

    def _observe(self, technique: Technique, scene: Scene, monitor: Monitor) -> Observation:
        name = scene.place.name
        if technique.damages:  # who is not there must not be asked
            until(lambda: ended(scene) or is_stopped(scene), _PATIENCE_S, _LOOK_S)
            happened = until(lambda: technique.effect(scene), _ARMED_S, _LOOK_S)
            stopped = until(lambda: is_stopped(scene), _ARMED_S, _LOOK_S)
            monitor = self._mended(monitor, scene)
            until(lambda: settled(scene, monitor, name), _ARMED_S, _LOOK_S)
            time.sleep(_GRACE_S)  # the stop is one of several alerts that were waiting for it
        else:
            until(lambda: settled(scene, monitor, name), _PATIENCE_S, _LOOK_S)
            stopped = is_stopped(scene)
        if technique.then_kill:
            monitor.act(name, "kill", "the technique wants it")
        if not technique.damages:
            grace_s = _ARMED_S if technique.late else _GRACE_S
            happened = until(lambda: technique.effect(scene), grace_s, _LOOK_S)
        found = alerts(monitor, name)
        if not technique.control and not happened and "failed" in scene.output():
            return Observation(technique, None, obstacle(scene))
        refused = any(line.startswith("refused") for line in scene.output().splitlines())
        refused = refused or any(_was_refused(alert["event"]) for alert in found)
        # Stopped before its first instruction: what it was to do, it did not begin.
        refused = refused or (stopped and not technique.attach and not scene.begun())
        titles = tuple(sorted({alert["rule"]["title"] for alert in found}))
        assert titles or technique.damages or not stopped, "it was stopped, and nobody says why"
        outcome = judge(
            technique,
            happened=happened,
            stopped=stopped,
            held=any("held" in alert["timings_ns"] for alert in found),
            refused=refused,
            noticed=bool(titles),
        )
        return Observation(technique, outcome, "", titles)

    def _mended(self, monitor: Monitor, scene: Scene) -> Monitor:
        """The monitor that was damaged, so that it can be asked what it saw: continued, or restarted."""
        for filling in (monitor.runtime_dir.parent / "room").iterdir():
            os.truncate(filling, 0)  # room again; whoever filled it has it open
        process = _daemon(monitor)
        if process is not None and process.status() != psutil.STATUS_ZOMBIE:
            if process.status() == psutil.STATUS_TRACING_STOP and scene.session is not None:
                (scene.session / "cgroup.kill").write_text(
                    "1"
                )  # its tracer lets go only by its end
            process.resume()
            hard = process.rlimit(psutil.RLIMIT_NOFILE)[1]
            process.rlimit(psutil.RLIMIT_NOFILE, (hard, hard))
            return monitor
        with suppress(subprocess.TimeoutExpired):
            self._monitors.close()
        return self._start(monitor.runtime_dir.parent)

    @contextmanager
    def _scene(self, technique: Technique, monitor: Monitor | None) -> Iterator[Scene]:
        name = f"{technique.id.lower()}-{next(self._numbers)}"
        place, cgroup = self.ground / name, self.base / name
        (cgroup / "away").mkdir(parents=True)
        furnish(place, self.ground)
        with ExitStack() as stack:
            if monitor is None:
                victim, victim_dir = stand_in(place, stack), place / "victim"
                stack.callback(
                    _empty, cgroup
                )  # first of all: a traced process ends after its tracer
            else:
                stack.callback(_empty, cgroup)
                daemon = _daemon(monitor)
                assert daemon is not None
                victim, victim_dir = daemon.pid, monitor.runtime_dir.parent
                stack.callback(_end_session, monitor, name)
            request = {
                "place": str(place),
                "cgroup": str(cgroup),
                "name": name,
                "socket": monitor.socket if monitor and not technique.attach else "",
                "words": [str(self.ground / technique.program), technique.id],
                "world": technique.world,
                "inherits": technique.inherits,
                "secret": SECRET,
                "environ": self._environ(name, victim, victim_dir),
            }
            if monitor:  # who is first to act might be gone before we know its session
                request["environ"]["GATE"] = str(place / "gate")
            assert self._stagehand.stdin is not None
            assert self._stagehand.stdout is not None
            self._stagehand.stdin.write(json.dumps(request) + "\n")
            self._stagehand.stdin.flush()
            stage = int(self._stagehand.stdout.readline())
            scene = Scene(place, stage, cgroup, SECRET, victim, victim_dir)
            if monitor is not None:
                if technique.attach:
                    _attach(scene, monitor, name)
                scene = _with_session(scene, monitor, name)
                (place / "gate").touch()
            yield scene

    def _environ(self, name: str, victim: int, victim_dir: Path) -> dict[str, str]:
        place = self.ground / name
        return {
            "PATH": os.defpath,
            "HOME": str(place / "home"),
            "WORK": str(place / "work"),
            "DEEP": str(place / "deep"),
            "NAME": name,
            "CANARY": str(place / "estop-canary"),
            "AWAY": str(self.base / name / "away"),
            "CGROUPS": str(cgroups.find_root()),
            "DISK": disk(),
            "LIBRARY": str(self.ground / "reader.so"),
            "SINK": world.SINK,
            "SINK_PORT": str(world.SINK_PORT),
            "SLOW_PORT": str(world.SLOW_PORT),
            "DIAL_PORT": str(world.DIAL_PORT),
            "MONITOR": str(victim),
            "MAPS": " ".join(maps(victim)),
            "RUNTIME": str(victim_dir / "run"),
            "SOCKET": str(victim_dir / "run" / "estop.sock"),
            "PIN": next(map(str, (victim_dir / "run" / "bpf").glob("*_*/links/*")), ""),
            "RULE": str(victim_dir / "rules" / "canary.yml"),
            "SOURCE": str(HERE.parents[1] / "bpf" / "event.h"),
            "ROOM": str(victim_dir / "room"),
            "RECORD": str(victim_dir / "state" / "alerts.db"),
        }


def _was_refused(event: dict[str, Any]) -> bool:
    """The freeze may come before the program can say so itself."""
    return event.get("verdict") == "deny" or event["fields"].get("Refused") is True


def _daemon(monitor: Monitor) -> psutil.Process | None:
    runtime = str(monitor.runtime_dir)
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "daemon" in words and runtime in words:
            return process
    return None


def _is_whole(monitor: Monitor, pid: int) -> bool:
    """Is it still the one that it was, and lacks nothing?"""
    process = _daemon(monitor)
    return process is not None and process.pid == pid and bool(monitor.health()["ok"])


def _attach(scene: Scene, monitor: Monitor, name: str) -> None:
    """Tell the monitor of a process that is there already: the program, and nobody else on the stage."""
    until(lambda: bool(scene.begun()), _PATIENCE_S, _LOOK_S)
    [pid] = scene.begun()
    told = {"pid": pid, "name": name}
    ask(monitor.socket, "POST", "/api/v1/sessions/attach", told, timeout_s=_PATIENCE_S)


def _with_session(scene: Scene, monitor: Monitor, name: str) -> Scene:
    """The scene with the session's cgroup, once there is a session."""
    found: list[Path] = []

    def look() -> bool:
        with suppress(MonitorError):
            found.append(Path(monitor.session(name)["cgroup"]))
        return bool(found) or not Path(f"/proc/{scene.stage}").exists()

    until(look, _PATIENCE_S, _LOOK_S)
    assert found, f"no session: {scene.output()}"
    complete = replace(scene, session=found[-1])
    # A session may be stopped for what it inherits, before the program's first instruction. Adoption
    # and judgement stop it for a moment as well, so only a stop that is told is the end of it.
    ready = until(
        lambda: at_the_gate(complete) or settled(complete, monitor, name), _PATIENCE_S, _LOOK_S
    )
    state = {} if ready else monitor.session(name)
    assert ready, f"neither begun nor stopped: {scene.output()} {state}"
    return complete


def _end_session(monitor: Monitor, name: str) -> None:
    with suppress(MonitorError):
        cgroup = Path(monitor.session(name)["cgroup"])
        monitor.act(name, "kill", "the test is over")
        until(lambda: not list(cgroups.members(cgroup)), _PATIENCE_S, _LOOK_S)


def _empty(cgroup: Path) -> None:
    """End whatever is in a cgroup of ours, and remove it."""
    assert cgroup.is_relative_to(cgroups.find_root())
    assert cgroup.relative_to(cgroups.find_root()).parts[0].startswith("estop-")
    (cgroup / "cgroup.kill").write_text("1")
    until(lambda: not list(cgroups.members(cgroup)), _PATIENCE_S, _LOOK_S)
    assert until(lambda: cgroups.remove(cgroup), _PATIENCE_S, _LOOK_S)
