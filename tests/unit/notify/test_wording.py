# SPDX-License-Identifier: Apache-2.0
"""Notices in words: ours, the user's, and what is wrong with the user's said before the night."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitor.alerts import Level, SessionRef
from monitor.errors import ConfigError
from monitor.incidents import Incident, Resolution, Standing
from monitor.notify.notices import Kind, Notice
from monitor.notify.wording import Wording

OPENED = Incident(
    id="i1",
    session=SessionRef(id="s1", name="claw"),
    opened="2026-01-01T00:00:00Z",
    title="Hosts file edited",
    level=Level.HIGH,
    sentence="sh in claw changed /etc/hosts.",
)
RESOLVED = replace(
    OPENED,
    state=Standing.RESOLVED,
    resolution=Resolution.KILLED,
    resolved_by="ann",
    why="it was not asked to",
)


def notice(incident=OPENED, url="", kind=Kind.OPENED):
    return Notice(kind=kind, incident=incident, host="desk", url=url)


END = notice(RESOLVED, kind=Kind.RESOLVED)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "templates"
    made.mkdir()
    return made


def test_a_stop_in_our_words():
    headline, message = Wording().one(notice(url="https://desk/#/incidents/i1"))
    assert headline == "estop stopped claw on desk: Hosts file edited"
    assert message.splitlines() == [
        "sh in claw changed /etc/hosts.",
        "",
        "It stands still until somebody decides: https://desk/#/incidents/i1",
        "",
        "estop incident i1",
        "estop resume claw | estop kill claw",
    ]


def test_an_end_in_our_words():
    headline, message = Wording().one(END)
    assert headline == "estop: claw on desk killed"
    assert message == "claw was killed by ann: it was not asked to"
    ended = replace(RESOLVED, resolution=Resolution.ENDED, resolved_by="", why="")
    assert Wording().one(notice(ended, kind=Kind.RESOLVED))[1] == "claw was ended"


def test_many_in_our_words():
    headline, message = Wording().many([notice(), END])
    assert headline == "estop: 2 pieces of news from desk"
    assert message.splitlines() == [
        "claw stopped: Hosts file edited",
        "claw killed: Hosts file edited",
        "",
        "estop incidents",
    ]


def test_the_users_template_is_taken_and_ours_where_there_is_none(directory):
    (directory / "opened.j2").write_text(
        "{{ host }}: {{ name }} steht\n{% for c in incident.title %}{{ c | upper }}{% endfor %}\n"
    )
    wording = Wording(directory)
    assert wording.one(notice()) == ("desk: claw steht", "HOSTS FILE EDITED")
    assert wording.one(END) == Wording().one(END)


def test_what_an_agent_named_is_shown_and_not_obeyed(directory):
    evil = replace(OPENED, title="a\x1b[2J\nb", session=SessionRef(id="s", name="x\r\ny"))
    for wording in (Wording(), Wording(_with(directory, "{{ name }} {{ incident.title }}"))):
        headline, _ = wording.one(notice(evil))
        assert headline.isprintable()
        assert "a\\x1b[2J\\nb" in headline


def _with(directory, text):
    (directory / "opened.j2").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nmae }}", "opened.j2.*nmae"),
        ("fine\n{{ incident.sentense }}", "sentense"),
        ("one\n{% if url %}", "opened.j2, line 2"),
        ("{{ ''.__class__.__mro__ }}", "opened.j2.*unsafe"),
        ("{{ 1 / 0 }}", "division"),
        ("\n  \n", "no headline"),
    ],
)
def test_what_would_fail_at_night_fails_at_the_start(directory, text, said):
    with pytest.raises(ConfigError, match=said):
        Wording(_with(directory, text))


def test_a_name_that_nothing_asks_for_and_a_directory_without_templates_are_errors(
    directory, tmp_path
):
    with pytest.raises(ConfigError, match="has no template"):
        Wording(directory)
    (directory / "opend.j2").write_text("x")
    with pytest.raises(ConfigError, match=r"has opend\.j2"):
        Wording(directory)
    with pytest.raises(ConfigError, match="cannot read"):
        Wording(tmp_path / "nowhere")


def test_what_fails_for_one_incident_alone_is_said_in_our_words(directory):
    wording = Wording(_with(directory, "{{ 1 // (incident.title | length - 1) }}"))
    assert wording.one(notice(replace(OPENED, title="x")))[0] == "estop stopped claw on desk: x"


def test_the_example_in_the_documents_is_a_template(directory):
    page = (Path(__file__).parents[3] / "docs" / "desk.md").read_text()
    (example,) = re.findall(r"^```jinja\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    headline, message = Wording(_with(directory, example)).one(notice(url="https://desk"))
    assert headline == "[HIGH] claw on desk was stopped"
    assert message.splitlines()[-1] == "Decide: https://desk"
