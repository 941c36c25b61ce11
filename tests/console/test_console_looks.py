# SPDX-License-Identifier: Apache-2.0
"""Every page on a phone, a tablet and a screen, by day and by night, and for those who cannot see it."""

from __future__ import annotations

import re

import pytest
from agents import agent
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

WIDTHS = (360, 768, 1440)

# The contrast of each piece of text with what is behind it, as WCAG 2 counts it; worst first.
_CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, index) => sum + v * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility()) continue;
    if (node.closest(".unseen, .skip, option, noscript")) continue;
    const style = getComputedStyle(node);
    const colour = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
    const name = node.className.baseVal ?? node.className;
    found.push([(a + 0.05) / (b + 0.05), text.data.trim().slice(0, 40), name]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""

# Fields and buttons that a screen reader could not name.
_NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, textarea, summary, [role]")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.textContent.trim() || node.ariaLabel || node.labels?.length
    || document.getElementById(node.getAttribute("aria-labelledby"))))
  .filter((node) => !["status", "alert"].includes(node.getAttribute("role")))
  .map((node) => node.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def seen(monitor, ground):
    """The address of every kind of page, with something on it."""
    with agent(monitor, ground, "looks", "hostile") as one:
        assert one.becomes("frozen")
        incident = one.incident
        yield [
            "/incidents",
            f"/incidents/{incident['id']}",
            "/sessions",
            f"/sessions/{incident['session']['id']}",
            "/alerts",
            "/rules",
            "/health",
        ]


def _visit(page, path):
    page.evaluate("path => { location.hash = path }", path)
    page.locator(f'main > [data-page="{path.split("/")[1]}"] > *').first.wait_for()
    expect(page.locator("main h1").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window_and_every_text_can_be_read(console, seen, width, scheme):
    page = console(width=width, scheme=scheme)
    for path in seen:
        _visit(page, path)
        for row in page.locator("main details").all()[:3]:
            row.evaluate("node => { node.open = true }")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        worst = page.evaluate(_CONTRASTS)
        assert worst
        assert worst[0][0] >= 4.5, (path, worst[:5])


def test_buttons_are_large_enough_for_a_thumb(console, seen):
    page = console(width=360)
    for path in seen:
        _visit(page, path)
        boxes = [button.bounding_box() for button in page.get_by_role("button").all()]
        assert all(box["height"] >= 24 and box["width"] >= 24 for box in boxes if box), path


def test_everything_has_a_name_a_heading_and_a_landmark(console, seen):
    page = console()
    for path in seen:
        _visit(page, path)
        assert page.evaluate(_NAMELESS) == [], path
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("main")).to_have_count(1)
        expect(page.get_by_role("navigation")).to_have_count(1)
    expect(page.locator("#announce")).to_have_attribute("aria-live", "assertive")


def test_nothing_moves_for_whom_motion_is_bad(console, seen):
    page = console()
    for path in seen:
        _visit(page, path)
        assert page.evaluate("document.getAnimations().length") == 0, path


def test_by_keyboard_alone_from_the_list_to_the_end_of_an_agent(start, console):
    agent = start("keys-only")
    assert agent.becomes("frozen")
    page = console()
    expect(page.get_by_role("link", name=agent.incident["title"]).first).to_be_visible()

    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()

    page.keyboard.press("j")
    focused = page.locator(":focus")
    assert float(focused.evaluate("node => parseFloat(getComputedStyle(node).outlineWidth)")) >= 2
    page.keyboard.press("Enter")  # the newest incident
    expect(page.locator(".headline")).to_contain_text("keys-only")

    tree = page.get_by_role("tree")
    tree.locator("g[tabindex='0']").focus()
    page.keyboard.press("Home")
    expect(tree.locator("g.chosen")).to_have_attribute("aria-level", "1")
    expect(tree.locator("g.chosen")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(tree.locator("g.chosen")).to_have_attribute("aria-level", "2")

    page.keyboard.press("x")
    expect(page.get_by_label(re.compile("Why"))).to_be_focused()
    page.keyboard.type("x f r")  # letters in a field are letters
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert agent.state == "frozen"

    page.keyboard.press("x")
    page.keyboard.type("not wanted")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # Enter alone would go back
    page.keyboard.press("Enter")
    expect(page.locator("#banner")).to_contain_text("keys-only was killed")
    assert agent.becomes("killed")


def test_the_keys_are_listed_and_can_be_turned_off(console):
    page = console()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("?")
    page.get_by_label("single keys do something").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    page.wait_for_timeout(300)
    assert page.url.endswith("#/incidents")
    page.keyboard.press("?")
    page.get_by_label("single keys do something").check()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("h")
    expect(page.get_by_text("Sensors in the kernel")).to_be_visible()


def test_an_incident_as_large_as_an_agent_can_make_it_is_shown_in_time(start, console):
    agent = start("huge")
    assert agent.becomes("frozen")
    incident = agent.incident["id"]
    page = console(width=360, secret="")

    def grown(route):
        whole = route.fetch().json()
        long = "\u202e" + "x" * 4000
        for number in range(1, 300):
            parent = number - 1 if number < 200 else 0
            whole["tree"].append(
                {
                    "pid": 10_000_000 + number,
                    "parent_pid": 10_000_000 + parent,
                    "image": f"/{long}",
                    "argv": [long, "\n"],
                    "started_ns": number,
                    "guilty": False,
                    "alive": True,
                }
            )
        one = whole["timeline"][0]
        whole["timeline"][:0] = [{**one, "at_ms": -n, "text": long[:500]} for n in range(5000)]
        whole["sent"]["destinations"] = [
            {
                "address": "2001:db8:1111:2222:3333:4444:5555:6666",
                "port": 443,
                "host": long[:300],
                "count": 9,
            }
        ] * 100
        route.fulfill(json=whole)

    page.route(re.compile(f"/api/v1/incidents/{incident}$"), grown)
    where = f"token={console.token()}&page=/incidents/{incident}"
    page.evaluate("where => { location.hash = where }", where)
    expect(page.locator(".tree g")).to_have_count(40)
    expect(page.locator(".timeline .left-out")).to_be_visible()
    assert page.locator(".timeline .moment:not(:has(details))").count() == 300
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator(".tree g.guilty").first).to_be_visible()  # not buried by the others
    page.get_by_role("button", name=re.compile("more process")).click()
    expect(page.locator(".tree g").nth(299)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
