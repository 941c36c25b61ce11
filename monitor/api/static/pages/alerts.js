// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Alerts by filters, newest first, live; each opens to its fields and times. */

import { asQuery, get, seg, send } from "../api.js";
import { attempt } from "../acts.js";
import { h, when } from "../dom.js";
import { bus } from "../live.js";
import { pager } from "../parts/pager.js";
import { actionBadge, askAssignee, careOf, careWords, levelBadge } from "../parts/small.js";
import { speedBars } from "../parts/speed.js";
import { follow } from "../stream.js";
import { clipped, counted } from "../text.js";
import { ACTIONS, FIELDS, LEVELS, subject } from "../words.js";

/** @typedef {import("../types.js").Alert} Alert */

export const title = "Alerts";
const NAMES = ["text", "session", "rule", "level", "tactic", "state", "after", "until"];

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const wanted = Object.fromEntries(NAMES.map((name) => [name, visit.query.get(name) ?? ""]));
  const [sessions, rules] = await Promise.all([
    get("/sessions", { past: true }, visit.signal),
    get("/rules", {}, visit.signal),
  ]);
  const list = pager({
    read: (before) => get("/alerts", { ...wanted, limit: 50, before }, visit.signal),
    key: (one) => one.id,
    make: (one) => alertCard(one, visit.canAct),
    empty: "No alert meets these filters.",
  });
  page.append(h("h1", null, "Alerts"), filters(wanted, sessions, rules), list.node);
  const again = () => list.reload().catch((error) => visit.signal.aborted || console.warn(error));
  await list.reload();
  bus.addEventListener("sync", again, { signal: visit.signal });
  const heard = (/** @type {import("../stream.js").Message} */ message) => message.event === "alert" && list.put(JSON.parse(message.data));
  // What came between the list and the stream is found by reading once more when it stands.
  follow(`/alerts/stream${asQuery(wanted)}`, { heard, state: (live) => live && again(), signal: visit.signal }).catch(console.error);
}

/**
 * The filters are the address: a search can be kept and sent to somebody.
 * @param {Record<string, string>} wanted
 * @param {import("../types.js").Session[]} sessions
 * @param {import("../types.js").RuleInForce[]} rules
 */
function filters(wanted, sessions, rules) {
  const tactics = [...new Set(rules.flatMap((rule) => rule.tags ?? []).filter((tag) => /^attack\.[a-z-]+$/.test(tag)))].sort();
  const apply = (/** @type {Event} */ event) => {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (form));
    const given = Object.fromEntries([...data].map(([name, value]) => [name, utc(name, String(value))]));
    location.hash = `#/alerts${asQuery(given)}`;
  };
  const names = (/** @type {{id: string, name: string}[]} */ all) => all.map((one) => /** @type {[string, string]} */ ([one.id, one.name]));
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filter alerts", on: { submit: apply, change: apply } },
    labelled("Text", h("input", { type: "search", name: "text", value: wanted["text"], "data-search": true, maxlength: 200 })),
    choice("Session", "session", wanted, names(sessions)),
    choice("Rule", "rule", wanted, rules.map((rule) => [rule.id, rule.title])),
    choice("Level", "level", wanted, LEVELS.map((level) => [level, level === "critical" ? level : `${level} or worse`])),
    choice("Tactic", "tactic", wanted, tactics.map((tag) => [tag.slice("attack.".length), tag.slice("attack.".length).replaceAll("-", " ")])),
    choice("State", "state", wanted, [["new", "nobody has seen it"], ["acknowledged", "seen"]]),
    labelled("After", h("input", { type: "datetime-local", name: "after", value: local(wanted["after"] ?? "") })),
    labelled("Until", h("input", { type: "datetime-local", name: "until", value: local(wanted["until"] ?? "") })),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Filter"), Object.values(wanted).some(Boolean) && h("a", { class: "button", href: "#/alerts" }, "Show all")),
  );
  return h("details", { class: "filter-box", open: window.innerWidth > 700 || Object.values(wanted).some(Boolean) }, h("summary", null, "Filters"), form);
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
  return labelled(name, h("select", { name: key }, h("option", { value: "" }, "any"), all.map(([value, words]) => h("option", { value, selected: value === now }, clipped(words ?? "", 60)))));
}

/**
 * One alert; what it carries is read when it is opened.
 * @param {Alert} one
 * @param {boolean} canAct
 */
export function alertCard(one, canAct) {
  const care = careOf(one);
  const more = h("div", { class: "more" });
  const fields = one.event.fields ?? {};
  const open = async () => {
    if (more.firstChild) return;
    const whole = await get(`/alerts/${seg(one.id)}`);
    more.replaceChildren(...opened(whole, care, canAct));
  };
  return h(
    "details",
    { class: `row alert${care.seen ? " seen" : ""}`, "data-row": true, on: { toggle: () => attemptOpen(open, more) } },
    h("summary", { "data-focus": "open" },
      h("span", { class: "line" }, levelBadge(one.rule.level), actionBadge(one.outcome.action), h("span", { class: "quiet" }, when(one.time), " · ", h("span", { class: "name" }, one.session.name))),
      h("span", { class: "sentence" }, one.rule.title, subject(fields) && ": ", subject(fields) && h("code", null, clipped(subject(fields), 160)))),
    more,
  );
}

/** @param {() => Promise<void>} open @param {Element} more */
function attemptOpen(open, more) {
  open().catch((error) => more.replaceChildren(h("p", { class: "trouble" }, String(error.detail ?? error))));
}

/**
 * @param {Alert} whole
 * @param {ReturnType<typeof careOf>} care
 * @param {boolean} canAct
 */
function opened(whole, care, canAct) {
  const path = `/alerts/${seg(whole.id)}`;
  const assign = async () => {
    const wish = await askAssignee("this alert", care.assignee ?? "");
    if (wish) await attempt(() => send("POST", `${path}/assign`, wish));
  };
  const processes = whole.evidence?.["processes"]?.length ?? 0;
  return [
    h("p", null, `Done: ${ACTIONS[whole.outcome.action] ?? whole.outcome.action}.`, whole.outcome.detail && ` ${clipped(whole.outcome.detail)}`),
    h("dl", { class: "facts" }, Object.entries(whole.event.fields ?? {}).map(([name, value]) => [h("dt", null, FIELDS[name] ?? name), h("dd", null, h("code", null, clipped(String(value))))])),
    speedBars(whole.timings_ns ?? {}),
    processes > 0 && h("p", { class: "quiet" }, `Evidence of ${counted(processes, "process", "processes")} was taken.`),
    h("p", { class: "care" }, `${careWords(care)}.`,
      canAct && !care.seen && h("button", { "data-focus": "ack", on: { click: () => attempt(() => send("POST", `${path}/acknowledge`, { why: "" })) } }, "I have seen it"),
      canAct && h("button", { "data-focus": "assign", on: { click: assign } }, "Assign …"),
      h("a", { href: `#/rules?search=${encodeURIComponent(whole.rule.id)}` }, "The rule"),
      h("a", { href: `#/sessions/${seg(whole.session.id)}` }, "The session")),
  ].filter(Boolean);
}
