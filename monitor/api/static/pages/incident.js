// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One incident: what happened, what led to it, what got out, and what can be done now. */

import { download, get, seg } from "../api.js";
import { attempt } from "../acts.js";
import { h } from "../dom.js";
import { fill } from "../fill.js";
import { bus } from "../live.js";
import { retract } from "../news.js";
import { actionList, changedList, ruleFacts, sentList } from "../parts/facts.js";
import { answers } from "../parts/answers.js";
import { grantRow } from "../parts/grant.js";
import { headline } from "../parts/headline.js";
import { card } from "../parts/small.js";
import { speedBars } from "../parts/speed.js";
import { timelineList } from "../parts/timeline.js";
import { treePicture } from "../parts/tree.js";
import { alertCard } from "../parts/alert.js";
import { wasRefused } from "../words.js";

/** @typedef {import("../types.js").Whole} Whole */
/** @typedef {import("../types.js").Grant} Grant */

export const title = "Incident";
const LOOK_AGAIN_MS = 1000;
const FRESH_MS = 60_000;

/**
 * The evidence follows the stop, and its arrival is no change of the incident.
 * @param {Whole} whole
 */
function unfinished(whole) {
  return !whole.tree.length && Date.now() - Date.parse(whole.opened) < FRESH_MS;
}

/**
 * The alert whose rule stopped the session; none where a person did.
 * @param {Whole} whole
 */
export function causeOf(whole) {
  return whole.alerts.find((one) => one.id === whole.cause) ?? null;
}

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  retract(visit.id);
  const load = async () => {
    const whole = await get(`/incidents/${seg(visit.id)}`, {}, visit.signal);
    const grants = await get("/grants", { session: whole.session.id }, visit.signal);
    draw(page, whole, grants, visit);
    if (unfinished(whole)) setTimeout(again, LOOK_AGAIN_MS);
  };
  const again = () => load().catch((error) => visit.signal.aborted || console.warn(error));
  await load();
  bus.addEventListener("sync", again, { signal: visit.signal });
  bus.addEventListener(
    "incident",
    (event) => {
      if (/** @type {CustomEvent} */ (event).detail.id === visit.id) again();
    },
    { signal: visit.signal },
  );
}

/**
 * Each part is made again only when what it shows has changed.
 * @param {any} page
 * @param {Whole} whole
 * @param {Grant[]} grants
 * @param {import("../router.js").Visit} visit
 */
function draw(page, whole, grants, visit) {
  const cause = causeOf(whole);
  const byHand = whole.actions.findLast((one) => one.verb === "freeze");
  const timings = cause?.timings_ns ?? byHand?.timings_ns ?? {};
  if (!page.firstChild)
    page.append(
      h("div", { class: "head" }),
      h("div", { class: "columns" }, h("div", { class: "wide" }), h("div", { class: "side" })),
    );
  const head = page.querySelector(".head");
  const { timeline, tree, sent, changed, rule, actions, alerts, ...summary } = whole;
  const now = { ...whole.session_now, events: 0, processes: 0 }; // they count on all the time
  parts(head, [
    [
      "headline",
      { ...summary, session_now: now, cause: cause?.id, grants },
      () => headline(whole, cause, grants, visit.canAct),
    ],
    [
      "answers",
      { tree, sent, timings, summary: summary.sentence },
      () => answers(whole, cause, timings),
    ],
  ]);
  parts(page.querySelector(".wide"), [
    [
      "tree",
      { tree, cause: cause?.id },
      () =>
        card(
          "tree-card",
          cause ? "What led to it" : "Its processes",
          treePicture(tree, wasRefused(cause) ? "tried it" : "did it"),
        ),
    ],
    [
      "timeline",
      timeline,
      () =>
        card(
          "timeline-card",
          cause ? "What it did around the act" : "What it did before it was stopped",
          timelineList(timeline, !cause),
        ),
    ],
    [
      "alerts",
      alerts,
      () =>
        card(
          "alerts-card",
          `Alerts (${alerts.length})`,
          alerts.length
            ? h(
                "div",
                { class: "rows" },
                alerts.map((one) => alertCard(one, visit.canAct)),
              )
            : h("p", { class: "quiet" }, "No rule has matched."),
        ),
    ],
  ]);
  parts(page.querySelector(".side"), [
    ...granted(grants, visit.canAct),
    ["sent", sent, () => card("sent-card", "What it sent", sentList(sent))],
    ["changed", changed, () => card("changed-card", "What it changed", changedList(changed))],
    ["speed", timings, () => card("speed-card", "How fast it was stopped", speedBars(timings))],
    ["rule", rule, () => card("rule-card", "The rule", ruleFacts(rule))],
    ["actions", actions, () => card("actions-card", "What was done", actionList(actions))],
    ["evidence", whole.id, () => card("evidence-card", "Evidence", evidence(whole))],
  ]);
}

/**
 * @param {Element} parent
 * @param {[string, unknown, () => Element][]} list
 */
function parts(parent, list) {
  const items = list.map(([key, data, make]) => ({ key, data: data ?? null, make }));
  fill(
    parent,
    items,
    (item) => item.key,
    (item) => item.make(),
  );
}

/**
 * What its session may do for now; nothing where that is as ever.
 * @param {Grant[]} grants
 * @param {boolean} canAct
 * @returns {[string, unknown, () => Element][]}
 */
function granted(grants, canAct) {
  const rows = () =>
    h(
      "div",
      { class: "rows" },
      grants.map((one) => grantRow(one, canAct)),
    );
  return grants.length ? [["grants", grants, () => card("grants-card", "Granted", rows())]] : [];
}

/** @param {Whole} whole */
function evidence(whole) {
  const name = `estop-${whole.id}.tar.zst`;
  const save = () => attempt(() => download(`/incidents/${seg(whole.id)}/evidence`, name));
  return [
    h(
      "p",
      null,
      "Processes, open files, sockets and events as they were while it stood still, with a list of hashes.",
    ),
    h(
      "button",
      { "data-hotkey": "e", "aria-keyshortcuts": "e", on: { click: save } },
      "Save the evidence",
    ),
  ];
}
