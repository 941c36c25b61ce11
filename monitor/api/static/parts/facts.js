// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The quieter parts of an incident: what was sent, the rule, what people did. */

import { h, when } from "../dom.js";
import { bytes, clipped, clocked, counted } from "../text.js";
import { ENFORCED, enforcementWord, tactics } from "../words.js";
import { actionBadge, levelBadge } from "./small.js";

/** @typedef {import("../types.js").Sent} Sent */
/** @typedef {import("../types.js").RuleInForce} RuleInForce */
/** @typedef {import("../types.js").ActionRecord} ActionRecord */

const NEAREST = 6;

/** @param {Sent} sent */
export function sentWords(sent) {
  if (sent.bytes === null) return "Not known: what it sent after the act was not counted.";
  if (!sent.bytes) return "It sent nothing after the act.";
  const here = sent.destinations.length > 0 && sent.destinations.every((one) => one.local);
  return `It sent ${bytes(sent.bytes)} after the act${here ? ", to this machine only, where a resolver or proxy may pass it on" : ""}.`;
}

/**
 * @param {Sent} sent
 * @returns {Element}
 */
export function sentList(sent) {
  const where = sent.destinations;
  const before =
    sent.total_bytes === null ? null : Math.max(sent.total_bytes - (sent.bytes ?? 0), 0);
  return h(
    "div",
    null,
    h("p", null, h("strong", null, sentWords(sent)), beforeWords(before)),
    where.length > 0 &&
      h(
        "table",
        null,
        h("caption", { class: "unseen" }, "Whom it has contacted"),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "Contacted"),
            h("th", { scope: "col", class: "number" }, "Times"),
          ),
        ),
        h(
          "tbody",
          null,
          where.map((one) =>
            h(
              "tr",
              null,
              h(
                "td",
                null,
                h("code", null, one.host || one.address),
                h(
                  "span",
                  { class: "quiet" },
                  ` ${one.host ? `${one.address} ` : ""}port ${one.port}${one.local ? ", this machine" : ""}`,
                ),
              ),
              h("td", { class: "number" }, one.count),
            ),
          ),
        ),
      ),
    where.length === 0 && h("p", { class: "quiet" }, "It has contacted nobody."),
  );
}

/** @param {number | null} count of bytes */
function beforeWords(count) {
  if (count === null) return " What it sent before is not known.";
  return count > 0 ? ` Before it, ${bytes(count)}.` : " And nothing before it.";
}

/**
 * The latest first: it is the nearest to the act.
 * @param {readonly {path: string, did: string}[]} changed
 * @returns {Element}
 */
export function changedList(changed) {
  if (!changed.length) return h("p", { class: "quiet" }, "No file around the act.");
  const latest = [...changed].reverse();
  const rows = (/** @type {typeof latest} */ some) =>
    h(
      "ul",
      { class: "changes" },
      some.map((one) =>
        h("li", null, h("span", { class: "quiet" }, `${one.did} `), h("code", null, one.path)),
      ),
    );
  const more = latest.slice(NEAREST);
  return h(
    "div",
    null,
    h("p", null, "A kill does not take these back:"),
    rows(latest.slice(0, NEAREST)),
    more.length > 0 &&
      h("details", null, h("summary", null, counted(more.length, "earlier one")), rows(more)),
  );
}

/**
 * @param {RuleInForce | null} rule
 * @returns {Element}
 */
export function ruleFacts(rule) {
  if (!rule)
    return h(
      "p",
      { class: "empty" },
      "No rule: a person stopped it, or the rule is loaded no more.",
    );
  const word = enforcementWord(rule.enforcement);
  return h(
    "div",
    null,
    h(
      "p",
      null,
      h("a", { href: `#/rules?search=${encodeURIComponent(rule.id)}` }, rule.title),
      " ",
      levelBadge(rule.level),
    ),
    rule.description && h("p", null, clipped(rule.description, 600)),
    h(
      "dl",
      { class: "facts" },
      h("dt", null, "Enforced here"),
      h(
        "dd",
        null,
        h("strong", null, word),
        `. ${ENFORCED[word] ?? ""} `,
        h("span", { class: "quiet" }, rule.enforcement_why),
      ),
      h("dt", null, "Asks for"),
      h("dd", null, rule.response),
      rule.falsepositives?.length
        ? [h("dt", null, "May be wrong when"), h("dd", null, rule.falsepositives.join("; "))]
        : [],
      tactics(rule.tags ?? []).length
        ? [h("dt", null, "Tactic"), h("dd", null, tactics(rule.tags ?? []).join(", "))]
        : [],
    ),
  );
}

/**
 * @param {readonly ActionRecord[]} actions
 * @returns {Element}
 */
export function actionList(actions) {
  if (!actions.length) return h("p", { class: "quiet" }, "Nobody has done anything yet.");
  return h(
    "ol",
    { class: "acts" },
    actions.map((one) =>
      h(
        "li",
        null,
        when(one.time),
        " ",
        h("strong", null, one.verb),
        ` by ${one.who} `,
        one.outcome.action !== "logged" && actionBadge(one.outcome.action),
        one.why && h("div", { class: "why" }, `“${clipped(one.why)}”`),
        one.outcome.detail && h("div", { class: "quiet" }, clipped(clocked(one.outcome.detail))),
      ),
    ),
  );
}
