# SPDX-License-Identifier: Apache-2.0
"""What a rule is certain about does not happen to a file, whatever way led to it."""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from pathlib import Path

import pytest
from calls import CWD, LINKS, linked, opening, within
from laboratory import Puppet
from refusals import KEPT, REFUSED, calling, refused, told

from monitor.events import Executed, Linked, Opened, Privileged, Renamed, Truncated, Unlinked
from monitor.lowered import Act, Lowered, Watch, Where

pytestmark = pytest.mark.tier("lsm")


# Opens and names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND],
)
def test_an_open_is_refused_and_truncates_nothing(inside, puppet, hosts, flags):
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, flags))
    assert told(inside, Opened).file.path.text == str(hosts)
    assert hosts.read_bytes() == KEPT


def test_a_watched_name_is_not_created_and_the_name_beside_it_is(inside, puppet, scratch, watch):
    watch(scratch / "absent")
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, scratch / "absent", os.O_CREAT | os.O_WRONLY))
    assert told(inside, Opened).file.path.text == str(scratch / "absent")
    assert not (scratch / "absent").exists()
    assert puppet(*opening(puppet, scratch / "present", os.O_CREAT | os.O_WRONLY)) >= 0


def test_a_rule_about_opens_lets_a_file_be_made_and_its_maker_write(inside, puppet, scratch, watch):
    new = scratch / "new"
    watch(new, hold=Act.WRITE, certain=Act.WRITE)
    fd = puppet(*opening(puppet, new, os.O_CREAT | os.O_WRONLY))
    watch(new, hold=Act.WRITE, certain=Act.WRITE)  # its inode is known by now
    assert puppet("pwrite64", fd, puppet.place(b"x"), 1, 0) == 1
    assert not [e for e in inside.events() if e.verdict]
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, new, os.O_WRONLY))
    assert new.read_bytes() == b"x"


def test_an_open_that_cuts_a_file_short_is_told_as_that(inside, puppet, hosts, watch):
    watch(hosts, hold=Act.TRUNCATE, certain=Act.TRUNCATE)
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, os.O_WRONLY | os.O_TRUNC))
    told(inside, Truncated)
    assert hosts.read_bytes() == KEPT
    assert puppet(*opening(puppet, hosts, os.O_WRONLY)) >= 0


def test_only_the_acts_that_the_rule_names_are_refused(inside, puppet, hosts, watch):
    watch(hosts, hold=Act.WRITE, certain=Act.WRITE)
    assert puppet(*opening(puppet, hosts)) >= 0
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, os.O_WRONLY))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (Renamed, ("rename", "other", "hosts")),
        (Renamed, ("rename", "hosts", "gone")),
        (Renamed, ("renameat2", CWD, "other", CWD, "hosts", 2)),
        (Renamed, ("renameat2", CWD, "hosts", CWD, "other", 2)),
        (Linked, ("link", "hosts", "alias")),
        (Unlinked, ("unlink", "hosts")),
        (Truncated, ("truncate", "hosts", 0)),
    ],
)
def test_names_are_refused_whichever_side_they_are_on(inside, puppet, hosts, kind, call):
    calling(puppet, "chdir", hosts.parent)
    refused(puppet, *call)
    told(inside, kind)
    assert hosts.read_bytes() == KEPT
    assert sorted(os.listdir(hosts.parent)) == ["hosts", "other"]


def test_a_directory_above_a_watched_file_is_not_renamed_away(inside, puppet, hosts):
    decoy = hosts.parent.with_name("decoy")
    decoy.mkdir()
    refused(puppet, "rename", hosts.parent, hosts.parent.with_name("gone"))
    refused(puppet, "renameat2", CWD, decoy, CWD, hosts.parent, 2)
    assert hosts.read_bytes() == KEPT


def test_a_hard_link_and_a_bind_mount_are_the_same_file(inside, hosts, scratch, lab, watch):
    alias, link = scratch / "alias", scratch / "link"
    alias.mkdir()
    link.hardlink_to(hosts)
    watch(hosts)
    script = f"mount --bind {hosts.parent} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    for path in (link, alias / "hosts", f"/proc/self/root{hosts}"):
        with pytest.raises(PermissionError):
            other(*opening(other, path, os.O_RDWR))
        with pytest.raises(PermissionError):
            other(*opening(other, path))
    assert hosts.read_bytes() == KEPT


@pytest.mark.parametrize("link", LINKS)
def test_a_link_from_a_followed_path_hides_a_file_from_no_other_watch(
    puppet, hosts, scratch, link, verdicts
):
    bait = linked(scratch / "bait", hosts, link)
    verdicts.replace(
        Lowered(
            watches=(
                Watch(Where.EXACT, str(bait), Act.READ, Act(0)),
                Watch(Where.EXACT, str(hosts), Act.WRITE, Act.WRITE),
            )
        )
    )
    verdicts.follow({str(bait): {(hosts.stat().st_dev, hosts.stat().st_ino)}})
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, hosts, os.O_WRONLY | os.O_TRUNC))
    assert hosts.read_bytes() == KEPT


