# SPDX-License-Identifier: Apache-2.0
"""What is expected of every technique on every tier, what was seen in this run, and the page of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from catalogue import CLASSES, NOT_IMPLEMENTED, TECHNIQUES
from technique import MEANING, Outcome, Technique
from theatre import Observation

EXPECTED = Path(__file__).with_name("expected.toml")
PAGE = Path(__file__).parents[2] / "docs" / "evasion.md"
TIERS = ("tracepoint", "lsm")
NOT_HERE = "not applicable: "
_UNKNOWN = "not tried yet"
_HEAD = """\
# What each technique of evasion comes to. One line a technique, one entry a tier:
# prevented > held > frozen after > detected only > missed, or "not applicable: WHY".
# A run that sees worse fails, one that sees better says so; `make evasion` writes what it sees.
"""
_INTRODUCTION = """\
# Ways past estop, and what comes of them

Written by `make evasion` and `make evasion-vm`; do not edit. Every line is a small program in
`tests/evasion/programs/` that is run twice on a private stage: without a monitor, to see that it works,
and as a session of a real monitor. What needs a monitor to be tried at all is run once. The outcome is
what was then found: in the file, in the memory of the process, at the server that the bytes were meant
for.

The *tracepoint* tier is what every kernel from 6.1 gives; the *lsm* tier needs BPF LSM. A rule that
only alerts gives `detected only`: the rule's author found that honest work does the same.

A session was started by `estop run`, unless its line says that it was attached. One that was started is
on both tiers under a filter of system calls, which refuses it rings, `bpf()`, raw and exotic sockets and the
clock, and from Linux 6.12 on under Landlock, which refuses it signals to others and their memory. Before
6.12, of signals and memory (F4-other-root, F13, F21, D5, S1, S3) the lines of attached sessions hold for all.

On the tracepoint tier an open is refused once its file is marked. That takes a moment after the file,
or a mount namespace, was made by the session itself. Until then it is held: what is *prevented* here
may be *held* in another run, and of a line that is prevented the tests ask for no less than that.
"""


class Table:
    """Expectations, and the observations of this run."""

    def __init__(self, expected: dict[str, dict[str, str]]) -> None:
        self.expected = expected
        self.seen: dict[str, tuple[str, Observation]] = {}

    @classmethod
    def read(cls) -> Table:
        return cls(tomllib.loads(EXPECTED.read_text()) if EXPECTED.exists() else {})

    def note(self, tier: str, observation: Observation) -> None:
        self.seen[observation.technique.id] = (tier, observation)

    def news(self) -> list[str]:
        """What is better than expected, or known for the first time."""
        lines = []
        for name, (tier, observation) in self.seen.items():
            before = self.expected.get(name, {}).get(tier, _UNKNOWN)
            if _text(observation) != before and not before.startswith(NOT_HERE):
                lines.append(
                    f"evasion: {name} is `{_text(observation)}` on {tier}, expected `{before}`"
                )
        return [*lines, "evasion: run `make evasion` to take this into the table"] if lines else []

    def write(self) -> None:
        """Take what was seen as what is expected, and write the page."""
        for name, (tier, observation) in self.seen.items():
            self.expected.setdefault(name, {})[tier] = _text(observation)
        lines = [
            f"{name} = {{ {', '.join(_pair(tier, row[tier]) for tier in TIERS if tier in row)} }}"
            for name in TECHNIQUES
            if (row := self.expected.get(name))
        ]
        EXPECTED.write_text(_HEAD + "\n".join(lines) + "\n")
        PAGE.write_text(self.page())

    def page(self) -> str:
        """docs/evasion.md."""
        parts = [_INTRODUCTION, self._misses(), "## Words\n\n" + _meanings()]
        parts += [f"## {title}\n\n{self._rows(group)}" for title, group in CLASSES.items()]
        if NOT_IMPLEMENTED:
            why = "".join(f"- {family}: {reason}\n" for family, reason in NOT_IMPLEMENTED.items())
            parts.append(f"## Not tried\n\n{why}")
        return "\n".join(parts)

    def outcome(self, technique: Technique, tier: str) -> str:
        return self.expected.get(technique.id, {}).get(tier, _UNKNOWN)

    def _misses(self) -> str:
        rows = [
            f"| {t.id} | {t.what} | {self.outcome(t, 'tracepoint')} | {self.outcome(t, 'lsm')} | {t.gap} |"
            for t in TECHNIQUES.values()
            if Outcome.MISSED in {self.outcome(t, tier) for tier in TIERS}
        ]
        head = "| id | technique | tracepoint | lsm | why |\n|---|---|---|---|---|\n"
        return "## Known misses\n\n" + head + "\n".join(rows) + "\n\n" + self._counts() + "\n"

    def _counts(self) -> str:
        lines = []
        for tier in TIERS:
            found = [self.outcome(t, tier) for t in TECHNIQUES.values()]
            counts = [(found.count(outcome), outcome.value) for outcome in reversed(Outcome)]
            counts.append((sum(f.startswith(NOT_HERE) for f in found), "not applicable"))
            counts.append((found.count(_UNKNOWN), _UNKNOWN))
            lines.append(f"{tier}: " + ", ".join(f"{n} {word}" for n, word in counts if n) + ".")
        return "\n".join(lines)

    def _rows(self, group: tuple[Technique, ...]) -> str:
        head = "| id | technique | tracepoint | lsm | note |\n|---|---|---|---|---|\n"
        return head + "".join(
            f"| {t.id} | {t.what} | {self.outcome(t, 'tracepoint')} | {self.outcome(t, 'lsm')} "
            f"| {self._note(t)} |\n"
            for t in group
        )

    def _note(self, technique: Technique) -> str:
        outcomes = {self.outcome(technique, tier) for tier in TIERS}
        untried = any(outcome.startswith(NOT_HERE) for outcome in outcomes)
        return technique.gap if untried or outcomes & {Outcome.MISSED, Outcome.DETECTED} else ""


def _meanings() -> str:
    return "".join(f"- *{outcome.value}*: {text}\n" for outcome, text in MEANING.items())


def _pair(tier: str, text: str) -> str:
    return f'{tier} = "{text}"'


def _text(observation: Observation) -> str:
    if observation.outcome is None:
        return NOT_HERE + observation.why.replace("\\", "/").replace('"', "'")
    return observation.outcome.value
