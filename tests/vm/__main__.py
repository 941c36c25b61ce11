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

# Loading takes half a minute under emulation, so once has to do: left to the host are the modules that
# do so for each test, or compile, and the gate, which is the other tier's. Everything else is here
# because LSM programs change what becomes of it. No limit is set to the first load.
_ELSEWHERE = (
    "test_kernel_loss.py",
    "test_kernel_compiled.py",
    "hold/test_hold_flood.py",
    "takeover",
    "gate",
)
TESTS = (
    ".venv/bin/python", "-m", "pytest", "tests/kernel", "tests/vm", "-m", "not guest",
    *(f"--ignore=tests/kernel/{name}" for name in _ELSEWHERE),
    "--require-tier=lsm", "--override-ini=timeout=300", "--override-ini=timeout_func_only=true",
    "--durations=5",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.vm", description=__doc__)
    parser.add_argument("--kernel", default="6.12", help="a series that apt offers")
    parser.add_argument("--timeout-s", type=float, default=2400)
    parser.add_argument(
        "--take", action="append", default=[], metavar="FILE", help="bring this file back"
    )
    parser.add_argument(
        "--counted", action="store_true", help="let the guest's clock count instructions"
    )
    parser.add_argument("command", nargs="*", default=TESTS)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        guest = Guest(
            kernel=kernel(asked.kernel),
            timeout_s=asked.timeout_s,
            take=asked.take,
            counted=asked.counted,
        )
        return guest.run(asked.command)
    except GuestError as error:
        print(f"estop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
