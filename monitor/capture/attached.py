# SPDX-License-Identifier: Apache-2.0
"""Which programs hang in the kernel now: some only while there is a session. It loads none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from monitor.capture import bpf
from monitor.capture.pins import Generation
from monitor.capture.programs import resting

_REST_S = 10.0


class Attached:
    """The links of one generation. Any thread may use it."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._resting = set(resting(generation.tier))
        self._links = {name: generation.link(name) for name in generation.hanging()}
        self._lock = threading.Lock()
        self._needed_at = 0.0

    def wake(self) -> None:
        """Attach what rested; CaptureError if one cannot be."""
        with self._lock:
            self._needed_at = time.monotonic()  # whoever asks for it needs it in a moment
            self._generation.wake()
            for name in self._generation.hanging():
                if name not in self._links:
                    self._links[name] = self._generation.link(name)

    def rest(self, needed: Callable[[], object]) -> None:
        """Detach what every process of the machine is asked by, unless a session needs it.

        Not at once when the last one ended: they come one after the other.
        """
        with self._lock:
            if needed():
                self._needed_at = time.monotonic()
                return
            rested = self._links.keys().isdisjoint(self._resting)
            if rested or time.monotonic() - self._needed_at < _REST_S:
                return
            self._generation.rest()
            for name in set(self._links) - set(self._generation.hanging()):
                os.close(self._links.pop(name))

    def programs(self) -> dict[str, bool]:
        """Every program that should be attached now, and whether the kernel says that it is."""
        with self._lock:
            return {name: bpf.link_is_attached(link) for name, link in self._links.items()}

    def close(self) -> None:
        """Let go of the links; what is pinned stays attached."""
        with self._lock:
            while self._links:
                os.close(self._links.popitem()[1])