@pytest.mark.parametrize("levels", [1, 15, 30])
def test_a_directory_is_watched_however_deep(inside, puppet, scratch, verdicts, levels):
    mail = scratch / "mail"
    file = mail.joinpath(*(f"d{n}" for n in range(levels)), "inbox")
    file.parent.mkdir(parents=True)
    file.write_bytes(KEPT)
    below(verdicts, mail)
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, file))
    assert told(inside, Opened).file.path.text == str(file)


def test_a_directory_is_watched_wherever_it_is_mounted_and_in_a_chroot(
    inside, puppet, scratch, lab, verdicts
):
    file = scratch / "home" / "mail" / "new" / "inbox"
    file.parent.mkdir(parents=True)
    file.write_bytes(KEPT)
    alias = scratch / "alias"
    alias.mkdir()
    script = f"mount --bind {file.parent} {alias} && exec {lab.program('puppet')}"
    view = ("--mount", "--propagation", "private", "sh", "-c", script)
    other = Puppet(inside.ready("/usr/bin/unshare", *view))
    below(verdicts, within(scratch / "home" / "mail"))
    with pytest.raises(PermissionError):
        other(*opening(other, alias / "inbox"))
    calling(puppet, "chroot", scratch / "home")
    with pytest.raises(PermissionError):
        puppet(*opening(puppet, "/mail/new/inbox"))


def below(verdicts, directory):
    verdicts.replace(Lowered(watches=(Watch(Where.BELOW, f"{directory}/", Act.READ, Act.READ),)))


def test_nothing_is_mounted_over_a_watched_file_or_above_it(inside, puppet, hosts):
    private = 0x20000  # CLONE_NEWNS
    puppet("unshare", private)
    fake = hosts.parent.with_name("fake")
    fake.mkdir()
    for over, what in ((hosts, hosts.parent / "other"), (hosts.parent, fake)):
        refused(puppet, "mount", what, over, b"", 4096, 0)  # MS_BIND
    events = [e for e in inside.events(Privileged) if e.verdict]
    assert [e.text for e in events] == [str(hosts), str(hosts.parent)]
    assert all(e.operation == "mount" and e.verdict == REFUSED for e in events)


def test_a_program_does_not_start(inside, puppet, scratch, watch):
    program = scratch / "tool"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    watch(program)
    argv = puppet.place_texts(b"tool")
    with pytest.raises(PermissionError):
        calling(puppet, "execve", program, argv, puppet.place_texts())
    assert told(inside, Executed).image.path.text == str(program)


# Descriptors that others opened -----------------------------------------------------------------


def test_an_inherited_descriptor_neither_reads_nor_writes_nor_truncates(inside, hosts):
    fd = os.open(hosts, os.O_RDWR)
    puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
    inside.forget_events()
    for call in (("pwrite64", fd, b"x", 1, 0), ("ftruncate", fd, 0)):
        with pytest.raises(PermissionError):
            puppet(*call)
    with pytest.raises(PermissionError):
        puppet("pread64", fd, puppet.place(b"." * 64), 64, 0)
    with pytest.raises(PermissionError):
        puppet("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    assert hosts.read_bytes() == KEPT
    assert {type(e) for e in inside.events() if e.verdict == REFUSED} == {Opened, Truncated}


def test_an_inherited_descriptor_is_judged_by_the_directory_and_by_whom_that_forgives(
    inside, verdicts, hosts, lab
):
    fd = os.open(hosts, os.O_RDWR)
    found = {str(hosts): {(hosts.stat().st_dev, hosts.stat().st_ino)}}
    for exempt, forgiven in (("enter", False), ("puppet", True)):
        some = frozenset({lab.program(exempt)})
        watch = Watch(Where.BELOW, f"{hosts.parent}/", Act.WRITE, Act.WRITE, some)
        verdicts.replace(Lowered(watches=(watch,)))
        verdicts.follow(found)
        puppet = Puppet(inside.ready("puppet", pass_fds=(fd,)))
        if forgiven:
            assert puppet("pwrite64", fd, puppet.place(KEPT), 1, 0) == 1
        else:
            with pytest.raises(PermissionError):
                puppet("pwrite64", fd, puppet.place(KEPT), 1, 0)
    os.close(fd)


def test_a_descriptor_that_is_passed_does_not_arrive(inside, puppet, hosts, scratch):
    ours, theirs = socket.socketpair()
    puppet = Puppet(inside.ready("puppet", pass_fds=(theirs.fileno(),)))
    with hosts.open("rb") as file, (hosts.parent / "other").open("rb") as other:
        for passed, arrives in ((file, False), (other, True)):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
            ours.sendmsg([b"x"], rights)
            data, control = puppet.place(b"." * 8), puppet.place(bytes(64))
            vector = puppet.place(struct.pack("QQ", data, 8))
            message = puppet.place(struct.pack("QQQQQQQ", 0, 0, vector, 1, control, 64, 0))
            puppet("recvmsg", theirs.fileno(), message, 0)
            length = struct.unpack("QQQQQQQ", puppet.memory(message, 56))[5]
            assert bool(length) is arrives
    ours.close()
    theirs.close()
