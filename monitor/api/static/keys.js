// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Single keys: pages, rows, acts. They can be turned off, for people who speak to their computer. */

import { byId, h } from "./dom.js";

const KEPT = "estop.keys";
const GO = /** @type {Record<string, string>} */ ({
  i: "#/incidents",
  s: "#/sessions",
  a: "#/alerts",
  u: "#/rules",
  h: "#/health",
});
const LIST = [
  ["i", "incidents"],
  ["s", "sessions"],
  ["a", "alerts"],
  ["u", "rules"],
  ["h", "health"],
  ["j  k", "next and previous row"],
  ["Enter", "open the row"],
  ["/", "search"],
  ["f", "stop (freeze) the session of this page or row"],
  ["r", "resume it"],
  ["g", "grant what it did"],
  ["x", "kill it (asks twice)"],
  ["e", "save the evidence"],
  ["?", "this list"],
];

const ACTS = new Set(["f", "r", "g", "x", "e"]);

/** Listen on the whole page. */
export function install() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog[open]"))
      return;
    if (localStorage.getItem(KEPT) === "off" && event.key !== "?") return;
    if (pressed(event.key)) event.preventDefault();
  });
}

/** @param {string} key */
function pressed(key) {
  if (key === "?") return help();
  if (byId("nav").hidden) return false;
  const page = GO[key];
  if (page) location.hash = page;
  else if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === "/") return focus("[data-search]");
  else return click(key);
  return true;
}

/** @param {string} selector */
function focus(selector) {
  const found = /** @type {any} */ (document.querySelector(selector));
  found?.focus();
  return Boolean(found);
}

/**
 * The row with the focus goes before the page.
 * @param {string} key
 */
function click(key) {
  const name = CSS.escape(key);
  const row = document.activeElement?.closest("[data-row]");
  const all = [...document.querySelectorAll(`main [data-hotkey="${name}"]`)];
  const found =
    all.find((one) => row?.contains(one)) ?? all.find((one) => !one.closest("[data-row]"));
  /** @type {any} */ (found)?.click();
  return Boolean(found);
}

/** @param {number} by */
function step(by) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("main [data-row]")]);
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at < 0 ? 0 : Math.min(Math.max(at + by, 0), rows.length - 1)];
  /** @type {any} */ (next?.querySelector("a, button, summary") ?? next)?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/**
 * Keys of acts do nothing on pages that have no button for them.
 * @param {string} key
 */
function isOfUse(key) {
  if (!ACTS.has(key)) return true;
  return Boolean(document.querySelector(`main [data-hotkey="${key}"]`));
}

/** The list of keys; also reached by the button at the top. */
export function help() {
  if (document.querySelector("dialog[open]")) return false;
  const on = h("input", { type: "checkbox", checked: localStorage.getItem(KEPT) !== "off" });
  on.addEventListener("change", () => localStorage.setItem(KEPT, on.checked ? "on" : "off"));
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { "aria-labelledby": "keys-title", on: { close: () => dialog.remove() } },
    h("h2", { id: "keys-title" }, "Keys"),
    h(
      "dl",
      { class: "keys" },
      LIST.filter(([key]) => isOfUse(key ?? "")).flatMap(([key, words]) => [
        h("dt", null, h("kbd", null, key)),
        h("dd", null, words),
      ]),
    ),
    h("label", { class: "choice" }, on, h("span", null, "single keys do something")),
    h("div", { class: "buttons end" }, h("button", { on: { click: close } }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
  return true;
}
