# SPDX-License-Identifier: Apache-2.0
"""A flood hides no candidate, and one that there was no room to tell of is counted for its session."""

from __future__ import annotations

import os

from calls import opening
from held import held_by, watching
from laboratory import Laboratory, until
from states import state_of

from monitor.capture.kernel import load
from monitor.lowered import Act, Where
from monitor.response.holds import Holds
from monitor.response.verdicts import Verdicts
from monitor.sessions import cgroups


def test_a_session_over_its_budget_is_counted_and_its_candidates_still_come(
    kernel_settings, tmp_path_factory, scratch
):
    with load(kernel_settings(opens_per_s=5)) as kernel:
        lab = Laboratory(kernel, cgroups.find_root(), tmp_path_factory.mktemp("programs"))
        verdicts = Verdicts(kernel)
        watching(verdicts, Where.EXACT, scratch / "secret", Act.CREATE)
        with lab.session() as inside:
            puppet = inside.puppet()
            for number in range(400):
                puppet(*opening(puppet, scratch / str(number), os.O_CREAT))
            assert kernel.lost()["budget"] >= 50
            assert kernel.lost()["open"] == 0
            held_by(inside, puppet, *opening(puppet, scratch / "secret", os.O_CREAT))
        lab.close()


def test_a_candidate_that_there_is_no_room_to_tell_of_is_counted_for_its_session(
    kernel_settings, tmp_path_factory, scratch
):
    with load(kernel_settings()) as kernel:
        lab = Laboratory(kernel, cgroups.find_root(), tmp_path_factory.mktemp("programs"))
        (scratch / "secret").write_text("x")
        watching(Verdicts(kernel), Where.EXACT, scratch / "secret", Act.READ)
        with lab.session() as inside:
            puppet, unsent = inside.puppet(), kernel.map("unsent")
            name = puppet.place(b"alarm\0")
            while not kernel.lost()["privileged"]:  # nobody reads the ring
                puppet("close", puppet("memfd_create", name, 0))
            assert unsent.get(inside.slot) == (0,)
            puppet.become(*opening(puppet, scratch / "secret"))
            assert until(lambda: state_of(puppet.pid) == "T")
            assert until(lambda: unsent.get(inside.slot) == (1,))
            assert Holds(kernel).unanswerable(inside.slot)
        lab.close()
