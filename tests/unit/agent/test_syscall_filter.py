# SPDX-License-Identifier: Apache-2.0
"""What seccomp refuses to a launched command, by each entry into the kernel.

Every attempt is also made outside a session: where the kernel refuses it there too, there is
nothing to learn and the test is skipped. Arguments are such that no attempt could do harm.
"""

from __future__ import annotations

import errno
import subprocess
from functools import cache
from pathlib import Path

import pytest

ENTRIES = {"64": "unistd_64.h", "32": "unistd_32.h"}
IOCTL_TYPE, IOCTL_TEXT = 0x5412, 0x541C
ANY_INT = 1 << 32
"""Above an int: the kernel does not look at it."""
INET, INET6, STREAM, DATAGRAM, RAW, PACKET = 2, 10, 1, 2, 3, 10

CALLS = {
    "io_uring_setup": (),
    "io_uring_enter": (),
    "io_uring_register": (),
    "bpf": (),
    "open_by_handle_at": (),
    "init_module": (),
    "finit_module": (-1,),
    "delete_module": (),
    "kexec_load": (0, 1000),
    "kexec_file_load": (-1, -1),
    "reboot": (),
    "settimeofday": (),
    "clock_settime": (),
    "clock_settime64": (),
    "stime": (),
    "adjtimex": (),
    "clock_adjtime": (),
    "clock_adjtime64": (),
    "userfaultfd": (0xFFFF,),
}
ARGUMENTS = {
    "typing into the terminal": ("ioctl", 0, IOCTL_TYPE),
    "typing, with a long request": ("ioctl", 0, ANY_INT | IOCTL_TYPE),
    "pasting into the console": ("ioctl", 0, IOCTL_TEXT),
    "a group that holds opens": ("fanotify_init", 0x4),
    "a group that holds early": ("fanotify_init", 0x8 | 0x1),
    "a group that hands out descriptors": ("fanotify_init", 0x1),
    "the same, to write": ("fanotify_init", ANY_INT, 2),
    "raw IP": ("socket", INET, RAW, 255),
    "raw ICMP": ("socket", INET, RAW | 0o2000000, 1),
    "raw IPv6": ("socket", INET6, RAW, 255),
    "frames by the oldest way": ("socket", INET, PACKET, 0x300),
    "frames, with a flag": ("socket", INET, PACKET | 0o2000000, 0),
}
FAMILIES = {"PACKET": 17, "TIPC": 30, "ALG": 38, "VSOCK": 40, "XDP": 44}
PROTOCOLS = {"UDP-Lite": (DATAGRAM, 136), "MPTCP": (STREAM, 262), "SCTP": (STREAM, 132)}
TYPES = {"none": 0, "RDM": 4, "SEQPACKET": 5, "DCCP": 6}
HARMLESS = {
    "unix": ("socket", 1, STREAM, 0),
    "TCP": ("socket", INET, STREAM, 6),
    "UDP over IPv6": ("socket", INET6, DATAGRAM, 17),
    "TCP, not to be waited for": ("socket", INET, STREAM | 0o2004000, 0),
    "packets to a neighbour": ("socket", 1, 5, 0),
    "route questions": ("socket", 16, RAW, 0),
    "udev questions": ("socket", 16, RAW, 15),
    "watching files": ("fanotify_init", 0x200, 0),
    "watching names": ("fanotify_init", 0x400 | 0x800, 0),
    "a user namespace": ("unshare", 0x10000000),
    "looking at a handle": ("name_to_handle_at", -100, 0, 0, 0),
}


@cache
def numbers(header: str) -> dict[str, int]:
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    source = f"#include <asm/{header}>\n"
    out = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines() if line.startswith("#define __NR_"))
    return {row[1].removeprefix("__NR_"): int(row[2]) for row in rows if row[2].isdigit()}


@pytest.fixture(scope="session")
def attempt(tmp_path_factory):
    program = tmp_path_factory.mktemp("attempt") / "attempt"
    source = Path(__file__).with_name("attempt.c")
    subprocess.run(["cc", "-O1", "-Wall", "-static", "-o", program, source], check=True)

    def words(entry: str, name: str, *arguments: int) -> list[str]:
        number = numbers(ENTRIES[entry]).get(name)
        if number is None:
            pytest.skip(f"{name} is not a call of the {entry}-bit entry")
        return [str(program), entry, str(number), *map(str, arguments)]

    return words


@pytest.fixture
def refusal(launch):
    """The errno inside a session, where outside it is another one."""

    def inside(words: list[str]) -> int:
        outside = int(subprocess.check_output(words, stdin=subprocess.DEVNULL))
        found = int(launch(*words, stdin=subprocess.DEVNULL).stdout)
        if found == outside:
            assert found, "nobody refuses it"
            pytest.skip(f"refused to this user on this kernel anyway: errno {found}")
        return found

    return inside


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", CALLS)
def test_a_way_round_the_monitor_is_refused(attempt, refusal, entry, name):
    assert refusal(attempt(entry, name, *CALLS[name])) == errno.EPERM


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("what", ARGUMENTS)
def test_a_call_is_refused_for_one_argument(attempt, refusal, entry, what):
    assert refusal(attempt(entry, *ARGUMENTS[what])) == errno.EPERM


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_socket_family_that_no_hook_judges_is_refused(attempt, refusal, entry, family):
    words = attempt(entry, "socket", ANY_INT | FAMILIES[family], DATAGRAM)
    outside = int(subprocess.check_output(words))
    if outside == errno.EAFNOSUPPORT:
        pytest.skip("this kernel has no such sockets")
    assert refusal(words) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_that_asks_no_hook_is_refused(attempt, refusal, protocol):
    assert refusal(attempt("64", "socket", INET, *PROTOCOLS[protocol])) == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.parametrize("kind", TYPES)
def test_a_protocol_cannot_be_had_by_its_type_alone(attempt, launch, kind, family):
    words = attempt("64", "socket", family, TYPES[kind], 0)
    assert int(launch(*words, stdin=subprocess.DEVNULL).stdout) == errno.ESOCKTNOSUPPORT


def test_the_old_32_bit_way_to_a_socket_is_closed(attempt, refusal):
    assert refusal(attempt("32", "socketcall", 1)) == errno.EAFNOSUPPORT


@pytest.mark.parametrize("number", [3, ANY_INT | 3])
def test_the_old_32_bit_way_to_a_connection_is_closed(attempt, launch, number):
    words = attempt("32", "socketcall", number)
    assert int(subprocess.check_output(words)) == errno.EFAULT  # without its arguments
    assert int(launch(*words).stdout) == errno.EPERM


def test_x32_answers_as_a_kernel_without_it(attempt, launch):
    _, _, number = attempt("64", "getpid")
    program, *_ = attempt("64", "getpid")
    assert int(launch(program, "x32", number).stdout) == errno.ENOSYS


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("what", HARMLESS)
def test_what_programs_need_is_answered_as_outside(attempt, launch, entry, what):
    words = attempt(entry, *HARMLESS[what])
    assert launch(*words).stdout == subprocess.check_output(words, text=True)
