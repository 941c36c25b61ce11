// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Four short answers, for who has a minute: what, by whom, what got out, how fast. */

import { h } from "../dom.js";
import { baseName, clipped } from "../text.js";
import { subject } from "../words.js";
import { sentWords } from "./facts.js";
import { guiltyChain } from "./lineage.js";
import { stoppedAfter } from "./speed.js";

/** @typedef {import("../types.js").Whole} Whole */
/** @typedef {import("../types.js").Alert} Alert */

/**
 * @param {Whole} whole
 * @param {Alert | null} cause
 * @param {Record<string, number>} timings
 * @returns {Element}
 */
export function answers(whole, cause, timings) {
  const chain = guiltyChain(whole.tree).map((one) => baseName(one.image) || String(one.pid));
  const what = cause ? subject(cause.event.fields ?? {}) : "";
  const fast = stoppedAfter(timings);
  return h(
    "dl",
    { class: "answers" },
    answer(
      "What",
      cause ? [cause.rule.title, what && h("code", null, clipped(what, 160))] : [whole.title],
    ),
    answer("Led to it", [
      chain.length ? clipped(chain.join(" → "), 160) : "No process was recorded.",
    ]),
    answer("Got out", [sentWords(whole.sent)], (whole.sent.bytes ?? 0) > 0),
    answer("Stopped after", [fast || "No time was taken."]),
  );
}

/**
 * @param {string} question
 * @param {(string | Node)[]} words
 */
function answer(question, words, bad = false) {
  return h(
    "div",
    { class: bad ? "bad" : null },
    h("dt", null, question),
    h(
      "dd",
      null,
      words.map((word) => h("div", null, word)),
    ),
  );
}
