# SPDX-License-Identifier: Apache-2.0
"""What a host must have, and what it is told when it has not."""

from __future__ import annotations

import pytest

from monitor import requirements
from monitor.errors import RequirementError


@pytest.mark.parametrize(
    ("release", "ok", "lacks"),
    [
        ("6.1.0-13-amd64", True, ""),
        ("6.0.19", False, "no ancestors in struct cgroup (6.1)"),
        ("5.13.0-generic", False, "no cgroup.kill (5.14)"),
        ("5.4.0", False, "no BPF ring buffer (5.8), no cgroup.kill (5.14)"),
        ("unreadable", False, "no cgroup.kill (5.14)"),
    ],
)
def test_the_kernel_must_be_new_enough(release, ok, lacks):
    found = requirements.check_kernel(release)
    assert (found.ok, bool(found.mend)) == (ok, not ok)
    assert lacks in found.detail


def test_other_machines_are_refused_by_name():
    found = requirements.check_machine("aarch64")
    assert (found.ok, found.detail) == (False, "aarch64")
    assert "x86-64" in found.mend
    assert requirements.check_machine("x86_64").ok


def test_missing_types_name_the_kernel_option(tmp_path):
    found = requirements.check_btf(tmp_path / "vmlinux")
    assert not found.ok
    assert "CONFIG_DEBUG_INFO_BTF" in found.mend
    (tmp_path / "vmlinux").touch()
    assert requirements.check_btf(tmp_path / "vmlinux").ok


def test_a_host_without_cgroup2_is_told_how_to_mount_it():
    def find():
        raise RequirementError("no cgroup2 file system is mounted", mend="mount -t cgroup2")

    found = requirements.check_cgroup2(find)
    assert (found.ok, found.mend) == (False, "mount -t cgroup2")


def test_root_is_needed():
    assert requirements.check_root(0).ok
    assert "sudo" in requirements.check_root(1000).mend


def test_what_is_not_installed_is_named_with_its_package():
    assert "python3-bpfcc" in requirements.check_bcc("no_such_module_here").mend
    assert requirements.check_bcc("json").ok
    assert "python3-seccomp" in requirements.check_seccomp("no_such_module_here").mend
    assert requirements.check_seccomp("json").ok
    assert "bpftool" in requirements.check_bpftool("/nowhere").mend


def test_bcc_is_looked_for_and_not_imported(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xmlrpc.client", None)
    monkeypatch.delitem(__import__("sys").modules, "xmlrpc.client")
    assert requirements.check_bcc("xmlrpc.client").ok
    assert "xmlrpc.client" not in __import__("sys").modules


def test_every_lack_comes_with_a_mend():
    for found in requirements.check_all():
        assert found.ok == (not found.mend), found
