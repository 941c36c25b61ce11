# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.recordings.make [NAME...]`: record ordinary work as root, for the tests to replay.

Each recording is a session of a private monitor, in a home of its own. What they hold is told by
`estop record`: facts, no contents.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agent.private_monitor import ESTOP, private_monitor
from tests.e2e.work import SCRIPT_HEAD, WORK, furnish

HERE = Path(__file__).parent


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="estop-recording-") as name:
        place = Path(name)
        place.chmod(0o711)
        with private_monitor(place, "--listen", "") as monitor:
            for work in wanted or list(WORK):
                home = place / work
                home.mkdir()
                furnish(home)
                script = place / f"{work}.sh"
                script.write_text(SCRIPT_HEAD + WORK[work].script)
                command = ["/usr/bin/env", f"HOME={home}", "/bin/sh", str(script)]
                where = ["--runtime-dir", str(monitor.runtime_dir), "-o", str(place / "lines")]
                subprocess.run(
                    [ESTOP, "record", *where, "--name", work, "--", *command],
                    cwd=home,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                shutil.copyfile(place / "lines", HERE / f"{work}.jsonl")
                print(work, (HERE / f"{work}.jsonl").stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
