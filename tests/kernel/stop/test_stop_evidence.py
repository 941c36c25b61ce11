# SPDX-License-Identifier: Apache-2.0
"""The evidence of a stop: processes with their files and sockets, and what went before."""

from __future__ import annotations

import os
import sys

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


def test_a_socket_whose_name_breaks_the_kernels_list_hides_nothing_else(inside):
    code = (
        "import socket, time\n"
        "u = socket.socket(socket.AF_UNIX); u.bind('\\0a\\nb c')\n"
        "t = socket.create_server(('127.0.0.1', 0)); print(t.getsockname()[1], flush=True)\n"
        "time.sleep(60)"
    )
    process = inside.start(sys.executable, "-c", code)
    port = int(inside.said(process))
    [told] = collect(inside.cgroup, [], [])["processes"]
    assert told["pid"] == process.pid
    assert told["argv"][0] == sys.executable
    assert f"127.0.0.1:{port}" in [socket.get("local") for socket in told["sockets"]]


def test_a_threaded_cgroup_hides_nobody(inside, puppet):
    below = inside.cgroup / "below"
    below.mkdir()
    (below / "cgroup.type").write_text("threaded")
    [told] = collect(inside.cgroup, [], [])["processes"]
    assert told["pid"] == puppet.pid


def test_evidence_that_breaks_is_an_error_and_raises_nothing(inside):
    def history():
        raise RuntimeError("deque mutated during iteration")
        yield

    assert collect(inside.cgroup, history(), []) == {"error": "deque mutated during iteration"}


def test_who_lost_his_main_thread_is_told_with_all_that_he_has(inside, scratch):
    with (scratch / "held").open("w") as file:
        process = inside.ready("family", "outlived", pass_fds=[file.fileno()])
    [told] = collect(inside.cgroup, [], [])["processes"]
    assert told["pid"] == process.pid
    assert told["image"] == inside.lab.program("family")
    assert told["argv"] == [inside.lab.program("family"), "outlived"]
    assert any(held.endswith(str(scratch / "held")) for held in told["files"])
