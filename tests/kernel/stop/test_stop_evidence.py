# SPDX-License-Identifier: Apache-2.0
"""The evidence of a stop: processes with their files and sockets, and what went before."""

from __future__ import annotations

import os

from calls import CWD
from wires import address, connect, listener

from monitor.response.evidence import collect


def test_evidence_tells_processes_with_their_files_and_sockets(inside, puppet, killswitch, scratch):
    (scratch / "held").touch()
    puppet("openat", CWD, os.fsencode(scratch / "held"), os.O_WRONLY)
    with listener() as server:
        port = server.getsockname()[1]
        connect(puppet, address("127.0.0.1", port))
        history = inside.events()
        assert killswitch.freeze(inside).done
        evidence = collect(inside.cgroup, history, [])
    [process] = evidence["processes"]
    assert process["pid"] == puppet.pid
    assert process["argv"] == [inside.lab.program("puppet")]
    assert any(f.endswith(str(scratch / "held")) for f in process["files"])
    assert [s["remote"] for s in process["sockets"]] == [f"127.0.0.1:{port}"]
    assert [e["kind"] for e in evidence["events"]] == ["Opened", "Connected"]


def test_evidence_of_a_cgroup_that_is_gone_is_empty(lab):
    cgroup = lab.empty_cgroup()
    cgroup.rmdir()
    assert collect(cgroup, [], [])["processes"] == []
