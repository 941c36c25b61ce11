# SPDX-License-Identifier: Apache-2.0
"""The lsm tier is what its name promises: a program refuses an act before it happens."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest
from environment import kept

from monitor.capture.headers import header_tree

pytestmark = [pytest.mark.kernel, pytest.mark.tier("lsm")]

# Only the file of this inode is refused, whoever opens it.
PROGRAM = rb"""
#define EPERM 1
BPF_ARRAY(refused, unsigned long, 1);

LSM_PROBE(file_open, struct file *file)
{
    int zero = 0;
    unsigned long *inode = refused.lookup(&zero);

    if (inode && *inode && file->f_inode->i_ino == *inode)
        return -EPERM;
    return 0;
}
"""


@pytest.fixture(scope="module")
def refuse(request):
    """Refuses opens of one file for as long as the block runs."""
    tree = header_tree(kept(request.config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCC_KERNEL_SOURCE", str(tree))
        import bcc  # noqa: PLC0415 - it reads the variable while it is imported

        program = bcc.BPF(text=PROGRAM, cflags=["-Wno-macro-redefined"])

    @contextmanager
    def refuse(path):
        table = program[b"refused"]
        table[table.Key(0)] = table.Leaf(path.stat().st_ino)
        try:
            yield
        finally:
            table[table.Key(0)] = table.Leaf(0)

    yield refuse
    program.cleanup()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    return path


def test_a_refused_open_fails_with_eperm_and_truncates_nothing(refuse, file):
    with refuse(file), pytest.raises(PermissionError):
        file.open("wb")
    assert file.read_bytes() == b"kept"


def test_a_refusal_is_of_the_inode_whatever_it_is_called(refuse, file, tmp_path):
    link = tmp_path / "link"
    os.link(file, link)
    with refuse(file):
        for name in (link, f"/proc/self/root{file}"):
            with pytest.raises(PermissionError):
                os.open(name, os.O_RDONLY)


def test_a_file_beside_the_refused_one_opens(refuse, file, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"free")
    with refuse(file):
        assert other.read_bytes() == b"free"
