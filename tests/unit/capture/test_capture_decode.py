# SPDX-License-Identifier: Apache-2.0
"""Records put together by hand, and the events they are."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path as File

import pytest

from monitor import events
from monitor.capture import wire
from monitor.capture.decode import decode
from monitor.capture.wire import Kind, Operation
from monitor.events import Access, Name, Path
from monitor.sessions import cgroups

DEVICE = 8 << 20 | 1
BPF = File(__file__).parents[3] / "bpf"


def record(kind, layout, *fields, tail=b"", flags=0):
    size = layout.size + len(tail)
    header = (size, kind, flags, 123, 456, 7, 1000, 1001, 33, 4026531840, 2, 789)
    return layout.packed.pack(*header, *fields) + tail


def names(*parts):
    """A path as the kernel writes it, from its spelling."""
    return b"".join(part + b"\0" for part in reversed(parts))


def path(*parts, own=None, above=b"", device=DEVICE):
    """The fields and the tail of a path; `own` names of it lie on the file's own file system."""
    tail = names(*parts)
    own_len = len(names(*parts[len(parts) - own :])) if own is not None else len(tail)
    return (len(tail), own_len, len(above), device), tail + above


EMPTY = (0, 0, 0, 0)


def test_the_header_is_on_every_event():
    event = decode(record(Kind.EXIT, wire.EXIT, 256, 0, flags=wire.TEXT_CUT))
    assert event == events.Exited(
        ktime_ns=123,
        egress_bytes=456,
        slot=7,
        tgid=1000,
        tid=1001,
        uid=33,
        view=events.View(4026531840, 2),
        cut=True,
        held_ns=789,
        code=256,
    )


def test_what_the_kernel_did_at_once_is_on_the_event():
    flags = wire.CANDIDATE | wire.STOPPED | wire.TEXT_CUT
    raw = record(Kind.EXIT, wire.EXIT, 256, 0, flags=flags)
    assert decode(raw).verdict == events.Verdict.CANDIDATE | events.Verdict.STOPPED
    assert (wire.verdict(raw), wire.slot(raw)) == (flags, 7)


def test_a_fork_names_the_child():
    event = decode(record(Kind.FORK, wire.FORK, 99, 1002, 0))
    assert (event.child, event.child_started_ns) == (1002, 99)
    assert not event.cut


@pytest.mark.parametrize(
    ("fields_and_tail", "text", "within"),
    [
        (path(b"etc", b"hosts"), "/etc/hosts", "/etc/hosts"),
        (path(), "/", "/"),
        (path(b"mnt", b"a", b"b", own=2), "/mnt/a/b", "/a/b"),
        (path(b"mnt", b"b", own=1, above=names(b"x", b"y")), "/mnt/b", "/x/y/b"),
        (path(b"hosts", own=0, above=names(b"etc", b"hosts")), "/hosts", "/etc/hosts"),
        (path(b"\xff\n"), "/\udcff\n", "/\udcff\n"),
    ],
    ids=["plain", "root", "other file system", "bind mount", "mounted file", "bytes"],
)
def test_an_open_has_both_spellings_of_its_path(fields_and_tail, text, within):
    fields, tail = fields_and_tail
    event = decode(record(Kind.OPEN, wire.OPEN, *fields, 42, 41, 0o100644, 2, 6, 0, 5, tail=tail))
    assert event.file == events.File(Path(text, within, os.makedev(8, 1)), 42, 41, 0o100644, 2)
    assert (event.access, event.repeats) == (Access.WRITE | Access.CREATED, 5)


def test_a_large_minor_number_is_whole():
    fields, tail = path(b"a", device=259 << 20 | 0xFFFFF)
    event = decode(record(Kind.OPEN, wire.OPEN, *fields, 1, 1, 0, 1, 1, 0, 0, tail=tail))
    assert event.file.path.device == os.makedev(259, 0xFFFFF)


def test_an_exec_has_image_directory_script_and_arguments():
    image, image_tail = path(b"bin", b"sh")
    cwd, cwd_tail = path(b"home")
    argv = b"sh\0\0-c\0"
    event = decode(
        record(
            Kind.EXEC, wire.EXEC, *image, 42, 41, 0o755, 1, *cwd, 77, 999, 4, len(argv), len(argv),
            tail=image_tail + cwd_tail + b"./rc" + argv,
        )
    )  # fmt: skip
    assert event.image.path.text == "/bin/sh"
    assert event.cwd.text == "/home"
    assert event.script == "./rc"
    assert event.argv == ("sh", "", "-c")
    assert (event.started_ns, event.parent, event.argv_truncated) == (77, 999, False)


@pytest.mark.parametrize(
    ("argv", "total", "expected", "truncated"),
    [(b"a\0bc", 90, ("a", "bc"), True), (b"", 0, (), False), (b"", 90, (), True)],
    ids=["cut", "none", "unreadable"],
)
def test_arguments_that_were_cut_say_so(argv, total, expected, truncated):
    event = decode(
        record(
            Kind.EXEC, wire.EXEC, *EMPTY, 0, 0, 0, 0, *EMPTY, 0, 0, 0, len(argv), total, tail=argv
        )
    )
    assert (event.argv, event.argv_truncated) == (expected, truncated)


