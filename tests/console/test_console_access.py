# SPDX-License-Identifier: Apache-2.0
"""Who gets in, what the page may load, and what it says while it is cut off."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from agent.client import ask

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_STREAM = re.compile("/api/v1/incidents/stream")
_FOLLOWING = "event: following\r\nid: 7\r\ndata:\r\n\r\n"


def test_the_token_of_the_address_is_taken_out_of_it_and_of_the_history(console, token):
    secret = token()
    page = console(secret=secret)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert secret not in page.url
    page.goto(page.url.partition("#")[0] + "#/health")
    expect(page.get_by_text("Sensors in the kernel")).to_be_visible()
    page.go_back()
    assert secret not in page.url
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"


def test_without_a_token_it_asks_for_one_and_then_shows_the_page_that_was_meant(console, token):
    page = console("/health", secret="")
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    field.fill("not a token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This token is not accepted.")
    page.get_by_label("Token").fill(token())
    page.keyboard.press("Enter")
    expect(page.get_by_text("Sensors in the kernel")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    _only_refusals(console)


def test_a_token_that_is_revoked_shows_nothing_any_more(console, monitor):
    made = ask(monitor.socket, "POST", "/api/v1/tokens", {"name": "guest", "role": "viewer"})
    page = console("/sessions", secret=made["secret"])
    expect(page.get_by_text("guest · viewer")).to_be_visible()
    ask(monitor.socket, "DELETE", f"/api/v1/tokens/{made['id']}")
    expect(page.get_by_text("This token is not accepted.")).to_be_visible()
    assert page.get_by_role("navigation").count() == 0
    _only_refusals(console)


def test_the_browser_lets_the_page_load_and_run_nothing_of_others(console):
    page = console()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    fetched = "fetch('http://127.0.0.2:1/').then(() => 'sent', (error) => error.name)"
    inline = """() => {
      try {
        const script = document.createElement("script");
        script.append("window.ran = 1");
        document.body.append(script);
      } catch {}
      return window.ran ?? "did not run";
    }"""
    markup = "() => { try { document.body.innerHTML = '<b>' } catch (error) { return error.name } }"
    assert page.evaluate(fetched) == "TypeError"
    assert page.evaluate(inline) == "did not run"
    assert page.evaluate(markup) == "TypeError"
    assert len(console.complaints) >= 3
    assert all(
        "Content Security Policy" in line or "Trusted" in line for line in console.complaints
    )
    console.complaints.clear()


def test_a_page_that_is_cut_off_says_so_and_takes_up_where_it_was(console):
    page = console(secret="")
    asked = []

    def stream(route):
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) == 1:  # one that ends at once
            route.fulfill(content_type="text/event-stream", body=_FOLLOWING)
        elif len(asked) <= 3:
            route.abort()
        else:
            route.continue_()

    page.route(_STREAM, stream)
    secret = console.token()
    page.evaluate("secret => { location.hash = `#token=${secret}&page=/incidents` }", secret)
    expect(page.get_by_text("Not live: no word from the monitor")).to_be_visible()
    expect(page.locator("html")).to_have_class("stale")
    expect(page.locator("#offline")).to_be_hidden()
    assert asked == [None, "7", "7", "7"]
    _only_refusals(console)


def test_a_monitor_that_is_away_for_a_moment_is_waited_for_and_the_token_kept(console):
    page = console("/health")
    expect(page.get_by_text("Sensors in the kernel")).to_be_visible()
    page.route(re.compile("/api/v1/"), lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("the monitor does not answer; trying again")).to_be_visible()
    page.unroute_all()
    expect(page.get_by_text("Sensors in the kernel")).to_be_visible()
    _only_refusals(console)


# The modules themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Ünïcode, 漢字, شكرا 🙂", "plain, Ünïcode, 漢字, شكرا 🙂"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31m\x00\x7f\x9b", r"\x1b[31m\x00\x7f\x9b"),
        ("\u202egpj.exe\u2066\u200b", r"\u202egpj.exe\u2066\u200b"),
        ("\u2028\u00a0\ufeff\ue000", r"\u2028\xa0\ufeff\ue000"),
        ("\U000e0041", r"\U000e0041"),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_what_hides_or_turns_text_is_spelt_and_letters_are_left_alone(console, text, shown):
    page = console()
    load = "text => import('/console/text.js').then((module) => module.shown(text))"
    assert page.evaluate(load, text) == shown


def test_a_stream_reads_the_same_however_it_is_cut(console):
    page = console()
    body = ": hi\n\nevent: incident\nid: 3\ndata: {\ndata: }\n\r\n\rdata:x\r\nid: 4\r\n\r\nevent: half\n"
    found = page.evaluate(
        """async (body) => {
          const { Parser } = await import("/console/stream.js");
          const cut = (size) => {
            const parser = new Parser();
            const found = [];
            for (let at = 0; at < body.length; at += size) {
              found.push(...parser.push(body.slice(at, at + size)));
            }
            return found;
          };
          return [1, 2, 3, 7, 1000].map(cut);
        }""",
        body,
    )
    wanted = [
        {"event": "incident", "data": "{\n}", "id": "3"},
        {"event": "message", "data": "x", "id": "4"},
    ]
    assert found == [wanted] * 5


def test_a_tree_of_processes_survives_rings_and_thousands(console):
    page = console()
    rows = page.evaluate(
        """async () => {
          const { arranged } = await import("/console/parts/lineage.js");
          const one = (pid, parent_pid, guilty = false) => (
            { pid, parent_pid, image: "", argv: [], started_ns: pid, guilty, alive: false });
          const deep = Array.from({ length: 5000 }, (_, n) => one(n + 1, n, n === 2500));
          return [
            arranged([one(1, 2), one(2, 1), one(3, 3)], true).map((row) => row.process.pid),
            arranged(deep, true).length,
            arranged(deep, false).length,
            arranged(deep, false).some((row) => row.process.guilty),
          ];
        }"""
    )
    assert [sorted(rows[0]), *rows[1:]] == [[1, 2, 3], 5000, 40, True]


def _only_refusals(console):
    """The browser itself tells of each refusal, which here were the point."""
    refusal = re.compile("Failed to load resource: (the server responded|net::ERR_FAILED)")
    assert all(refusal.match(line) for line in console.complaints), console.complaints
    console.complaints.clear()
