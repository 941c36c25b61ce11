# SPDX-License-Identifier: Apache-2.0
"""The lists: sessions at work, alerts by filters and page by page, rules, the monitor's health."""

from __future__ import annotations

import re

import pytest
from agents import agent
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def alerting(monitor, ground):
    """An agent with alerts."""
    with agent(monitor, ground, "lists") as one:
        assert one.becomes("frozen")
        assert one.incident
        yield one


def test_the_button_that_stops_stays_the_same_while_its_agent_is_busy(start, console):
    busy = start("busy", "busy")
    assert busy.becomes("running")
    page = console("/sessions")
    button = page.get_by_role("button", name="Stop busy").element_handle()
    counts = page.locator("article", has_text="busy").locator("[data-did]")
    before = counts.inner_text()
    expect(counts).not_to_have_text(before)  # it is live
    button.focus()
    before = counts.inner_text()
    expect(counts).not_to_have_text(before)
    assert button.evaluate("node => node.isConnected && node === document.activeElement")


def test_a_session_shows_what_it_is_and_what_it_did(alerting, console):
    page = console("/sessions")
    page.get_by_role("link", name="lists", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("lists")
    expect(page.locator(".headline")).to_contain_text("agent.py")
    expect(page.locator(".incidents-card article")).to_have_count(1)
    expect(page.locator(".alerts-card details").first).to_be_visible()
    expect(page.locator(".actions-card")).to_contain_text("launch by")


def test_alerts_are_filtered_and_the_search_is_the_address(alerting, console):
    page = console("/alerts")
    rows = page.locator("details.alert")
    expect(rows.first).to_be_visible()
    page.get_by_role("searchbox", name="Text").fill("no such thing")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No alert meets these filters.")).to_be_visible()
    assert page.url.endswith("#/alerts?text=no+such+thing")
    page.get_by_role("link", name="Show all").click()
    expect(rows.first).to_be_visible()

    page.get_by_role("combobox", name="Session").select_option(label="lists")
    page.get_by_role("combobox", name="Level").select_option("high")
    page.get_by_role("textbox", name="Until").fill("2000-01-01T00:00")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_text("No alert meets these filters.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Until")).to_have_value("2000-01-01T00:00")
    page.get_by_role("textbox", name="Until").fill("")
    page.get_by_role("textbox", name="After").fill("2000-01-01T00:00")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(rows.first).to_contain_text("lists")


def test_alerts_come_a_page_at_a_time(alerting, start, console):
    assert start("one-more").becomes("frozen")
    page = console(secret="")

    def small_pages(route):
        route.continue_(url=route.request.url.replace("limit=50", "limit=1"))

    page.route(re.compile(r"/api/v1/alerts\?"), small_pages)
    found = alerting.monitor.get("/alerts?limit=2")["items"]
    assert len(found) == 2
    page.evaluate("secret => { location.hash = `#token=${secret}&page=/alerts` }", console.token())
    rows = page.locator("details.alert")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Older ones").click()
    expect(rows).to_have_count(2)
    assert [row.get_attribute("data-key") for row in rows.all()] == [one["id"] for one in found]


def test_older_alerts_stay_when_the_list_is_read_again_meanwhile(alerting, start, console):
    assert start("one-too-many").becomes("frozen")
    page = console(secret="")
    held = []

    def small_and_late(route):
        url = route.request.url.replace("limit=50", "limit=1")
        if "before=" not in url:
            held.append((route, url))
            if len(held) == 2:  # the list is read again once its stream stands
                return
        route.continue_(url=url)

    page.route(re.compile(r"/api/v1/alerts\?"), small_and_late)
    page.evaluate("secret => { location.hash = `#token=${secret}&page=/alerts` }", console.token())
    rows = page.locator("details.alert")
    expect(rows).to_have_count(1)
    while len(held) < 2:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Older ones").click()
    page.wait_for_timeout(500)
    again, url = held[1]
    with page.expect_response(url):
        again.continue_(url=url)
    page.wait_for_timeout(500)
    expect(rows).to_have_count(2, timeout=1000)


def test_a_new_alert_appears_by_itself(start, console):
    page = console("/alerts?text=newcomer")
    expect(page.get_by_text("No alert meets these filters.")).to_be_visible()
    agent = start("newcomer")
    assert agent.becomes("frozen")
    expect(page.locator("details.alert").first).to_contain_text("newcomer")


def test_an_alert_is_opened_and_acknowledged(alerting, console):
    page = console("/alerts?session=lists")
    row = page.locator("details.alert").first
    row.locator("summary").click()
    expect(row.locator(".facts")).to_contain_text("/etc/hosts")
    row.get_by_role("button", name="I have seen it").click()
    expect(page.locator("details.alert.seen")).to_have_count(1)
    page.get_by_role("combobox", name="State").select_option("acknowledged")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("details.alert")).to_have_count(1)


def test_rules_are_searched_and_say_what_they_are_worth_here(alerting, console):
    rules = alerting.monitor.get("/rules")
    page = console("/rules")
    expect(page.locator("details.rule")).to_have_count(len(rules))
    one = next(rule for rule in rules if rule["title"] == "Name resolution changed in place")
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type(one["id"])
    row = page.locator("details.rule")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(one["enforcement"].partition(":")[0])
    expect(row).to_contain_text(one["enforcement_why"])
    expect(row).to_contain_text(one["falsepositives"][0])

    page.get_by_label("Search").fill("")
    page.get_by_role("group", name="How they are enforced").get_by_role(
        "button", name=re.compile("^held in kernel")
    ).click()
    held = sum(rule["enforcement"] == "held in kernel" for rule in rules)
    expect(page.locator("details.rule")).to_have_count(held)


def test_an_admin_has_the_rules_read_again_and_a_responder_is_not_offered_it(alerting, console):
    page = console("/rules")
    page.get_by_role("button", name="Read them again").click()
    expect(page.locator("#banner")).to_contain_text("Nothing is different.")
    page = console("/rules", role="responder")
    expect(page.locator("details.rule").first).to_be_visible()
    expect(page.get_by_role("button", name="Read them again")).to_have_count(0)


def test_health_is_told_as_the_monitor_tells_it(alerting, console):
    health = alerting.monitor.health()
    page = console("/health")
    expect(page.locator(".facts-card")).to_contain_text(health["tier"])
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("All is well" if health["ok"] else re.compile("problem"))


def test_what_the_monitor_is_blind_to_is_said_on_every_page(alerting, console):
    page = console(secret="")
    health = {
        **alerting.monitor.health(),
        "ok": False,
        "problems": ["a sensor is gone"],
        "programs": {"raw_tp_one": False, "raw_tp_two": True},
        "lost": {"opened": 1234, "executed": 0},
    }
    page.route(re.compile("/api/v1/health"), lambda route: route.fulfill(json=health))
    page.evaluate("secret => { location.hash = `#token=${secret}&page=/rules` }", console.token())
    mark = page.get_by_role("navigation").get_by_role("link", name=re.compile("Health"))
    expect(mark).to_contain_text("there are problems")
    mark.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 problem")
    expect(page.locator(".headline")).to_contain_text("a sensor is gone")
    expect(page.locator(".programs-card")).to_contain_text("raw_tp_one is not attached")
    expect(page.locator(".lost-card")).to_contain_text("1,234 events found the ring full")
    expect(page.locator(".lost-card tbody tr")).to_have_count(1)


def test_a_refusal_is_told_with_what_helps(alerting, console):
    page = console("/incidents/nothing")
    expect(page.get_by_role("alert").first).to_contain_text("there is no incident 'nothing'")
    console.complaints.clear()  # the browser tells of the 404
