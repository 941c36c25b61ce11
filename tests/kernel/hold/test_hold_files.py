# SPDX-License-Identifier: Apache-2.0
"""Who opens a watched path, or changes a watched name, stops before he is back from the call."""

from __future__ import annotations

import os

import pytest
from calls import LINKS, linked, opening
from held import go_on, held_by, watching
from laboratory import Puppet

from monitor.events import (
    Linked,
    ModeChanged,
    Opened,
    Renamed,
    Symlinked,
    Truncated,
    Unlinked,
    Verdict,
)
from monitor.lowered import Act, Lowered, Watch, Where
from monitor.response.holds import Reason

# Opens ------------------------------------------------------------------------------------------


def test_an_open_of_a_watched_path_stops_the_process_before_it_returns(
    inside, puppet, verdicts, holds, scratch
):
    secret = scratch / "secret"
    secret.write_text("x")
    watching(verdicts, Where.EXACT, secret, Act.READ)
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert event.verdict & ~Verdict.BEFORE == Verdict.CANDIDATE | Verdict.STOPPED
    assert 0 <= event.held_ns - event.ktime_ns < 5_000_000
    stopped = [(h.pid, h.reason) for h in holds.stopped(inside.slot)]
    assert stopped == [(puppet.pid, Reason.CANDIDATE)]
    assert holds.waiting(inside.slot) == 1
    assert go_on(holds, inside, puppet) >= 0
    assert holds.waiting(inside.slot) == 0
    assert not list(holds.stopped(inside.slot))


@pytest.mark.parametrize(
    ("where", "watched"),
    [
        (Where.ENDING, "/.aws/credentials"),
        (Where.ENDING, "/credentials"),
        (Where.BELOW, "{scratch}/home"),
        (Where.BELOW, "{scratch}"),
    ],
)
@pytest.mark.usefixtures("certainty_holds")
def test_a_file_is_found_by_its_last_names_and_by_every_directory_above(
    inside, puppet, verdicts, holds, scratch, where, watched
):
    secret = scratch / "home" / ".aws" / "credentials"
    secret.parent.mkdir(parents=True)
    secret.write_text("x")
    watching(verdicts, where, watched.format(scratch=scratch), Act.READ, Act.READ)
    event = held_by(inside, puppet, *opening(puppet, secret))
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.parametrize(
    ("where", "watched"),
    [
        (Where.ENDING, "/aws/credentials"),
        (Where.ENDING, "/xcredentials"),
        (Where.EXACT, "/credentials"),
        (Where.EXACT, "{scratch}/home/.aws/credentials/x"),
        (Where.EXACT, "{scratch}/home"),
        (Where.BELOW, "{scratch}/hom"),
        (Where.BELOW, "{scratch}/home/.aws/credentials"),
        (Where.BELOW, "/home/.aws"),
    ],
)
def test_names_are_compared_whole(inside, puppet, verdicts, scratch, where, watched):
    secret = scratch / "home" / ".aws" / "credentials"
    secret.parent.mkdir(parents=True)
    secret.write_text("x")
    watching(verdicts, where, watched.format(scratch=scratch), Act.READ)
    puppet(*opening(puppet, secret))
    assert inside.wait(Opened).verdict == Verdict.PASS


def test_only_the_watched_act_is_held(inside, puppet, verdicts, holds, scratch):
    file = scratch / "hosts"
    file.write_text("x")
    watching(verdicts, Where.EXACT, file, Act.WRITE)
    puppet(*opening(puppet, file))
    assert inside.wait(Opened).verdict == Verdict.PASS
    inside.forget_events()
    held_by(inside, puppet, *opening(puppet, file, os.O_WRONLY))
    go_on(holds, inside, puppet)


