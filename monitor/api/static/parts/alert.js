// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One alert as a row that opens to its fields and times, and to who looks after it. */

import { get, seg, send } from "../api.js";
import { attempt } from "../acts.js";
import { h, when } from "../dom.js";
import { clipped, counted } from "../text.js";
import { ACTIONS, FIELDS, subject } from "../words.js";
import { actionBadge, askAssignee, careOf, careWords, levelBadge } from "./small.js";
import { speedBars } from "./speed.js";

/** @typedef {import("../types.js").Alert} Alert */

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
    {
      class: `row alert${care.seen ? " seen" : ""}`,
      "data-row": true,
      on: { toggle: () => attemptOpen(open, more) },
    },
    h(
      "summary",
      { "data-focus": "open" },
      h(
        "span",
        { class: "line" },
        levelBadge(one.rule.level),
        actionBadge(one.outcome.action),
        h(
          "span",
          { class: "quiet" },
          when(one.time),
          " · ",
          h("span", { class: "name" }, one.session.name),
        ),
      ),
      h(
        "span",
        { class: "sentence" },
        one.rule.title,
        subject(fields) && ": ",
        subject(fields) && h("code", null, clipped(subject(fields), 160)),
      ),
    ),
    more,
  );
}

/**
 * `ParentCommandLine` -> `Parent command line`.
 * @param {string} name
 */
function spoken(name) {
  const words = name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * A field as text; what a correlation is made of comes as a list of mappings.
 * @param {unknown} value
 */
function valueWords(value) {
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}

/** @param {() => Promise<void>} open @param {Element} more */
function attemptOpen(open, more) {
  open().catch((error) =>
    more.replaceChildren(h("p", { class: "trouble" }, String(error.detail ?? error))),
  );
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
    h(
      "p",
      null,
      `Done: ${ACTIONS[whole.outcome.action] ?? whole.outcome.action}.`,
      whole.outcome.detail && ` ${clipped(whole.outcome.detail)}`,
    ),
    h(
      "dl",
      { class: "facts" },
      Object.entries(whole.event.fields ?? {})
        .filter(([, value]) => !["", "[]"].includes(valueWords(value)))
        .map(([name, value]) => [
          h("dt", { title: name }, FIELDS[name] ?? spoken(name)),
          h("dd", null, h("code", null, clipped(valueWords(value)))),
        ]),
    ),
    speedBars(whole.timings_ns ?? {}),
    processes > 0 &&
      h(
        "p",
        { class: "quiet" },
        `Evidence of ${counted(processes, "process", "processes")} was taken.`,
      ),
    h(
      "p",
      { class: "care" },
      `${careWords(care)}.`,
      canAct &&
        !care.seen &&
        h(
          "button",
          {
            "data-focus": "ack",
            on: { click: () => attempt(() => send("POST", `${path}/acknowledge`, { why: "" })) },
          },
          "I have seen it",
        ),
      canAct && h("button", { "data-focus": "assign", on: { click: assign } }, "Assign …"),
      h("a", { href: `#/rules?search=${encodeURIComponent(whole.rule.id)}` }, "The rule"),
      h("a", { href: `#/sessions/${seg(whole.session.id)}` }, "The session"),
    ),
  ].filter(Boolean);
}
