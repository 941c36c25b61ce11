// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Small things that many pages show: badges, the buttons of a session, who cares for what. */

import { act } from "../acts.js";
import { h } from "../dom.js";
import { ask } from "../dialog.js";
import { isAlive } from "../words.js";

/** @typedef {import("../types.js").Session} Session */
/** @typedef {import("../types.js").Care} Care */

/** @param {string} state */
export function stateBadge(state) {
  return h("span", { class: `badge state-${state}` }, state);
}

/** @param {string} level */
export function levelBadge(level) {
  return h("span", { class: `badge level-${level}` }, level);
}

/** @param {string} word of `ACTIONS` */
export function actionBadge(word) {
  return h("span", { class: `badge action-${word}` }, word.replaceAll("_", " "));
}

/**
 * Stop, or resume and kill: what makes sense for a session now.
 * @param {Session} session
 * @param {{big?: boolean}} [how]
 */
export function sessionButtons(session, { big = false } = {}) {
  if (!isAlive(session)) return [];
  /** @type {["freeze" | "resume" | "kill", string, string, string][]} */
  const offered =
    session.state === "frozen"
      ? [
          ["resume", "r", "Resume", "primary"],
          ["kill", "x", "Kill", "danger"],
        ]
      : [
          ["freeze", "f", "Stop", "danger"],
          ["kill", "x", "Kill", "quiet-danger"],
        ];
  return offered.map(([verb, key, word, tone]) =>
    h(
      "button",
      {
        class: `${tone}${big ? " big" : ""}`,
        "data-hotkey": key,
        "data-focus": verb,
        "aria-keyshortcuts": key,
        "aria-label": `${word} ${session.name}`,
        on: { click: () => act(session, verb) },
      },
      word,
    ),
  );
}

/**
 * Who has seen an alert or incident; one that nobody ever touched has no care at all.
 * @param {{care?: Care}} item
 * @returns {Care & {seen: boolean}}
 */
export function careOf(item) {
  return { ...item.care, seen: item.care?.state === "acknowledged" };
}

/** @param {Care & {seen: boolean}} care */
export function careWords(care) {
  const parts = [
    care.seen && `seen by ${care.by}`,
    care.assignee && `looked after by ${care.assignee}`,
  ];
  return parts.filter(Boolean).join(", ") || "not seen by anybody yet";
}

/**
 * Ask who shall look after something.
 * @param {string} what
 * @param {string} now
 * @returns {Promise<{to: string} | null>}
 */
export async function askAssignee(what, now) {
  const to = h("input", { id: "assign-to", value: now, maxlength: 200 });
  const extra = h("div", null, h("label", { for: "assign-to" }, "To whom (empty: to nobody)"), to);
  const answer = await ask({
    title: `Assign ${what}`,
    text: [],
    verb: "Assign",
    tone: "primary",
    reason: "none",
    extra,
  });
  return answer && { to: to.value.trim() };
}

/**
 * A titled box.
 * @param {string} key
 * @param {string} title
 * @param {...import("../dom.js").Child} children
 */
export function card(key, title, ...children) {
  const id = `title-${key}`;
  return h(
    "section",
    { class: `card ${key}`, "aria-labelledby": id },
    h("h2", { id }, title),
    ...children,
  );
}