def test_a_hard_link_and_a_new_file_are_found_by_inode_and_by_directory(
    inside, puppet, verdicts, holds, scratch, lab
):
    file, link = scratch / "hosts", scratch / "link"
    file.write_text("x")
    link.hardlink_to(file)
    verdicts.replace(Lowered(watches=(Watch(Where.EXACT, str(file), Act.WRITE, Act(0)),)))
    found = file.stat()
    verdicts.follow({str(file): {(found.st_dev, found.st_ino)}})
    held_by(inside, puppet, *opening(puppet, link, os.O_WRONLY))
    go_on(holds, inside, puppet)
    inside.forget_events()
    file.unlink()
    alias = scratch / "alias"
    alias.mkdir()
    script = f"mount --bind {scratch} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    held_by(inside, other, *opening(other, alias / "hosts", os.O_CREAT | os.O_WRONLY))
    go_on(holds, inside, other)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("where", "watched"),
    [(Where.EXACT, "{etc}/dns"), (Where.BELOW, "{etc}/"), (Where.ENDING, "/etc/dns")],
)
@pytest.mark.usefixtures("certainty_holds")
def test_a_link_from_a_followed_path_hides_a_file_from_no_other_watch(
    inside, puppet, verdicts, holds, scratch, link, where, watched
):
    file = scratch / "etc" / "dns"
    file.parent.mkdir()
    file.write_text("x")
    bait = linked(scratch / "bait", file, link)
    verdicts.replace(
        Lowered(
            watches=(
                Watch(Where.EXACT, str(bait), Act.READ, Act(0)),
                Watch(where, watched.format(etc=file.parent), Act.WRITE, Act.WRITE),
            )
        )
    )
    found = bait.stat()
    verdicts.follow({str(bait): {(found.st_dev, found.st_ino)}})
    held_by(inside, puppet, *opening(puppet, file, os.O_WRONLY))
    go_on(holds, inside, puppet)
    inside.forget_events()
    # Held for the bait at once, and certain for its own path.
    event = held_by(inside, puppet, *opening(puppet, file, os.O_RDWR))
    assert event.verdict & Verdict.CERTAIN
    assert holds.waiting(inside.slot) == 1
    go_on(holds, inside, puppet)


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "call"),
    [
        (Act.RENAME_TO, ("rename", "other", "hosts")),
        (Act.RENAME_FROM, ("rename", "hosts", "other")),
        (Act.DELETE, ("unlink", "hosts")),
        (Act.LINK_TO, ("link", "other", "new/hosts")),
        (Act.LINK_FROM, ("link", "hosts", "new/name")),
        (Act.SYMLINK, ("symlink", "other", "new/hosts")),
        (Act.TRUNCATE, ("truncate", "hosts", 0)),
        (Act.CHMOD, ("chmod", "hosts", 0o4755)),
    ],
)
def test_names_that_a_call_spells_are_held_by_their_last_parts(
    inside, puppet, verdicts, holds, scratch, act, call
):
    etc = scratch / "etc"
    (etc / "new").mkdir(parents=True)
    (etc / "hosts").write_text("x")
    (etc / "other").write_text("y")
    parent = "new" if "new/hosts" in call else "etc"
    watching(verdicts, Where.ENDING, f"/{parent}/hosts", act)
    name, *arguments = call
    words = [a if isinstance(a, int) else puppet.place(os.fsencode(etc / a)) for a in arguments]
    if name == "symlink":
        words[0] = puppet.place(b"other")
    event = held_by(inside, puppet, name, *words, kind=Named[name])
    assert event.verdict & ~Verdict.BEFORE == Verdict.CANDIDATE | Verdict.STOPPED
    assert go_on(holds, inside, puppet) == 0


Named = {
    "rename": Renamed,
    "unlink": Unlinked,
    "link": Linked,
    "symlink": Symlinked,
    "truncate": Truncated,
    "chmod": ModeChanged,
}


def test_a_whole_path_is_held_by_its_last_name_whatever_leads_to_it(
    inside, puppet, verdicts, holds, scratch
):
    etc = scratch / ("e" * 32)
    etc.mkdir()
    (scratch / "link").symlink_to(etc)
    watching(verdicts, Where.EXACT, etc / "hosts", Act.RENAME_TO)
    for directory in (etc, scratch / "link"):
        (scratch / "mine").write_text("x")
        names = (scratch / "mine", directory / "hosts")
        held_by(
            inside, puppet, "rename", *(puppet.place(os.fsencode(n)) for n in names), kind=Renamed
        )
        go_on(holds, inside, puppet)
        inside.forget_events()


def test_a_name_of_another_directory_is_not_held(inside, puppet, verdicts, scratch):
    git = scratch / ".git"
    git.mkdir()
    (git / "config.lock").write_text("x")
    watching(verdicts, Where.ENDING, "/.kube/config", Act.RENAME_TO)
    puppet("rename", *(puppet.place(os.fsencode(git / n)) for n in ("config.lock", "config")))
    assert inside.wait(Renamed).verdict == Verdict.PASS


def test_a_relative_name_is_judged_with_the_directory_it_starts_at(
    inside, puppet, verdicts, holds, scratch
):
    kube = scratch / ".kube"
    kube.mkdir()
    (kube / "new").write_text("x")
    watching(verdicts, Where.ENDING, "/.kube/config", Act.RENAME_TO)
    puppet("chdir", puppet.place(os.fsencode(kube)))
    names = (puppet.place(b"new"), puppet.place(b"config"))
    held_by(inside, puppet, "rename", *names, kind=Renamed)
    go_on(holds, inside, puppet)


def test_a_directory_above_a_watched_file_is_held_when_it_is_renamed(
    inside, puppet, verdicts, holds, scratch
):
    above = scratch / "above"
    (above / "etc").mkdir(parents=True)
    watching(verdicts, Where.EXACT, above / "etc" / "hosts", Act.WRITE)
    names = [puppet.place(os.fsencode(path)) for path in (above, scratch / "gone")]
    held_by(inside, puppet, "rename", *names, kind=Renamed)
    go_on(holds, inside, puppet)
