// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** How fast the stop was: every step as a bar on one scale, counted from the act. */

import { h, s } from "../dom.js";
import { span } from "../text.js";
import { STEPS } from "../words.js";

const PERCENT = 100;

/**
 * @param {Record<string, number>} timings_ns
 * @returns {Element}
 */
export function speedBars(timings_ns) {
  const steps = Object.entries(timings_ns)
    .filter(([, ns]) => ns >= 0)
    .sort(([, a], [, b]) => a - b);
  if (!steps.length) return h("p", { class: "empty" }, "No times were taken.");
  // What comes after the freeze is not in a hurry, and would make the rest invisible.
  const scale = Math.max(
    timings_ns["frozen"] ?? timings_ns["killed"] ?? 0,
    ...steps.slice(0, 1).map(([, ns]) => ns),
    1,
  );
  return h(
    "ol",
    { class: "speed" },
    steps.map(([name, ns]) => row(name, ns, scale)),
  );
}

/**
 * @param {string} name
 * @param {number} ns
 * @param {number} scale
 */
function row(name, ns, scale) {
  const beyond = ns > scale;
  const width = beyond ? PERCENT : Math.max((ns / scale) * PERCENT, 0.6);
  return h(
    "li",
    { class: `step-${name}` },
    h("span", { class: "step" }, STEPS[name] ?? name),
    h("span", { class: "took" }, span(ns / 1e6)),
    s(
      "svg",
      { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "track", width: PERCENT, height: 4 }),
      s("rect", { class: beyond ? "fill beyond" : "fill", width, height: 4 }),
    ),
  );
}

/**
 * The one figure: how long it took until nothing of it ran.
 * @param {Record<string, number>} timings_ns
 */
export function stoppedAfter(timings_ns) {
  const ns = timings_ns["frozen"] ?? timings_ns["killed"] ?? timings_ns["held"];
  return ns === undefined ? "" : span(ns / 1e6);
}
