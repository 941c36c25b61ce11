# SPDX-License-Identifier: Apache-2.0
"""From a system call to the held process, the verdict and the frozen cgroup."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agent.private_monitor import Monitor
from tests.bench.figures import LOADS, Figures, compiled, monitored, percentiles

TRIES = 200
BUSY_TRIES = 100
REFUSED_TRIES = 100
QUIET_S = 0.03
EDITOR = Path(__file__).with_name("programs") / "editor.c"
WAYS = {
    "in place": "open /etc/hosts",
    "rename": "rename /etc/hosts.new /etc/hosts",
    "symlink": "open {links}/symbolic",
    "hard link": "open {links}/hard",
    "/proc/self/root": "open /proc/self/root/etc/hosts",
}
"""An edit of the hosts file -> what programs/editor.c is told."""
STEPS = {"held": "held_us", "matched": "verdict_us", "frozen": "frozen_us"}

Spans = dict[str, float]
"""Step -> us from before the system call."""


def measure(scratch: Path, figures: Figures) -> None:
    """from the system call to held, judged and frozen, for five ways to edit the hosts file"""
    with (
        monitored(scratch, refuse_opens="false") as monitor,
        editor(monitor, scratch) as agent,
    ):
        ways = list(WAYS)
        found = [edit(monitor, agent, scratch, ways[n % len(ways)]) for n in range(TRIES)]
        rss = psutil.Process(monitor.pid).memory_info().rss
    figures["rss_mib"] = {"value": round(rss / 2**20)}
    for step, name in STEPS.items():
        figures[name] = percentiles([spans[step] for spans in found if step in spans])
        figures[name]["n"] = len([spans for spans in found if step in spans])
    for number, way in enumerate(WAYS):
        of_way = [spans["frozen"] for spans in found[number :: len(WAYS)]]
        figures[f"frozen_us ({way})"] = percentiles(of_way)


def measure_refused(scratch: Path, figures: Figures) -> None:
    """the same where opens are refused before they happen (fanotify), which is the default"""
    opens = [way for way in WAYS if way != "rename"]
    with monitored(scratch) as monitor, editor(monitor, scratch) as agent:
        found = [edit(monitor, agent, scratch, opens[n % len(opens)]) for n in range(REFUSED_TRIES)]
    figures["refused_verdict_us"] = percentiles([spans["matched"] for spans in found])
    figures["refused_frozen_us"] = percentiles([spans["frozen"] for spans in found])


def measure_busy(scratch: Path, figures: Figures) -> None:
    """from the system call to frozen with a build running in the session beside it"""
    with (
        monitored(scratch, refuse_opens="false") as monitor,
        editor(monitor, scratch, busy=True) as agent,
    ):
        ways = list(WAYS)
        found = [edit(monitor, agent, scratch, ways[n % len(ways)]) for n in range(BUSY_TRIES)]
    figures["frozen_beside_build_us"] = percentiles([spans["frozen"] for spans in found])


@contextmanager
def editor(
    monitor: Monitor, scratch: Path, *, busy: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """An agent for whom `/etc` is a copy in memory, where a disk's journal takes no time.

    The copy is seen in the agent's mount namespace and, for `_link_again`, in ours. `busy`: builds
    go on in the session beside it.
    """
    memory = scratch / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], check=True)
    try:
        subprocess.run(["cp", "-a", "/etc", memory / "etc"], check=True)
        (memory / "links").mkdir()
        (memory / "links" / "symbolic").symlink_to("/etc/hosts")
        words = [str(compiled(scratch, EDITOR))]
        if busy:
            builds = f"{sys.executable} {LOADS} build 15"
            words = ["sh", "-c", f"while :; do {builds}; done >/dev/null & exec {words[0]}"]
        stage = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        script = f'mount --bind {memory}/etc /etc && exec "$@"'
        command = [*stage, script, "sh", *monitor.run_command("edit"), *words]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as agent:
            assert agent.stdout is not None
            agent.stdout.readline()
            try:
                yield agent
                monitor.act("edit", "kill", "the bench is over")
            except Exception:
                agent.kill()  # frozen without a monitor it would be waited for without end
                raise
    finally:
        subprocess.run(["umount", memory], check=True)


def _link_again(scratch: Path) -> None:
    """A rename made another inode the hosts file; the monitor's housekeeper has to see it too."""
    hosts, hard = scratch / "memory" / "etc" / "hosts", scratch / "memory" / "links" / "hard"
    if not hard.exists() or not hard.samefile(hosts):
        hard.unlink(missing_ok=True)
        hard.hardlink_to(hosts)
        time.sleep(1.0)


def edit(monitor: Monitor, agent: subprocess.Popen[str], scratch: Path, way: str) -> Spans:
    assert agent.stdin is not None
    assert agent.stdout is not None
    _link_again(scratch)
    if way == "rename":
        (scratch / "memory" / "etc" / "hosts.new").write_text("127.0.0.1 localhost\n")
    order = WAYS[way].format(links=scratch / "memory" / "links")
    before = {alert["id"] for alert in monitor.alerts("edit")}
    agent.stdin.write(f"{order}\n")
    agent.stdin.flush()
    time.sleep(QUIET_S)  # asking the API meanwhile would be measured too
    while not (new := [a for a in _frozen(monitor) if a["id"] not in before]):
        time.sleep(QUIET_S)
    monitor.act("edit", "resume", "again")
    start_ns = int(agent.stdout.readline())
    late_ns = new[0]["event"]["ktime_ns"] - start_ns
    timings = new[0]["timings_ns"]
    return {step: (late_ns + timings[step]) / 1000 for step in STEPS if step in timings}


def _frozen(monitor: Monitor) -> list[dict[str, Any]]:
    return [a for a in monitor.alerts("edit") if a["outcome"]["action"] == "frozen"]
