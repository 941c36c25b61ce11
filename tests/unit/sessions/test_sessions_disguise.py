# SPDX-License-Identifier: Apache-2.0
"""A program at a path is the host's, or something that was put there."""

from __future__ import annotations

import os
import subprocess

import pytest

from monitor import events
from monitor.sessions.disguise import MountTable, is_preloaded, lies_at, own_name
from monitor.sessions.places import HostMounts

TABLE = """\
1 1 0:2 / / rw - rootfs rootfs rw
21 1 8:1 /@ / rw,relatime shared:1 - btrfs /dev/sda1 rw
30 21 8:2 / /usr rw - ext4 /dev/sda2 rw
31 21 8:3 / /usr/bin rw - ext4 /dev/sda3 rw
32 30 8:1 /@/tmp/e /usr/sbin/passwd rw - btrfs /dev/sda1 rw
33 30 8:4 / /usr/local rw - ext4 /dev/sda4 rw
34 33 8:5 / /usr/local rw - ext4 /dev/sda5 rw
"""
DISK, OTHER, CONTAINER = os.makedev(8, 1), os.makedev(8, 2), os.makedev(0, 52)


class Waiting:
    """A process that says when it is ready, and then waits."""

    def __init__(self, *words: str, env: dict[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, env=env)

    def __enter__(self) -> subprocess.Popen[bytes]:
        assert self._process.stdout.readline()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.communicate(b"\n")


@pytest.fixture
def table(here):
    (here / "mountinfo").write_text(TABLE)
    return here / "mountinfo"


@pytest.fixture
def host(table):
    mounts = HostMounts(table)
    yield mounts
    mounts.close()


@pytest.mark.parametrize(
    ("path", "device", "within"),
    [
        ("/etc/hosts", (8, 1), "/@/etc/hosts"),
        ("/usrlocal", (8, 1), "/@/usrlocal"),
        ("/usr/lib/x", (8, 2), "/lib/x"),
        ("/usr/bin/ssh", (8, 2), "/bin/ssh"),  # what was mounted there first is covered
        ("/usr/sbin/passwd", (8, 1), "/@/tmp/e"),
        ("/usr/local/x", (8, 5), "/x"),  # the latest of two at the same place
    ],
)
def test_a_path_leads_to_what_is_mounted_there_last(table, path, device, within):
    assert MountTable(table).file(path) == (os.makedev(*device), within)


def test_a_root_directory_that_is_no_mount_has_its_files_below_it(table):
    assert MountTable(table, "/srv/jail").file("/bin/sh") == (DISK, "/@/srv/jail/bin/sh")


def test_the_table_of_a_process_knows_where_its_own_program_lies():
    program = os.path.realpath("/proc/self/exe")
    mounts = HostMounts()
    device, within = MountTable.of(os.getpid()).file(program)
    assert program in mounts.spellings(device, within)
    mounts.close()


def test_a_process_that_is_gone_has_no_table():
    process = subprocess.Popen(["true"])
    process.wait()
    assert MountTable.of(process.pid) is None


@pytest.mark.kernel
def test_a_mount_namespace_and_a_chroot_each_have_their_own_table(here):
    target = here / "jail" / "usr"
    target.mkdir(parents=True)
    (here / "jail" / "bin").mkdir()
    script = f"mount --bind {here} {target} && echo && read line"
    with Waiting("unshare", "-m", "sh", "-c", script) as process:
        device, within = MountTable.of(process.pid).file(f"{target}/program")
    assert (device, within.endswith(f"{here}/program")) == (os.stat(here).st_dev, True)
    assert not MountTable.of(os.getpid()).file(f"{target}/program")[1].endswith(f"{here}/program")
    code = f"import os; os.chroot({str(here / 'jail')!r}); print(flush=True); input()"
    with Waiting("python3", "-c", code) as process:
        device, within = MountTable.of(process.pid).file("/bin/sh")
    assert within.endswith(f"{here}/jail/bin/sh")


@pytest.mark.parametrize(
    ("text", "device", "within", "told"),
    [
        ("/bin/sh", DISK, "/@/bin/sh", ""),
        ("/bin/sh", DISK, "/@/tmp/e", "/tmp/e"),  # a bind mount
        ("/bin/sh", DISK, "/@/srv/jail/bin/sh", "/srv/jail/bin/sh"),  # a chroot
        ("/bin/sh", CONTAINER, "/bin/sh", "0:52:/bin/sh"),  # nowhere on the host
        ("/bin/sh", OTHER, "/bin/sh", "/usr/bin/sh"),
    ],
)
def test_what_is_not_the_hosts_goes_by_where_it_lies(table, host, text, device, within, told):
    assert lies_at(events.Path(text, within, device), MountTable(table), host) == told


def test_where_the_first_table_cannot_be_read_the_kernels_path_stands(host):
    assert lies_at(events.Path("/bin/sh", "/tmp/e", DISK), None, host) == ""


def opened(path, device, within):
    return events.Opened(
        ktime_ns=1, egress_bytes=0, slot=1, tgid=os.getpid(), tid=1, uid=0,
        view=events.View(0, 0), cut=False, repeats=0, access=events.Access.READ,
        file=events.File(events.Path(path, within, device), 1, 1, 0o600, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "within", "own"),
    [
        ("/etc/shadow", "/@/etc/shadow", ""),
        ("/etc/shadow", "/@/srv/jail/etc/shadow", "/etc/shadow"),
        ("/srv/jail/etc/shadow", "/@/srv/jail/etc/shadow", ""),
    ],
)
def test_a_file_is_somebodys_own_that_the_session_has_not_there(here, path, within, own):
    device = os.stat("/").st_dev  # one that this process has mounted, too
    row = f"21 1 {os.major(device)}:{os.minor(device)} /@ / rw - btrfs /dev/sda1 rw\n"
    (here / "mountinfo").write_text(row)
    first, host = MountTable(here / "mountinfo"), HostMounts(here / "mountinfo")
    assert own_name(opened(path, device, within), "", first, host) == own
    host.close()


def test_a_device_that_no_mount_has_proves_nothing(table, host):
    event = opened("/etc/shadow", os.makedev(0, 999), "/etc/shadow")
    assert own_name(event, "", MountTable(table), host) == ""


@pytest.mark.parametrize(
    ("environ", "foreign"),
    [
        ({}, False),
        ({"LD_PRELOAD": "/home/ann/x.so"}, True),
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2 ./x.so"}, True),
        ({"LD_PRELOAD": "libjemalloc.so.2:/usr/lib/x.so"}, False),
        ({"LD_PRELOAD": ""}, False),
        ({"LD_AUDIT": "/usr/../tmp/x.so"}, True),
        ({"LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/opt/x/lib"}, False),
        ({"LD_LIBRARY_PATH": "/usr/lib:"}, True),  # the working directory
        ({"LD_LIBRARY_PATH": "/home/ann/lib"}, True),
        ({"LD_LIBRARY_PATH": "/optional"}, True),
        ({"MY_LD_PRELOAD": "/home/ann/x.so"}, False),
        ({"A": "x" * 100_000, "B": "x" * 100_000, "C": "x" * 100_000}, True),
    ],
)
def test_a_library_from_elsewhere_is_seen_in_the_environment(environ, foreign):
    environ = {"PATH": os.defpath, **environ}
    with Waiting("/bin/sh", "-c", "echo; read line", env=environ) as process:
        assert is_preloaded(process.pid) == foreign


def test_a_process_that_is_gone_loads_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert not is_preloaded(process.pid)
