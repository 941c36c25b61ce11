// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Short answers, for who has a minute: what, did it happen, by whom, what got out, how fast. */

import { h } from "../dom.js";
import { baseName, clipped } from "../text.js";
import { subject, wasRefused } from "../words.js";
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
  const what = subject(cause?.event.fields ?? {});
  return h(
    "dl",
    { class: "answers" },
    cause && answer("What", [what ? h("code", null, clipped(what, 160)) : cause.rule.title]),
    cause && answer("Did it happen?", [happened(cause)], !wasRefused(cause)),
    answer("Led to it", [cause ? clipped(chain.join(" → "), 160) || "Not known" : whole.title]),
    answer("Got out", [sentWords(whole.sent)], (whole.sent.bytes ?? 0) > 0),
    answer("Stopped after", [stoppedAfter(timings) || "No time was taken."]),
  );
}

/** @param {Alert} cause */
function happened(cause) {
  if (wasRefused(cause)) return "No, the kernel refused it.";
  if (cause.event.verdict === "hold") return "Yes; its process was held as it did it.";
  return "Yes, before it was stopped.";
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
