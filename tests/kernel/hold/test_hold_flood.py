# SPDX-License-Identifier: Apache-2.0
"""A flood of opens hides no candidate."""

from __future__ import annotations

import os

from calls import opening
from held import held_by, watching
from laboratory import Laboratory

from monitor.capture.kernel import load
from monitor.lowered import Act, Where
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
