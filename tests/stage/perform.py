# SPDX-License-Identifier: Apache-2.0
"""Runs a command as an observed session in a root file system to be thrown away: see stage.sh."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.private_monitor import Monitor, until

HERE = Path(__file__).parent
_LONGEST_S = 60
_JUDGED_S = 20.0

_AGENT = "import sys\n\nprint('the program that plays the agent of this session', sys.argv)\n"

_PREPARE = """\
export HOME=/root
mkdir -p ~/.aws ~/.ssh ~/.config/gcloud ~/.oci/sessions
echo '[default]' > ~/.aws/credentials
echo key | tee ~/.ssh/id_rsa > ~/.ssh/id_ed25519
mkdir -p ~/.mozilla/firefox/p.default ~/.gnupg/private-keys-v1.d ~/.bitcoin
touch ~/.mozilla/firefox/p.default/logins.json ~/.gnupg/private-keys-v1.d/x.key ~/.bitcoin/wallet.dat
touch ~/.msmtprc ~/.npmrc
mkdir -p /var/spool/cron/crontabs /etc/cron.d
[ -e /etc/sudoers ] || echo 'root ALL=(ALL) ALL' > /etc/sudoers
mkdir -p /etc/wireguard ~/old && touch /etc/wireguard/wg0.conf && (cd ~/old && touch $(seq 60))
touch ~/.config/gcloud/credentials.db ~/.oci/sessions/token ~/.bash_profile ~/.bashrc /var/log/messages
cp /bin/sleep /usr/sbin/cron && /usr/sbin/cron 60 &
"""


def perform(
    monitor: Monitor, place: Path, command: str, *, before: str = "", shell: str = "/bin/sh"
) -> list[dict[str, Any]]:
    """Run `command`, after `before` was run by nobody's session: the alerts that came.

    `place` is made, and gives the session its name. On the stage `$AGENT` is a directory with the
    agent's own program, `agent.py`, and `$MONITOR` the name of a directory of the monitor.
    """
    stage, agent = place / "stage", place / "agent"
    stage.mkdir(parents=True)
    agent.mkdir()
    (agent / "agent.py").write_text(_AGENT)
    names = (
        f"export AGENT={shlex.quote(str(agent))} MONITOR={shlex.quote(str(monitor.runtime_dir))}"
    )
    (place / "before").write_text(f"{_PREPARE}\n{before}\n")
    # Names in a root that nobody lives in any more cannot be resolved: somebody stays a moment.
    (place / "script").write_text(f"cd /tmp\nset +e\n{names}\n{command}\nsleep 0.5\n")
    carried = shlex.join(["cp", str(place / "before"), str(place / "script"), f"{stage}/root/run/"])
    # A directory of its own at the same place: nothing of the host's is under the stage's /tmp.
    played = f"mkdir -p {stage}/root{agent} && cp {agent}/agent.py {stage}/root{agent}/"
    earlier = shlex.join(["chroot", f"{stage}/root", "/bin/sh", "/run/before"])
    session = [
        *("timeout", "-k", "5", str(_LONGEST_S)),
        *monitor.run_command(place.name, "--observe", "--home", str(agent)),
        *("unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={stage}/root/proc"),
        *("chroot", f"{stage}/root", "/usr/bin/env", "-i", "HOME=/root", "USERNAME=x"),
        *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SHELL=/bin/bash"),
        *(shell, "/run/script"),
    ]
    sink = shlex.join([sys.executable, str(HERE / "sink.py")])
    play = f"{sink} & {carried} && {played} && {earlier}; {shlex.join(session)}; kill $(jobs -p)"
    apart = ("unshare", "--mount", "--net", "--uts", "--ipc", "--propagation", "private")
    with (place / "output").open("wb") as output:
        subprocess.run(
            [*apart, "bash", HERE / "stage.sh", stage, "bash", "-c", play],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            timeout=2 * _LONGEST_S,
        )
    until(lambda: monitor.session(place.name)["state"] != "running", _JUDGED_S)
    found: list[dict[str, Any]] = monitor.get(f"/alerts?limit=1000&session={quote(place.name)}")[
        "items"
    ]
    return found