def named(kind, source=(EMPTY, b"", b""), target=(EMPTY, b"", b""), aux=0):
    """A record about names: for each end the base's fields, the base's tail, the text."""
    fields = []
    tail = b""
    for base, base_tail, text in (source, target):
        fields += [*base, len(text), 0]
        tail += base_tail + text
    return decode(record(kind, wire.NAME, *fields, aux, tail=tail))


@pytest.mark.parametrize("kind", [Kind.RENAME, Kind.LINK])
def test_both_ends_are_told_apart(kind):
    event = named(kind, (*path(b"a", b"b"), b"x"), (EMPTY, b"", b"/c/y"))
    assert event.source == Name(Path("/a/b", "/a/b", os.makedev(8, 1)), "x")
    assert event.target == Name(None, "/c/y")


def test_a_base_that_is_the_root_itself_is_a_base():
    event = named(Kind.UNLINK, target=(*path(), b"x"))
    assert event.target == Name(Path("/", "/", os.makedev(8, 1)), "x")


def test_a_symlink_keeps_the_text_it_holds():
    event = named(Kind.SYMLINK, (EMPTY, b"", b"../up"), (EMPTY, b"", b"/l"))
    assert (event.text, event.target.text) == ("../up", "/l")


def test_truncate_and_chmod_tell_size_and_mode():
    assert named(Kind.TRUNCATE, target=(EMPTY, b"", b"/f"), aux=12).size == 12
    assert named(Kind.CHMOD, target=(EMPTY, b"", b"/f"), aux=0o104755).mode == 0o4755


@pytest.mark.parametrize(("kind", "datagram"), [(Kind.CONNECT, False), (Kind.SEND, True)])
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]
)
def test_a_destination_has_address_port_and_protocol(kind, datagram, family, address):
    raw = socket.inet_pton(family, address).ljust(16, b"\0")
    event = decode(record(kind, wire.CONNECT, 5, raw, family, 443, 6, 0))
    assert (event.address, event.port, event.protocol) == (address, 443, "tcp")
    assert (event.cookie, event.datagram, event.to_monitor) == (5, datagram, False)


def test_a_protocol_without_a_name_is_its_number():
    event = decode(record(Kind.CONNECT, wire.CONNECT, 5, bytes(16), socket.AF_INET, 0, 262, 0))
    assert event.protocol == "262"


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"/run/x\0", "/run/x"), (b"\0abs\0tract", "@abs\0tract"), (b"", "")],
    ids=["path", "abstract", "unnamed"],
)
def test_a_local_socket_is_named_as_people_write_it(raw, name):
    event = decode(record(Kind.UNIX, wire.UNIX, 12, len(raw), tail=raw))
    assert (event.name, event.listener) == (name, 12)


@pytest.mark.parametrize("kind", [Kind.DNS, Kind.TLS])
def test_a_packet_that_names_nobody_is_no_event(kind):
    payload = b"\x16\x03\x01" + bytes(60)
    fields = (bytes(16), socket.AF_INET, 53, socket.IPPROTO_TCP, len(payload), 0)
    assert decode(record(kind, wire.PAYLOAD, *fields, tail=payload)) is None


def test_what_lies_behind_the_payload_is_not_read():
    query = bytes(12) + b"\1a\0"
    fields = (bytes(16), socket.AF_INET, 53, socket.IPPROTO_UDP, 14, 0)  # without the last byte
    assert decode(record(Kind.DNS, wire.PAYLOAD, *fields, tail=query)) is None


def test_a_move_between_cgroups_says_whether_it_stays_inside():
    event = decode(record(Kind.CGROUP, wire.CGROUP, 1, 55, 1, 2, 0, tail=b"/x"))
    assert (event.target, event.inside, event.path) == (55, True, "/x")


@pytest.mark.parametrize("operation", list(Operation))
def test_every_operation_has_its_name_in_lower_case(operation):
    event = decode(
        record(Kind.PRIVILEGED, wire.PRIVILEGED, 1, 2, 3, 4, 5, 6, -1, operation, 4, tail=b"text")
    )
    assert event.operation == operation.name.lower()
    assert (event.args, event.result, event.text) == ((1, 2, 3, 4, 5, 6), -1, "text")


def test_a_signal_has_its_number():
    assert decode(record(Kind.SIGNAL, wire.SIGNAL, 19, 1)).signal == 19


def test_the_deepest_level_is_the_one_of_the_kernel_side():
    [level] = re.findall(r"#define MAX_LEVEL (\d+)", (BPF / "maps.h").read_text())
    assert int(level) == wire.MAX_LEVEL == cgroups.DEEPEST_LEVEL
