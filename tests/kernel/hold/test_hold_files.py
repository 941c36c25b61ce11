# SPDX-License-Identifier: Apache-2.0
"""Who opens a watched path, or changes a watched name, stops before he is back from the call."""

from __future__ import annotations

import os

import pytest
from calls import LINKS, linked, opening, within
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
    watching(verdicts, Where.EXACT, file, Act.WRITE | Act.CREATE)
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


@pytest.mark.parametrize("levels", [1, 15, 30])
@pytest.mark.usefixtures("certainty_holds")
def test_a_directory_is_watched_however_deep(inside, puppet, verdicts, holds, scratch, levels):
    mail = scratch / "mail"
    file = mail.joinpath(*(f"d{n}" for n in range(levels)), "inbox")
    file.parent.mkdir(parents=True)
    file.write_text("x")
    watching(verdicts, Where.BELOW, mail, Act.READ, Act.READ)
    event = held_by(inside, puppet, *opening(puppet, file))
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


@pytest.mark.parametrize("shown", ["mail", "mail/new", "mail/new/inbox"])
@pytest.mark.parametrize("levels", [1, 15])
@pytest.mark.usefixtures("certainty_holds")
def test_a_directory_is_watched_wherever_it_is_mounted(
    inside, verdicts, holds, scratch, lab, shown, levels
):
    file = scratch / "mail" / "new" / "inbox"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    place = scratch.joinpath("elsewhere", *(f"d{n}" for n in range(levels)))
    other = mounted(inside, lab, scratch / shown, place)
    watching(verdicts, Where.BELOW, within(scratch / "mail"), Act.READ, Act.READ)
    alias = place / file.relative_to(scratch / shown)
    event = held_by(inside, other, *opening(other, alias))
    assert event.file.path.text == str(alias)
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, other)


def test_no_names_of_two_spellings_make_a_directory_that_is_not_there(
    inside, verdicts, scratch, lab
):
    (scratch / "other" / "mail").mkdir(parents=True)
    (scratch / "other" / "mail" / "inbox").write_text("x")
    place = scratch / "mail"
    other = mounted(inside, lab, scratch / "other", place)
    mixed = ("mail/other", "other/mail/mail", "other/mail/inbox")
    verdicts.replace(
        Lowered(
            watches=tuple(
                Watch(Where.BELOW, f"{scratch}/{path}/", Act.READ, Act.READ) for path in mixed
            )
        )
    )
    other(*opening(other, place / "mail" / "inbox"))
    assert inside.wait(Opened).verdict == Verdict.PASS


@pytest.mark.usefixtures("certainty_holds")
def test_a_directory_is_watched_in_a_chroot(inside, puppet, verdicts, holds, scratch):
    file = scratch / "home" / "mail" / "inbox"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    watching(verdicts, Where.BELOW, within(file.parent), Act.READ, Act.READ)
    puppet("chroot", puppet.place(os.fsencode(scratch / "home")))
    event = held_by(inside, puppet, *opening(puppet, "/mail/inbox"))
    assert event.file.path.text == "/mail/inbox"
    assert event.verdict & Verdict.CERTAIN
    go_on(holds, inside, puppet)


def test_a_directory_forgives_a_program_what_it_does_there_and_not_what_another_asks(
    inside, puppet, verdicts, holds, scratch, lab
):
    mail = scratch / "mail"
    (mail / "new").mkdir(parents=True)
    for file in (mail / "inbox", mail / "new" / "letter"):
        file.write_text("x")
    forgiven = Watch(Where.BELOW, f"{mail}/", Act.READ, Act(0), frozenset({lab.program("puppet")}))
    other = Watch(Where.BELOW, f"{mail}/new/", Act.READ, Act(0))
    verdicts.replace(Lowered(watches=(forgiven, other)))
    puppet(*opening(puppet, mail / "inbox"))
    assert inside.wait(Opened).verdict == Verdict.PASS
    held_by(inside, puppet, *opening(puppet, mail / "new" / "letter"))
    go_on(holds, inside, puppet)


def mounted(inside, lab, what, place):
    """A puppet that has `what` at `place` too, in a mount namespace of its own."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if what.is_dir() else place.touch()
    script = f"mount --bind {what} {place} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    puppet = Puppet(inside.ready("/usr/bin/unshare", *view))
    inside.forget_events()
    return puppet


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
