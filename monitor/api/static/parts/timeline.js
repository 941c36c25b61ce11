// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What the session did around the act, oldest first, with the kinds that are wanted. */

import { h } from "../dom.js";
import { clipped, clock, counted, span } from "../text.js";
import { KINDS } from "../words.js";

/** @typedef {import("../types.js").Moment} Moment */

const MOST = 300;
/** Reads that follow each other and are worth a row of their own each, if they are fewer. */
const FOLDED = 4;
/** @type {Set<string>} what the viewer does not want to see; stays while the tab lives */
const hidden = new Set();

/**
 * @param {readonly Moment[]} moments
 * @param {boolean} byHand a person stopped it, so there is no act
 * @returns {Element}
 */
export function timelineList(moments, byHand) {
  if (!moments.length) return h("p", { class: "empty" }, "Nothing was recorded around the act.");
  const list = h("ol", { class: "timeline", tabindex: 0, "aria-label": "Timeline" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Kinds to show" });
  const draw = () => {
    const wanted = moments.filter((one) => !hidden.has(one.kind));
    list.replaceChildren(...rows(wanted, byHand));
    chips.replaceChildren(...kinds(moments).map(([kind, count]) => chip(kind, count, draw, chips)));
  };
  draw();
  requestAnimationFrame(() => toTheAct(list));
  return h("div", null, chips, list);
}

/**
 * The nearest to the act, with a line where the act is.
 * @param {Moment[]} wanted
 * @param {boolean} byHand
 */
function rows(wanted, byHand) {
  const near = [...wanted].sort((a, b) => Math.abs(a.at_ms) - Math.abs(b.at_ms)).slice(0, MOST);
  const kept = new Set(near);
  const shownOnes = wanted.filter((one) => kept.has(one));
  // What was seen last before a stop by hand stands before the line; the act itself after it.
  const after = shownOnes.findIndex((one) => (byHand ? one.at_ms > 0 : one.at_ms >= 0));
  const first = after < 0 ? shownOnes.length : after;
  const line = byHand ? "stopped" : "the act";
  const made = folded(shownOnes.slice(0, first));
  if (first > 0) made.push(h("li", { class: "now", "aria-label": `Here: ${line}` }, line));
  made.push(...folded(shownOnes.slice(first)));
  if (wanted.length > near.length)
    made.unshift(
      h(
        "li",
        { class: "left-out" },
        `${counted(wanted.length - near.length, "earlier or later event")} left out`,
      ),
    );
  return made;
}

/**
 * The act in the upper half, so that one sees what came before it and the stop.
 * @param {any} list
 */
function toTheAct(list) {
  const line = list.querySelector(".now");
  if (line) list.scrollTop = line.offsetTop - list.offsetTop - list.clientHeight * 0.45;
}

/**
 * A program that starts reads its libraries one after the other: such a run is one row that opens.
 * @param {readonly Moment[]} moments
 * @returns {Element[]}
 */
function folded(moments) {
  /** @type {Moment[][]} */
  const runs = [];
  for (const one of moments) {
    const before = runs.at(-1);
    if (before?.[0] && isRead(one) && isRead(before[0]) && before[0].pid === one.pid)
      before.push(one);
    else runs.push([one]);
  }
  return runs.flatMap((run) => (run.length < FOLDED ? run.map(row) : [readRow(run)]));
}

/** @param {Moment} one */
function isRead(one) {
  return one.kind === "file" && one.text.startsWith("read ") && !one.guilty && !one.refused;
}

/** @param {Moment[]} run of one process */
function readRow(run) {
  const first = /** @type {Moment} */ (run[0]);
  return h(
    "li",
    { class: "moment kind-file" },
    h("span", { class: "at" }, offset(first)),
    h("span", { class: "kind" }, first.kind),
    h(
      "details",
      { class: "what" },
      h(
        "summary",
        null,
        `read ${run.length} files `,
        h("span", { class: "quiet" }, `pid ${first.pid}`),
      ),
      h("ol", { class: "run" }, run.map(row)),
    ),
  );
}

/** @param {Moment} one */
function offset(one) {
  return one.at_ms === 0 ? "0" : `${one.at_ms > 0 ? "+" : "−"}${span(Math.abs(one.at_ms))}`;
}

/** @param {Moment} one */
function row(one) {
  return h(
    "li",
    { class: `moment kind-${one.kind}${one.guilty ? " guilty" : ""}` },
    h(
      "span",
      { class: "at", title: one.time ? `${clock(one.time)} (${one.time})` : null },
      offset(one),
    ),
    h("span", { class: "kind" }, one.kind),
    h(
      "span",
      { class: "what" },
      clipped(one.text),
      one.refused && h("strong", null, ": refused"),
      one.pid > 0 && h("span", { class: "quiet" }, ` pid ${one.pid}`),
    ),
  );
}

/**
 * @param {readonly Moment[]} moments
 * @returns {[string, number][]}
 */
function kinds(moments) {
  const counts = new Map();
  for (const one of moments) counts.set(one.kind, (counts.get(one.kind) ?? 0) + 1);
  return Object.keys(KINDS)
    .filter((kind) => counts.has(kind))
    .map((kind) => [kind, counts.get(kind)]);
}

/**
 * @param {string} kind
 * @param {number} count
 * @param {() => void} draw
 * @param {Element} chips
 */
function chip(kind, count, draw, chips) {
  const toggle = () => {
    if (!hidden.delete(kind)) hidden.add(kind);
    draw();
    /** @type {any} */ (chips.querySelector(`[data-kind="${kind}"]`))?.focus();
  };
  return h(
    "button",
    {
      class: `chip kind-${kind}`,
      "data-kind": kind,
      "aria-pressed": String(!hidden.has(kind)),
      on: { click: toggle },
    },
    KINDS[kind],
    h("span", { class: "quiet" }, ` ${count}`),
  );
}
