# SPDX-License-Identifier: Apache-2.0
"""What a person at the console does with an agent that was just stopped."""

from __future__ import annotations

import re

import pytest
from agents import SHOWN
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


def _stopped(start, name, *words):
    agent = start(name, *words)
    assert agent.becomes("frozen"), agent.state
    return agent


def test_frozen_then_read_then_granted_then_resumed(start, console):
    agent = _stopped(start, "grant-me")
    page = console()
    row = page.get_by_role("article").filter(has_text="grant-me")
    expect(row.locator(".badge", has_text="frozen")).to_be_visible()
    page.get_by_role("article").filter(has_text="grant-me").get_by_role("link").click()

    # Read: what, by whom, why, how fast.
    expect(page.get_by_role("heading", level=1)).to_have_text("Name resolution changed in place")
    expect(page.locator(".headline .lead")).to_contain_text("/etc/hosts")
    expect(page.get_by_text("Nothing of it runs and its network is cut.")).to_be_visible()
    tree = page.get_by_role("tree")
    refused = page.locator(".answers").get_by_text("No, the kernel refused it.").count() > 0
    doer = tree.locator("g.guilty", has_text="tried it" if refused else "did it")
    expect(doer).to_contain_text(re.compile(r"sh|dash"))
    expect(tree.locator("g.guilty").first).to_contain_text("python3")
    expect(page.locator(".timeline .guilty")).not_to_have_count(0)
    libraries = page.locator(".timeline details").first
    expect(libraries.locator("summary")).to_have_text(re.compile(r"read \d+ files pid \d+"))
    expect(libraries.get_by_text("libc.so")).to_be_hidden()
    libraries.locator("summary").click()
    expect(libraries.get_by_text("libc.so")).to_be_visible()
    expect(page.locator(".speed .step-frozen")).to_contain_text(re.compile("µs|ms"))
    expect(page.locator(".rule-card")).to_contain_text("Enforced here")

    # Grant exactly this, with a reason, and resume.
    page.get_by_role("button", name="Grant …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label(re.compile("Only this: file"))).to_be_checked()
    dialog.get_by_role("button", name="Allow it").click()
    expect(dialog).to_be_visible()  # not without a reason
    dialog.get_by_label(re.compile("Why")).fill("the owner asked for it")
    dialog.get_by_role("button", name="Allow it").click()

    expect(page.locator("#banner")).to_contain_text("grant-me runs again")
    expect(page.locator(".headline")).to_contain_text("It was resumed by token ann")
    expect(page.locator(".headline")).to_contain_text("the owner asked for it")
    expect(page.locator(".headline")).to_contain_text("Now: It works; nothing has stopped it.")
    assert agent.reaches("second")  # the same act once more, and nobody stopped it
    assert agent.state == "running"
    grant = agent.monitor.get("/grants?session=grant-me")[0]
    assert grant["fields"]["TargetFilename"].endswith("/etc/hosts")

    # Take it back where it is shown.
    page.goto(page.url.partition("#")[0] + f"#/sessions/{agent.incident['session']['id']}")
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("dialog").get_by_role("button", name="Take it back").click()
    expect(page.locator(".grants-card")).to_contain_text("Nothing is granted.")


def test_granted_and_not_yet_resumed_the_page_says_what_a_resume_means_now(start, console):
    agent = _stopped(start, "grant-and-wait")
    page = console(f"/incidents/{agent.incident['id']}")
    resume = page.locator(".choices li", has=page.get_by_role("button", name="Resume"))
    expect(resume).to_contain_text("The same act is stopped again.")
    page.get_by_role("button", name="Grant …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("For how long")).to_have_value("900")
    dialog.get_by_label(re.compile("resume the session now")).uncheck()
    dialog.get_by_label(re.compile("Why")).fill("while I watch")
    dialog.get_by_role("button", name="Allow it").click()

    expect(resume).to_contain_text("It was granted until")
    expect(page.locator(".grants-card")).to_contain_text("while I watch")
    page.reload()
    expect(resume).to_contain_text("It was granted until")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("dialog")).to_contain_text("It was granted until")
    expect(page.get_by_role("dialog")).not_to_contain_text("stopped again")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("dialog").get_by_role("button", name="Take it back").click()
    expect(resume).to_contain_text("The same act is stopped again.")


def test_resumed_without_a_grant_the_same_act_is_stopped_again_and_told_at_once(start, console):
    agent = _stopped(start, "resume-me")
    page = console(f"/incidents/{agent.incident['id']}")
    page.get_by_role("button", name="Resume").click()
    page.get_by_label(re.compile("Why")).fill("once more")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    note = page.locator("#news .note")  # of the second incident, without a reload
    expect(note).to_contain_text("New incident")
    expect(page.locator("#announce")).to_contain_text("New incident in resume-me")
    note.get_by_role("link").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert agent.state == "frozen"


def test_frozen_then_killed_which_asks_twice(start, console):
    agent = _stopped(start, "kill-me")
    page = console(f"/incidents/{agent.incident['id']}")
    page.get_by_role("button", name="Kill …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(re.compile("Why")).fill("not mine")
    dialog.get_by_role("button", name="Kill …").click()
    expect(dialog.get_by_role("heading")).to_have_text("Really kill kill-me?")
    expect(dialog.get_by_role("button", name="Back")).to_be_focused()
    assert agent.state == "frozen"
    dialog.get_by_role("button", name="Kill it for good").click()

    expect(page.locator("#banner")).to_contain_text("kill-me was killed")
    expect(page.locator(".headline")).to_contain_text("It was killed by token ann")
    expect(page.locator(".headline")).not_to_contain_text("Not seen by anybody")
    expect(page.get_by_role("button", name="Kill …")).to_have_count(0)
    assert agent.becomes("killed")


def test_a_running_agent_is_stopped_by_the_button_of_its_row(start, console):
    agent = start("stop-me", "idle")
    assert agent.becomes("running")
    page = console("/sessions")
    page.get_by_role("button", name="Stop stop-me").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(page.locator("#banner")).to_contain_text("stop-me is frozen")
    expect(page.get_by_role("button", name="Resume stop-me")).to_be_visible()
    assert agent.state == "frozen"


def test_what_was_stopped_elsewhere_is_seen_without_a_reload(start, console):
    agent = start("look-away", "idle")
    assert agent.becomes("running")
    page = console("/sessions")
    expect(page.get_by_role("button", name="Stop look-away")).to_be_visible()
    agent.monitor.act("look-away", "freeze", "from a terminal")
    expect(page.get_by_role("button", name="Resume look-away")).to_be_visible()
    assert re.match(r"\(\d+\) ", page.title())


def test_an_incident_is_acknowledged_and_assigned(start, console):
    agent = _stopped(start, "care-for-me")
    page = console(f"/incidents/{agent.incident['id']}")
    expect(page.locator(".care").first).to_contain_text("Not seen by anybody yet")
    page.get_by_role("button", name="I have seen it").first.click()
    expect(page.locator(".care").first).to_contain_text("Seen by token ann")
    expect(page.locator(".alerts-card .alert:not(.seen)")).to_have_count(0)
    page.get_by_role("button", name="Assign …").first.click()
    page.get_by_label(re.compile("To whom")).fill("berta")
    page.get_by_role("dialog").get_by_role("button", name="Assign").click()
    expect(page.locator(".care").first).to_contain_text("looked after by berta")


def test_a_viewer_sees_everything_and_is_offered_nothing(start, console):
    agent = _stopped(start, "only-look")
    page = console(f"/incidents/{agent.incident['id']}", role="viewer")
    expect(page.get_by_text("You may look, but not act")).to_be_visible()
    words = re.compile("Resume|Kill|Grant|Stop|Assign|seen it|Read them again")
    for path in (
        "incidents",
        "sessions",
        f"sessions/{agent.incident['session']['id']}",
        "alerts",
        "rules",
    ):
        expect(page.get_by_role("button", name=words)).to_have_count(0)
        page.goto(page.url.partition("#")[0] + f"#/{path}")
        page.locator("main [data-page] > *").first.wait_for()


def test_what_an_agent_names_its_files_is_shown_and_never_obeyed(start, console):
    agent = _stopped(start, "hostile", "hostile")
    page = console(f"/incidents/{agent.incident['id']}")
    expect(page.get_by_role("tree").get_by_text(SHOWN).first).to_be_visible()
    expect(page.locator(".timeline")).to_contain_text(SHOWN)
    expect(page.locator(".changed-card")).to_contain_text(SHOWN)
    assert page.locator("main img").count() == 0
    text = page.locator("body").inner_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)


def test_the_evidence_is_saved_as_a_file(start, console):
    agent = _stopped(start, "evidence")
    page = console(f"/incidents/{agent.incident['id']}")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save the evidence").click()
    assert waiting.value.suggested_filename == f"estop-{agent.incident['id']}.tar.zst"
    with open(waiting.value.path(), "rb") as saved:
        assert saved.read(4) == b"\x28\xb5\x2f\xfd"  # Zstandard's
