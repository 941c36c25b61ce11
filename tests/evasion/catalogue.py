# SPDX-License-Identifier: Apache-2.0
"""All techniques, by what they are after. The code of each is the function of its id in programs/."""

from __future__ import annotations

from techniques.attached import with_twins
from techniques.blinding import BLINDING
from techniques.files import FILES
from techniques.network import NETWORK
from techniques.plain import PLAIN
from techniques.programs import PROGRAMS
from techniques.secrets import SECRETS
from techniques.stops import STOPS
from techniques.ways_out import WAYS_OUT

IDS = (
    "B0",
    *(f"F{n}" for n in range(1, 23)),
    *(f"X{n}" for n in range(1, 11)),
    *(f"N{n}" for n in range(1, 10)),
    *(f"C{n}" for n in range(1, 7)),
    *(f"D{n}" for n in range(1, 9)),
    *("L1", "L2", "L3"),
    *(f"S{n}" for n in range(1, 9)),
    *(f"P{n}" for n in range(1, 6)),
    "E1",
    *(f"K{n}" for n in range(1, 7)),
)
"""Every family of techniques: each has a program, or a reason below."""

NOT_IMPLEMENTED: dict[str, str] = {}
"""Family -> why nothing tries it."""

_CLASSES = {
    "Without any evasion": PLAIN,
    "Changing a file": FILES,
    "Reading a secret": SECRETS,
    "Running a program, which edits hosts unless the line says otherwise": PROGRAMS,
    "Sending over the network": NETWORK,
    "Going on after the stop": STOPS,
    "Leaving the session": WAYS_OUT,
    "Blinding the monitor": BLINDING,
}
CLASSES = {title: with_twins(group) for title, group in _CLASSES.items()}
TECHNIQUES = {technique.id: technique for group in CLASSES.values() for technique in group}
