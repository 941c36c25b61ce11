# SPDX-License-Identifier: Apache-2.0
"""Who is not held: whom the rule forgives, who would be noticed, and who is in no session."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

import pytest
from calls import opening
from held import go_on, held_by, watching
from laboratory import Puppet

from monitor.events import Opened, Verdict
from monitor.lowered import Act, Lowered, Watch, Where


@pytest.mark.usefixtures("certainty_holds")
def test_a_program_that_the_rule_forgives_is_not_held(inside, verdicts, lab, scratch, holds):
    secret = scratch / "secret"
    secret.write_text("x")
    puppet = inside.puppet()
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [lab.program("puppet")])
    puppet(*opening(puppet, secret))
    assert inside.wait(Opened).verdict == Verdict.PASS
    secret = scratch / "other"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [lab.program("enter")])
    other = inside.puppet()
    held_by(inside, other, *opening(other, secret))
    go_on(holds, inside, other)


@pytest.mark.usefixtures("certainty_holds")
def test_what_a_forgiven_name_links_to_is_not_forgiven(inside, puppet, verdicts, scratch, holds):
    secret, link = scratch / "secret", scratch / "link"
    secret.write_text("x")
    link.symlink_to(puppet.image)
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [str(link)])
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.usefixtures("certainty_holds")
def test_what_one_rule_forgives_and_another_does_not_is_held_and_not_certain(
    inside, verdicts, lab, scratch, holds
):
    secret = scratch / "secret"
    secret.write_text("x")
    puppet = inside.puppet()
    verdicts.replace(
        Lowered(
            watches=(
                Watch(Where.EXACT, str(secret), Act.READ, Act.READ, frozenset({puppet.image})),
                Watch(Where.ENDING, "/secret", Act.READ, Act(0)),
            )
        )
    )
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert not event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.usefixtures("certainty_holds")
@pytest.mark.parametrize("known", [True, False])
def test_what_is_forgiven_nobody_stays_certain_beside_what_is_forgiven_some(
    inside, puppet, verdicts, scratch, holds, known
):
    secret = scratch / "secret"
    secret.write_text("x")
    some = frozenset({puppet.image})
    watches = (
        Watch(Where.EXACT, str(secret), Act.READ, Act.READ),
        Watch(Where.ENDING, "/secret", Act.READ, Act.READ, some),
        Watch(Where.BELOW, f"{scratch}/", Act.READ, Act(0), some),
    )
    verdicts.replace(Lowered(watches=watches))
    verdicts.follow({str(secret): {(secret.stat().st_dev, secret.stat().st_ino)}} if known else {})
    assert held_by(inside, puppet, *opening(puppet, secret)).verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.usefixtures("certainty_holds")
@pytest.mark.parametrize("known", [True, False])
def test_a_directory_that_nobody_may_replace_forgives_what_is_in_it_and_is_certain_of_the_rest(
    inside, puppet, verdicts, lab, scratch, holds, known
):
    kept = scratch / "kept"
    kept.write_text("x")
    files = {str(kept): {(kept.stat().st_dev, kept.stat().st_ino)}} if known else {}
    watching(verdicts, Where.BELOW, scratch, Act.WRITE, Act.WRITE, [puppet.image])
    verdicts.follow(files)
    puppet(*opening(puppet, kept, os.O_RDWR))
    assert inside.wait(Opened).verdict == Verdict.PASS
    watching(verdicts, Where.BELOW, scratch, Act.WRITE, Act.WRITE, [lab.program("enter")])
    inside.forget_events()
    event = held_by(inside, puppet, *opening(puppet, kept, os.O_WRONLY))
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


def on_an_overlay_over_two_filesystems(inside, lab, scratch):
    """The puppet, from a lower layer: there no file has the device that the kernel knows it by."""
    for name in ("lower", "upper", "merged"):
        (scratch / name).mkdir()
    script = f"""
        mount -t tmpfs lower {scratch}/lower && mount -t tmpfs upper {scratch}/upper &&
        mkdir {scratch}/upper/files {scratch}/upper/work &&
        cp {lab.program("puppet")} {scratch}/lower/puppet && mount -t overlay -o \
        lowerdir={scratch}/lower,upperdir={scratch}/upper/files,workdir={scratch}/upper/work \
        overlay {scratch}/merged && exec {scratch}/merged/puppet
    """
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    return Puppet(inside.ready("/usr/bin/unshare", *view))


def test_where_the_kernel_does_not_know_who_is_forgiven_it_asks_and_is_not_certain(
    inside, verdicts, lab, scratch, holds
):
    secret = scratch / "secret"
    secret.write_text("x")
    puppet = on_an_overlay_over_two_filesystems(inside, lab, scratch)
    program = f"/proc/{puppet.pid}/exe"
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ, [program])
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert not event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


_PTRACE_SEIZE = 0x4206


def trace(pid):
    """Become its tracer, quietly."""
    assert ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_SEIZE, pid, 0, 0) == 0


def test_nobody_is_stopped_whose_parent_or_tracer_would_notice(
    inside, verdicts, holds, scratch, lab
):
    secret = scratch / "secret"
    secret.write_text("x")
    job = Puppet(inside.ready("puppet", process_group=0))
    handles = inside.puppet()
    action = struct.pack("QQQQ", 0x400000, 0x04000000, 0x400000, 0)
    handles("rt_sigaction", signal.SIGCONT, handles.place(action), 0, 8)
    traced = inside.puppet()
    trace(traced.pid)
    watching(verdicts, Where.EXACT, secret, Act.READ)
    for puppet in (job, handles, traced):
        assert puppet(*opening(puppet, secret)) >= 0
        event = inside.wait(Opened, lambda e, pid=puppet.pid: e.tgid == pid)
        assert event.verdict == Verdict.CANDIDATE
    assert holds.waiting(inside.slot) == 3


def test_observed_sessions_and_outsiders_are_never_held(lab, verdicts, scratch):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ, Act.READ)
    with lab.session(watched=False) as outside:
        puppet = outside.puppet()
        assert puppet(*opening(puppet, secret)) >= 0
    with lab.session(watched=False) as inside:
        inside.watch(observed=True)
        puppet = inside.puppet()
        assert puppet(*opening(puppet, secret)) >= 0
        assert inside.wait(Opened).verdict == Verdict.PASS
