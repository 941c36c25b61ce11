# SPDX-License-Identifier: Apache-2.0
"""Under which paths the host's mounts show a file."""

from __future__ import annotations

import os

import pytest

from monitor.sessions.places import HostMounts

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 8:2 / /home rw - ext4 /dev/sda2 rw
31 21 8:2 /ann/my\\040files /mnt/with\\040space rw - ext4 /dev/sda2 rw
32 21 8:1 /etc/hosts /jail/etc/hosts rw - ext4 /dev/sda1 rw
33 21 0:44 / /odd\\134name\\011\\012 rw - tmpfs tmpfs rw
34 21 0:45 / /a\rb\fc\u2028d\udcffe rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mounts(here):
    (here / "mountinfo").write_bytes(os.fsencode(TABLE))
    table = HostMounts(here / "mountinfo")
    yield table
    table.close()


@pytest.mark.parametrize(
    ("device", "within", "spellings"),
    [
        ((8, 1), "/usr/x", ["/usr/x"]),
        ((8, 1), "/etc/hosts", ["/etc/hosts", "/jail/etc/hosts"]),
        ((8, 1), "/etc/hosts2", ["/etc/hosts2"]),
        ((8, 2), "/bob/x", ["/home/bob/x"]),
        ((8, 2), "/ann/my files/x", ["/home/ann/my files/x", "/mnt/with space/x"]),
        ((0, 44), "/f", ["/odd\\name\t\n/f"]),
        ((0, 45), "/f", ["/a\rb\fc\u2028d\udcffe/f"]),
        ((7, 7), "/f", []),
    ],
)
def test_a_file_has_a_spelling_for_every_mount_that_shows_it(mounts, device, within, spellings):
    assert list(mounts.spellings(os.makedev(*device), within)) == spellings


def test_the_hosts_own_table_knows_this_file():
    mounts = HostMounts()
    try:
        mounts.refresh()
        spellings = mounts.spellings(os.stat("/").st_dev, "/some/file")
        assert "/some/file" in spellings or not spellings  # `/` may be a subdirectory elsewhere
    finally:
        mounts.close()
