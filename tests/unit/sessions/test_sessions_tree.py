# SPDX-License-Identifier: Apache-2.0
"""Processes kept from their events, and from /proc where no event spoke of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monitor import events
from monitor.events import File, Path
from monitor.sessions import process_tree
from monitor.sessions.process_tree import ProcessTree, has_terminal, read_process
from monitor.subjects import Process

HEAD = {
    "ktime_ns": 1, "egress_bytes": 0, "slot": 1, "tid": 0, "uid": 1000,
    "view": events.View(1, 2), "cut": False,
}  # fmt: skip


def forked(parent, child, started_ns=5):
    return events.Forked(**HEAD, tgid=parent, child=child, child_started_ns=started_ns)


def executed(pid, image, *argv, script="", parent=1, cwd="/"):
    return events.Executed(
        **HEAD,
        tgid=pid,
        image=File(Path(image, image, 1), 1, 1, 0o755, 1),
        cwd=Path(cwd, cwd, 1),
        script=script,
        argv=argv,
        argv_truncated=False,
        started_ns=7,
        parent=parent,
    )


@pytest.fixture
def tree(tmp_path):
    """Nobody is in its /proc."""
    return ProcessTree("session", proc=tmp_path)


def ancestors(process):
    found = []
    while process.parent is not None:
        process = process.parent
        found.append(process.pid)
    return found


def test_a_child_is_what_its_parent_was(tree):
    tree.add(Process(pid=10, image="/bin/sh", argv=("sh",), cwd="/home"))
    child = tree.fork(forked(10, 11, started_ns=99))
    assert (child.pid, child.parent_pid, child.started_ns) == (11, 10, 99)
    assert (child.image, child.argv, child.cwd) == ("/bin/sh", ("sh",), "/home")
    assert child.parent.pid == 10


def test_exec_changes_the_program_and_keeps_the_parent(tree):
    tree.add(Process(pid=10, image="/bin/sh", argv=("sh",)))
    tree.fork(forked(10, 11))
    tree.fields(tree.get(11))
    ran = tree.exec(executed(11, "/bin/cat", "cat", "x y", cwd="/tmp"))
    assert tree.fields(ran) == {
        "Image": "/bin/cat",
        "CommandLine": "cat x y",
        "CurrentDirectory": "/tmp",
        "ProcessId": 11,
        "ParentProcessId": 10,
        "User": process_tree.user_name(1000),
        "AgentSession": "session",
        "ParentImage": "/bin/sh",
        "ParentCommandLine": "sh",
        "ParentImages": ["/bin/sh"],
        "Interactive": False,
        "Tainted": [],
    }


def test_a_parent_that_ran_something_else_since_is_told_as_it_was_at_birth(tree):
    tree.add(Process(pid=10, image="/bin/sh"))
    tree.fork(forked(10, 11))
    tree.exec(executed(10, "/bin/other"))
    assert tree.fields(tree.get(11))["ParentImage"] == "/bin/sh"


@pytest.mark.parametrize(
    ("image", "argv", "asked", "script"),
    [
        ("/usr/bin/python3.11", ("python3", "a.py"), "", "a.py"),
        ("/usr/bin/dash", ("sh", "-c", "x"), "", None),
        ("/bin/cat", ("cat", "file"), "", None),
        ("/bin/bash", ("bash", "/x/run"), "/x/run", "/x/run"),
        ("/bin/bash", ("bash",), "", None),
        ("/opt/node", ("node", "--disable-warning=X", "--require", "m", "a.mjs", "x"), "", "a.mjs"),
        ("/usr/bin/python3", ("python3", "-u", "a.py"), "", "a.py"),
        ("/usr/bin/python3", ("python3", "-um", "a"), "", None),
        ("/opt/node", ("node", "--eval", "1"), "", None),
        ("/bin/bash", ("bash", "--login", "-lc", "x"), "", None),
    ],
)
def test_a_script_is_what_the_interpreter_was_started_for(tree, image, argv, asked, script):
    ran = tree.exec(executed(10, image, *argv, script=asked))
    assert tree.fields(ran).get("Script") == script


NODE, CLAW = "/opt/bin/node", ("node", "claw.mjs")


@pytest.mark.parametrize(
    ("root", "child", "itself"),
    [
        ((NODE, *CLAW), (NODE, "node", "--no-warnings", "claw.mjs", "x"), True),
        ((NODE, *CLAW), (NODE, "node", "other.mjs"), False),
        ((NODE, *CLAW), (NODE, "node", "--eval", "1"), False),
        ((NODE, *CLAW), ("/bin/sh", "sh", "claw.mjs"), False),
        ((NODE, "node", "--eval", "1"), (NODE, "node", "--eval", "1"), False),
        (("/opt/claude", "claude"), ("/opt/claude", "claude", "mcp"), True),
        (("/bin/busybox", "sh"), ("/bin/busybox", "tee"), False),
    ],
)
def test_what_the_agent_starts_of_its_own_program_is_the_agent_itself(root, child, itself):
    tree = ProcessTree("s", root_pid=10)
    tree.exec(executed(10, *root))
    tree.fork(forked(10, 11))
    assert (tree.fields(tree.exec(executed(11, *child)))["ParentImages"] == []) is itself
    tree.fork(forked(11, 12))
    tree.exec(executed(12, "/bin/cat", "cat"))
    assert tree.fields(tree.get(12))["ParentImages"] == [child[0], root[0]]


def test_a_worker_of_the_agents_own_package_is_the_agent_itself():
    tree = ProcessTree("s", root_pid=10, is_own=lambda path: path.startswith("/opt/claw/"))
    tree.exec(executed(10, NODE, "node", "/opt/claw/claw.mjs"))
    for pid, script in ((11, "/opt/claw/dist/worker.js"), (12, "/tmp/worker.js")):
        tree.fork(forked(10, pid))
        tree.exec(executed(pid, NODE, "node", script))
    assert tree.fields(tree.get(11))["ParentImages"] == []
    assert tree.fields(tree.get(12))["ParentImages"] == [NODE]


def test_its_own_program_below_a_command_is_a_command():
    tree = ProcessTree("s", root_pid=10)
    for pid, words in enumerate([(NODE, *CLAW), ("/bin/sh", "sh", "-c", "x"), (NODE, *CLAW)], 10):
        tree.exec(executed(pid, *words))
        tree.fork(forked(pid, pid + 1))
    assert tree.fields(tree.get(12))["ParentImages"] == ["/bin/sh", NODE]


def test_an_ended_process_stays_known_for_its_late_events(tree):
    tree.add(Process(pid=10, image="/bin/sh"))
    tree.exit(10)
    assert len(tree) == 0
    assert list(tree) == []
    assert tree.get(10).image == "/bin/sh"


def test_of_the_ended_only_the_latest_are_kept(tree):
    for pid in range(1, process_tree._KEPT_AFTER_EXIT + 2):
        tree.fields(tree.add(Process(pid=pid, image="/bin/sh")))
        tree.exit(pid)
    assert tree.get(2).image == "/bin/sh"
    assert tree.get(1).image == ""
    assert len(tree._gone) == process_tree._KEPT_AFTER_EXIT
    assert len(tree._fields) <= process_tree._KEPT_AFTER_EXIT + 1


def test_a_pid_that_is_used_again_is_somebody_else(tree):
    tree.add(Process(pid=10, image="/bin/old"))
    tree.exit(10)
    tree.add(Process(pid=20, image="/bin/sh"))
    tree.fork(forked(20, 10))
    assert tree.fields(tree.get(10))["Image"] == "/bin/sh"
    assert len(tree) == 2


def test_the_end_of_somebody_unknown_is_nothing(tree):
    tree.exit(10)
    assert len(tree) == 0


def test_a_chain_of_births_does_not_grow_for_ever(tree):
    tree.add(Process(pid=1, image="/bin/sh"))
    for pid in range(1, 100):
        tree.fork(forked(pid, pid + 1))
        tree.exit(pid)
    chain = ancestors(tree.get(100))
    assert chain == list(range(99, 99 - len(chain), -1))
    assert 16 <= len(chain) <= 17


def test_a_process_nobody_announced_is_looked_up_once(tmp_path):
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "cmdline").write_bytes(b"a\0b c\0")
    (tmp_path / "10" / "stat").write_text("10 (odd) name) S 4 0 0")
    (tmp_path / "10" / "exe").symlink_to("/bin/odd")
    (tmp_path / "10" / "cwd").symlink_to("/tmp")
    tree = ProcessTree("session", proc=tmp_path)
    found = tree.get(10, 33)
    assert (found.parent_pid, found.image, found.cwd, found.uid) == (4, "/bin/odd", "/tmp", 33)
    assert found.argv == ("a", "b c")
    (tmp_path / "10" / "cmdline").write_bytes(b"changed\0")
    assert tree.get(10).argv == ("a", "b c")


def test_of_a_process_that_is_gone_only_the_pid_is_known(tmp_path):
    assert read_process(10, uid=5, proc=tmp_path) == Process(pid=10, uid=5)


def test_a_user_without_a_name_is_a_number():
    assert process_tree.user_name(0) == "root"
    assert process_tree.user_name(4_000_000_000) == "4000000000"


def test_a_name_with_spaces_and_parentheses_does_not_make_a_terminal():
    rename = "open('/proc/self/comm', 'w').write('x) y (1 2'); print(flush=True); input()"
    command = [sys.executable, "-c", rename]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        process.stdout.readline()
        assert not has_terminal(process.pid)
        process.communicate(b"\n")


def test_what_only_looks_like_a_program_has_other_names_and_so_have_its_children(tree):
    tree.add(Process(pid=10, image="/usr/bin/node", argv=("node",)))
    assert tree.other_names(tree.get(10)) == {}
    tree.fork(forked(10, 11))
    tree.exec(executed(11, "/usr/bin/ssh", "ssh"), "/tmp/e")
    tree.fork(forked(11, 12))
    ran = tree.exec(executed(12, "/bin/cat", "cat"))
    assert tree.fields(tree.get(11))["Image"] == "/usr/bin/ssh"
    assert tree.other_names(tree.get(11)) == {
        "Image": "/tmp/e",
        "ParentImage": "/usr/bin/node",
        "ParentImages": ["/usr/bin/node"],
    }
    assert tree.other_names(ran) == {
        "Image": "/bin/cat",
        "ParentImage": "/tmp/e",
        "ParentImages": ["/tmp/e", "/usr/bin/node"],
    }


def test_what_only_looks_like_the_agent_is_not_the_agent_itself():
    tree = ProcessTree("session", root_pid=10)
    tree.add(Process(pid=10, image="/opt/agent"))
    tree.fork(forked(10, 11))
    ran = tree.exec(executed(11, "/opt/agent"), "/tmp/e")
    assert tree.fields(ran)["ParentImages"] == ["/opt/agent"]
