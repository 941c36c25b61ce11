// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One grant: what is allowed, until when, by whom; and the way to take it back. */

import { seg, send } from "../api.js";
import { attempt } from "../acts.js";
import { ask } from "../dialog.js";
import { h, when } from "../dom.js";
import { described } from "../grants.js";
import { clipped } from "../text.js";

/** @typedef {import("../types.js").Grant} Grant */

/** @param {Grant} one */
export function holds(one) {
  return !one.revoked && Date.parse(one.expires) > Date.now();
}

/**
 * @param {Grant} one
 * @param {boolean} canAct
 */
export function grantRow(one, canAct) {
  const over = !holds(one);
  const fields = Object.entries(one.fields ?? {});
  const revoke = async () => {
    const question = {
      title: "Take the grant back?",
      text: ["From now on the rule stops this session again."],
      verb: "Take it back",
    };
    const answer = await ask({ ...question, tone: "danger", reason: "none" });
    if (answer) await attempt(() => send("DELETE", `/grants/${seg(one.id)}`));
  };
  return h(
    "article",
    { class: `row${over ? " over" : ""}`, "data-row": true },
    h(
      "div",
      { class: "body" },
      h(
        "p",
        null,
        h("strong", null, one.title),
        fields.length ? [": ", ...described(fields)] : ": everything it stops",
      ),
      h(
        "p",
        { class: "quiet" },
        one.revoked
          ? ["taken back ", when(one.revoked)]
          : [over ? "was over " : "until ", when(one.expires)],
        ` · by ${one.who}: “${clipped(one.why)}”`,
      ),
    ),
    canAct && !over && h("button", { "data-focus": "revoke", on: { click: revoke } }, "Take back"),
  );
}
