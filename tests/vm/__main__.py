# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.vm [--kernel 6.12] -- COMMAND...`: run a command in a guest, with its exit status.

Without a command: the tests that need a guest.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.vm.guest import Guest
from tests.vm.kernels import GuestError, kernel

# Compiling the programs takes a minute or two under emulation, so once has to do: the tests of loss
# load them anew. That time is part of the first test's.
TESTS = (
    ".venv/bin/python", "-m", "pytest", "tests/kernel", "tests/vm", "-m", "not guest",
    "--ignore=tests/kernel/test_kernel_loss.py",
    "--require-tier=lsm", "--override-ini=timeout=600", "--durations=5",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.vm", description=__doc__)
    parser.add_argument("--kernel", default="6.12", help="a series that apt offers")
    parser.add_argument("--timeout-s", type=float, default=1500)
    parser.add_argument("command", nargs="*", default=TESTS)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        guest = Guest(kernel=kernel(asked.kernel), timeout_s=asked.timeout_s)
        return guest.run(asked.command)
    except GuestError as error:
        print(f"estop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
