# SPDX-License-Identifier: Apache-2.0
"""An alert shows the event as it happened, and apart from it why a rule knew it."""

from monitor.fields import Fact
from monitor.responder import _shown


def test_what_a_correlation_is_made_of_stands_beside_the_event_and_not_as_a_spelling():
    plain = Fact(category="file_delete", fields={"TargetFilename": "/home/ann/a"})
    other = Fact(category="file_delete", fields={"TargetFilename": "/mnt/a"})
    parts = [{"count": 100, "first_ktime_ns": 5}]
    told = Fact(category="file_delete", fields={**other.fields, "Correlation": parts})
    assert _shown(told, [plain, other]) == {
        "TargetFilename": "/home/ann/a",
        "Correlation": parts,
        "MatchedAs": {"TargetFilename": "/mnt/a"},
    }
    told = Fact(category="file_delete", fields={**plain.fields, "Correlation": parts})
    assert _shown(told, [plain, other]) == {**plain.fields, "Correlation": parts}
