// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The question of a grant: what exactly is allowed, and for how long. Narrow is the default. */

import { h } from "./dom.js";
import { clipped } from "./text.js";
import { FIELDS, STAYS_DONE, wasRefused } from "./words.js";

const SPANS = /** @type {[number, string][]} */ ([
  [900, "15 minutes"],
  [3600, "1 hour"],
  [4 * 3600, "4 hours"],
  [24 * 3600, "1 day"],
]);
const NARROWING = [
  "TargetFilename",
  "QueryName",
  "DestinationHostname",
  "DestinationIp",
  "DestinationPort",
];

/**
 * @param {import("./types.js").Session} session
 * @param {import("./types.js").Alert} cause the alert whose rule stopped the session
 */
export function grantQuestion(session, cause) {
  const fields = narrow(cause.event.fields ?? {});
  const narrowed = h("input", {
    type: "radio",
    name: "scope",
    checked: true,
    disabled: !fields.length,
  });
  const whole = h("input", { type: "radio", name: "scope", checked: !fields.length });
  const length = h(
    "select",
    { id: "grant-span" },
    SPANS.map(([s, words]) => h("option", { value: s, selected: s === SPANS[0]?.[0] }, words)),
  );
  const resume = h("input", { type: "checkbox", checked: session.state === "frozen" });
  const extra = h(
    "fieldset",
    null,
    h("legend", null, "What is allowed"),
    fields.length > 0 &&
      h("label", { class: "choice" }, narrowed, h("span", null, "Only this: ", described(fields))),
    h(
      "label",
      { class: "choice" },
      whole,
      h("span", null, `Everything that “${cause.rule.title}” stops`),
    ),
    h("label", { for: "grant-span" }, "For how long"),
    length,
    session.state === "frozen" &&
      h("label", { class: "choice" }, resume, h("span", null, "and resume the session now")),
  );
  /** @type {import("./dialog.js").Question} */
  const question = {
    title: `Allow this in ${session.name}?`,
    text: [
      `Until the time is over, “${cause.rule.title}” does not stop this session for it. Other rules still do.`,
      ...(wasRefused(cause) ? [] : [STAYS_DONE]),
    ],
    verb: "Allow it",
    tone: "primary",
    reason: "required",
    extra,
  };
  const read = () => ({
    grant: {
      rule: cause.rule.id,
      fields: narrowed.checked && fields.length ? Object.fromEntries(fields) : {},
      for_s: Number(length.value),
    },
    resume: resume.checked && session.state === "frozen",
  });
  return { question, read };
}

/**
 * @param {Record<string, any>} fields
 * @returns {[string, any][]}
 */
function narrow(fields) {
  return NARROWING.filter((name) => fields[name]).map((name) => [name, fields[name]]);
}

/** @param {[string, any][]} fields */
export function described(fields) {
  return fields.flatMap(([name, value], index) => [
    index ? ", " : "",
    `${(FIELDS[name] ?? name).toLowerCase()} `,
    h("code", null, clipped(String(value), 120)),
  ]);
}
