# SPDX-License-Identifier: Apache-2.0
"""What was decided about each session, and the lock under which that is done; it does none of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Standing:
    """What was decided about one session. Whoever changes it, or carries it out, has `lock`.

    Nobody waits for the kernel while he has it. So the pipeline's thread, which needs it between an act
    and its freeze, finds it free, unless somebody decides about the same session at that very moment:
    then it waits until he has written that down, which takes some 0.1 ms.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: int = 0
    """Number of the stop that stands, 0 for none: nobody but `resume` lets the session go."""
    begun: bool = False
    """The kernel was told to freeze it for that."""
    killed: bool = False
    contained_ns: int = 0
    """When it was begun to freeze for a verdict that is still out; 0 for none."""

    def lift(self) -> None:
        """It was resumed."""
        self.stop, self.begun, self.contained_ns = 0, False, 0
