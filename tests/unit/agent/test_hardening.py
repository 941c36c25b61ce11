# SPDX-License-Identifier: Apache-2.0
"""What a launched command cannot do to others, what it can still do, and what it is said to be under."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.hardening import Guard, available

PYTHON = "/usr/bin/python3"
WITHOUT_ADMIN = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to keep")
needs_landlock = pytest.mark.skipif(
    Guard.LANDLOCK_SIGNALS not in available(allow_new_privileges=False),
    reason="this kernel's Landlock scopes no signals (Linux 6.12 does)",
)
needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode != 0,
    reason="this host gives this user no namespaces",
)


@pytest.fixture
def outsider():
    """A process of the same user, in no session."""
    user = 65534 if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], env={"SECRET": "told"}, user=user) as process:
        yield process
        assert process.poll() is None
        process.kill()


def status(launch, **options) -> dict[str, str]:
    text = launch("cat", "/proc/self/status", **options).stdout
    return dict(line.split(":\t", 1) for line in text.splitlines())


def test_by_default_everything_this_kernel_has_is_imposed_and_told(monitor, launch):
    found = status(launch)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    told = monitor.launches[0]["hardening"]
    assert told == list(available(allow_new_privileges=False))
    assert told[:2] == ["no-new-privileges", "seccomp"]


@needs_root
def test_root_can_allow_new_privileges_and_keep_the_filters(monitor, launch):
    found = status(launch, allow=True, user="nobody")
    assert (found["NoNewPrivs"], found["Seccomp"], found["CapEff"]) == ("0", "2", "0" * 16)
    assert "no-new-privileges" not in monitor.launches[0]["hardening"]
    assert "seccomp" in monitor.launches[0]["hardening"]


@needs_root
def test_who_is_not_root_has_the_one_or_the_other(monitor, launch):
    found = status(launch, before=WITHOUT_ADMIN)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    found = status(launch, before=WITHOUT_ADMIN, allow=True)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("0", "0")
    assert monitor.launches[1]["hardening"] == []


@needs_root
def test_that_nothing_is_imposed_is_said_in_a_line(launch):
    done = launch("true", before=WITHOUT_ADMIN, allow=True)
    assert "this agent has no seccomp and no Landlock" in done.stderr
    assert "no Landlock" not in launch("true", before=WITHOUT_ADMIN).stderr


@needs_root
@pytest.mark.parametrize("allow", [False, True])
def test_a_setuid_program_changes_the_user_only_if_that_is_allowed(launch, tmp_path, allow):
    program = tmp_path / "id"
    shutil.copy("/usr/bin/id", program)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    if subprocess.check_output([program, "-u"]) != b"65534\n":
        pytest.skip("the scratch file system is mounted nosuid")
    assert launch(str(program), "-u", allow=allow).stdout == ("65534\n" if allow else "0\n")


@needs_landlock
@pytest.mark.parametrize("number", [0, 15, 19])
def test_a_process_outside_cannot_be_signalled(launch, outsider, number):
    done = launch("sh", "-c", f"kill -{number} {outsider.pid}")
    assert "Operation not permitted" in done.stderr
    assert Path(f"/proc/{outsider.pid}/stat").read_text().split()[2] == "S"


@needs_landlock
def test_a_process_of_the_same_user_can_be_neither_traced_nor_read(launch, outsider):
    attach = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0x4206, {outsider.pid}, None, None), ctypes.get_errno())
for name in "environ", "mem":
    try:
        open("/proc/{outsider.pid}/" + name, "rb").read(1)
    except PermissionError:
        print("refused")
"""
    done = launch(PYTHON, "-c", attach, user="nobody" if os.geteuid() == 0 else "")
    assert done.stdout == "-1 1\nrefused\nrefused\n", done.stderr
    assert b"SECRET=told" in Path(f"/proc/{outsider.pid}/environ").read_bytes()


def test_processes_of_the_session_can_signal_each_other(launch):
    script = 'sleep 60 & setsid sh -c "kill $!"; wait $!; echo $?'
    assert launch("sh", "-c", script).stdout == "143\n"


@needs_namespaces
def test_sandboxes_can_still_be_built_of_namespaces_and_mounts(launch):
    script = "mount -t tmpfs none /mnt && touch /mnt/mine && ls /mnt"
    done = launch(
        "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", script
    )
    assert done.stdout == "mine\n", done.stderr


@needs_namespaces
def test_bubblewrap_works(launch):
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    done = launch("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-all", "echo", "in")
    assert done.stdout == "in\n", done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("strace", "-f", "-o", "/dev/null", "sh", "-c", "true; echo $((1 + 1))"),
        ("gdb", "-q", "-batch", "-nx", "-ex", "run", "--args", "echo", "2"),
        ("node", "-e", "require('fs').readFile('/etc/hosts', () => console.log('\\n2'))"),
        (
            PYTHON,
            "-c",
            "import multiprocessing as m\nwith m.Pool(2) as p: print(sum(p.map(abs, [-1, 1])))",
        ),
    ],
    ids=lambda words: Path(words[0]).name,
)
def test_debuggers_and_runtimes_work(launch, words):
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = launch(*words)
    assert "2" in done.stdout.splitlines(), done.stderr


def test_a_program_that_prefers_rings_falls_back(launch):
    """Where Node has rings it may use them; the file comes either way."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = "require('fs/promises').readFile('/etc/hostname', 'utf8').then(t => console.log(t))"
    done = launch("node", "-e", script, env={**os.environ, "UV_USE_IO_URING": "1"})
    assert done.stdout.strip() == Path("/etc/hostname").read_text().strip(), done.stderr


def test_a_sandbox_inside_can_add_its_own_filter(launch):
    script = """
import seccomp
own = seccomp.SyscallFilter(seccomp.ALLOW)
own.add_rule(seccomp.ERRNO(1), "getcwd")
own.load()
import os
try:
    os.getcwd()
except PermissionError:
    print("both")
"""
    assert launch(sys.executable, "-c", script).stdout == "both\n"
