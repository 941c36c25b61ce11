# SPDX-License-Identifier: Apache-2.0
"""The lock file as another Python reads it: `python tests/vm/locked_for.py 3.13 < requirements.lock`.

`pip download --python-version` asks markers of the Python that pip itself runs on (pypa/pip#11010).
"""

from __future__ import annotations

import re
import sys

from packaging.markers import Marker

_ONE_LOCKED = re.compile(r"^(?P<pin>[^\s;#]+)(?: ; (?P<marker>[^\\]+?))? \\\n", re.MULTILINE)


def locked_for(lock: str, version: str) -> str:
    """Of the requirements in `lock` those that hold for this version of CPython, without markers."""
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    kept = []
    heads = list(_ONE_LOCKED.finditer(lock))
    for head, behind in zip(heads, [*(h.start() for h in heads[1:]), len(lock)], strict=True):
        if not head["marker"] or Marker(head["marker"]).evaluate(environment):
            kept.append(f"{head['pin']} \\\n{lock[head.end() : behind]}")
    return "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(locked_for(sys.stdin.read(), sys.argv[1]))
