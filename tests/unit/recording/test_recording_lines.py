# SPDX-License-Identifier: Apache-2.0
"""What is written can be read again, fact for fact; a file that is no recording says where not."""

from __future__ import annotations

import json

import pytest

from monitor.errors import RecordingError
from monitor.fields import Fact
from monitor.recording.lines import Happening, Header, Writer, read

SHELL = {"ProcessId": 10, "Image": "/bin/sh", "ParentImages": ["/usr/bin/python3"], "Tainted": []}
GIT = {**SHELL, "Image": "/usr/bin/git"}


def fact(category, whose, **own):
    return Fact(category=category, fields={**whose, **own})


def written(path, *happenings, lost=0):
    writer = Writer()
    lines = [writer.header(Header(session="s", argv=("sh", "-c", "true"), started="now"))]
    for happening in happenings:
        lines += writer.lines(happening)
    if lost:
        lines.append(writer.lost(lost))
    path.write_bytes(b"".join(lines))
    return path


TWO_SPELLINGS = Happening(
    5, tuple(fact("file_access", SHELL, TargetFilename=path) for path in ("/a", "/b"))
)
EXEC = Happening(7, (fact("process_creation", GIT, FirstSeen=True),))
AFTER = Happening(9, (fact("network_connection", GIT, DestinationPort=443),))


def test_what_was_written_is_read(tmp_path):
    header, happenings = read(written(tmp_path / "r", TWO_SPELLINGS, EXEC, AFTER, lost=2))
    assert header == Header(session="s", argv=("sh", "-c", "true"), started="now")
    assert list(happenings) == [TWO_SPELLINGS, EXEC, AFTER]


def test_a_process_is_told_once_until_it_runs_another_program(tmp_path):
    path = written(tmp_path / "r", TWO_SPELLINGS, EXEC, AFTER)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    told = [line["fields"]["Image"] for line in lines if "event" not in line]
    assert told == ["/bin/sh", "/usr/bin/git"]


def test_the_bytes_of_a_name_that_are_no_text_and_line_breaks_stay_in_their_line(tmp_path):
    odd = Happening(1, (fact("file_access", SHELL, TargetFilename="/a\udcff\n{b"),))
    path = written(tmp_path / "r", odd)
    assert len(path.read_text().splitlines()) == 3
    _, happenings = read(path)
    (read_again,) = next(happenings).facts
    assert read_again.fields["TargetFilename"].startswith("/a")


def test_a_secret_in_a_command_line_is_left_out(tmp_path):
    whose = {**SHELL, "CommandLine": "curl -H 'Authorization: Bearer abcdef' --token hidden"}
    text = written(tmp_path / "r", Happening(1, (fact("process_creation", whose),))).read_text()
    assert "abcdef" not in text
    assert "hidden" not in text


@pytest.mark.parametrize("content", ["", "{}\n", "[]\n", "not json\n", '{"estop_recording": 9}\n'])
def test_another_file_is_no_recording(tmp_path, content):
    (tmp_path / "r").write_text(content)
    with pytest.raises(RecordingError, match="is no recording"):
        read(tmp_path / "r")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_a_line_that_cannot_be_read_is_named(tmp_path):
    path = written(tmp_path / "r", TWO_SPELLINGS)
    path.write_bytes(path.read_bytes() + b'{"event": "x"}\n')
    _, happenings = read(path)
    with pytest.raises(RecordingError, match=r"r:5: "):
        list(happenings)
