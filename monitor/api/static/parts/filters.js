// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The filters of alerts: they are the address, so that a search can be kept and sent to somebody. */

import { asQuery } from "../api.js";
import { h } from "../dom.js";
import { clipped } from "../text.js";
import { LEVELS } from "../words.js";

/**
 * @param {Record<string, string>} wanted
 * @param {import("../types.js").Session[]} sessions
 * @param {import("../types.js").RuleInForce[]} rules
 */
export function filters(wanted, sessions, rules) {
  const tactics = [
    ...new Set(
      rules.flatMap((rule) => rule.tags ?? []).filter((tag) => /^attack\.[a-z-]+$/.test(tag)),
    ),
  ].sort();
  const apply = (/** @type {Event} */ event) => {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (form));
    const given = Object.fromEntries(
      [...data].map(([name, value]) => [name, utc(name, String(value))]),
    );
    location.hash = `#/alerts${asQuery(given)}`;
  };
  const names = (/** @type {{id: string, name: string}[]} */ all) =>
    all.map((one) => /** @type {[string, string]} */ ([one.id, one.name]));
  const form = h(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Filter alerts",
      on: { submit: apply },
    },
    labelled(
      "Text",
      h("input", {
        type: "search",
        name: "text",
        value: wanted["text"],
        "data-search": true,
        maxlength: 200,
      }),
    ),
    choice("Session", "session", wanted, names(sessions)),
    choice(
      "Rule",
      "rule",
      wanted,
      rules.map((rule) => [rule.id, rule.title]),
    ),
    choice(
      "Level",
      "level",
      wanted,
      LEVELS.map((level) => [level, level === "critical" ? level : `${level} or worse`]),
    ),
    choice(
      "Tactic",
      "tactic",
      wanted,
      tactics.map((tag) => [
        tag.slice("attack.".length),
        tag.slice("attack.".length).replaceAll("-", " "),
      ]),
    ),
    choice("State", "state", wanted, [
      ["new", "nobody has seen it"],
      ["acknowledged", "seen"],
    ]),
    labelled(
      "After",
      h("input", { type: "datetime-local", name: "after", value: local(wanted["after"] ?? "") }),
    ),
    labelled(
      "Until",
      h("input", { type: "datetime-local", name: "until", value: local(wanted["until"] ?? "") }),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "submit", class: "primary" }, "Filter"),
      Object.values(wanted).some(Boolean) &&
        h("a", { class: "button", href: "#/alerts" }, "Show all"),
    ),
  );
  return h(
    "details",
    { class: "filter-box", open: window.innerWidth > 700 || Object.values(wanted).some(Boolean) },
    h("summary", null, "Filters"),
    form,
  );
}

/** @param {string} name @param {string} value */
function utc(name, value) {
  return value && (name === "after" || name === "until") ? new Date(value).toISOString() : value;
}

/** @param {string} time RFC 3339 to what a datetime-local field takes */
function local(time) {
  const date = new Date(time);
  if (Number.isNaN(date.valueOf())) return "";
  return new Date(date.valueOf() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** @param {string} name @param {Element} field */
function labelled(name, field) {
  return h("label", null, h("span", null, name), field);
}

/**
 * @param {string} name
 * @param {string} key
 * @param {Record<string, string>} wanted
 * @param {[string, string][]} options
 */
function choice(name, key, wanted, options) {
  const now = wanted[key];
  const known = !now || options.some(([value]) => value === now);
  const all = known ? options : [[now, now], ...options];
  return labelled(
    name,
    h(
      "select",
      { name: key },
      h("option", { value: "" }, "any"),
      all.map(([value, words]) =>
        h("option", { value, selected: value === now }, clipped(words ?? "", 60)),
      ),
    ),
  );
}
