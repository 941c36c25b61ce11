// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The top of an incident: the sentence, the state now, and the buttons. */

import { seg, send } from "../api.js";
import { act, attempt, grant } from "../acts.js";
import { h, when } from "../dom.js";
import { clipped, clock, parted, zone } from "../text.js";
import { isAlive, stateWords, STAYS_DONE, wasRefused } from "../words.js";
import { holds } from "./grant.js";
import { askAssignee, careOf, careWords, levelBadge, stateBadge } from "./small.js";

/** @typedef {import("../types.js").Whole} Whole */
/** @typedef {import("../types.js").Alert} Alert */
/** @typedef {import("../types.js").Grant} Grant */

const ENDS = /** @type {Record<string, string>} */ ({
  resumed: "It was resumed",
  killed: "It was killed",
  ended: "It ended",
});

/**
 * @param {Whole} whole
 * @param {Alert | null} cause
 * @param {readonly Grant[]} grants of the session
 * @param {boolean} canAct
 * @returns {Element}
 */
export function headline(whole, cause, grants, canAct) {
  const session = whole.session_now;
  const [act, stop] = parted(whole.sentence);
  return h(
    "section",
    {
      class: `headline is-${whole.state === "open" ? session.state : "over"}`,
      "aria-label": "What happened",
    },
    h(
      "p",
      { class: "line" },
      stateBadge(session.state),
      levelBadge(whole.level),
      h("a", { href: `#/sessions/${seg(session.id)}` }, session.name),
      h(
        "span",
        { class: "quiet" },
        when(whole.opened),
        ` ${zone(new Date(whole.opened))} · `,
        when(whole.opened, { age: true }),
      ),
    ),
    h("h1", null, whole.title),
    h(
      "p",
      { class: "lead" },
      h("strong", null, clipped(act, 600)),
      stop && ` ${clipped(stop, 600)}`,
    ),
    whole.state === "open" ? decide(whole, cause, grants, canAct) : over(whole),
    care(whole, canAct),
  );
}

/**
 * @param {Whole} whole
 * @param {Alert | null} cause
 * @param {readonly Grant[]} grants
 * @param {boolean} canAct
 */
function decide(whole, cause, grants, canAct) {
  const session = whole.session_now;
  const words = h("p", { class: "state-words" }, stateWords(session));
  if (!canAct)
    return h(
      "div",
      null,
      words,
      h("p", { class: "quiet" }, "You may look, but not act: your token is a viewer's."),
    );
  if (!isAlive(session)) return words;
  const frozen = session.state === "frozen";
  const again = cause ? onceMore(cause, grants) : "";
  const after = [again, cause && !wasRefused(cause) ? STAYS_DONE : ""].filter(Boolean);
  return h(
    "div",
    { class: "decide" },
    words,
    h(
      "ul",
      { class: "choices", "aria-label": "What you can do" },
      frozen &&
        choice("r", "Resume", "primary", `Let it go on where it stands. ${again}`.trim(), () =>
          act(session, "resume", after),
        ),
      frozen &&
        cause &&
        choice("g", "Grant …", "", "Allow this act for a while, and let it go on.", () =>
          grant(session, cause),
        ),
      !frozen &&
        choice("f", "Stop", "danger", "Freeze it where it is and cut its network.", () =>
          act(session, "freeze"),
        ),
      choice("x", "Kill …", "danger", "End all of it. Cannot be undone; asks twice.", () =>
        act(session, "kill"),
      ),
    ),
  );
}

/**
 * What would come of the same act.
 * @param {Alert} cause
 * @param {readonly Grant[]} grants
 */
function onceMore(cause, grants) {
  const granted = grants.filter((one) => one.rule === cause.rule.id && holds(one));
  if (!granted.length) return "The same act is stopped again.";
  const until =
    granted
      .map((one) => one.expires)
      .sort()
      .at(-1) ?? "";
  return `It was granted until ${clock(until)} what “${granted[0]?.title}” stops: see “Granted”.`;
}

/**
 * @param {string} key
 * @param {string} word
 * @param {string} tone
 * @param {string} about
 * @param {() => void} click
 */
function choice(key, word, tone, about, click) {
  const id = `about-${key}`;
  return h(
    "li",
    null,
    h(
      "button",
      {
        class: `big ${tone}`,
        "data-hotkey": key,
        "data-focus": key,
        "aria-keyshortcuts": key,
        "aria-describedby": id,
        on: { click },
      },
      word,
    ),
    h("span", { id }, about),
  );
}

/** @param {Whole} whole */
function over(whole) {
  const by = whole.resolved_by ? ` by ${whole.resolved_by}` : "";
  const session = whole.session_now;
  const since = `#/alerts?session=${seg(session.id)}`;
  return h(
    "p",
    { class: "state-words" },
    `${ENDS[whole.resolution ?? ""] ?? "It is over"}${by}, `,
    when(whole.resolved ?? ""),
    whole.why ? `: “${whole.why}”. ` : ". ",
    whole.resolution === "resumed" && [
      `Now: ${stateWords(session)} `,
      h("a", { href: since }, "Alerts of it since then"),
    ],
  );
}

/**
 * @param {Whole} whole
 * @param {boolean} canAct
 */
function care(whole, canAct) {
  const now = careOf(whole);
  const path = `/incidents/${seg(whole.id)}`;
  const seen = () => attempt(() => send("POST", `${path}/acknowledge`, { why: "" }));
  const assign = async () => {
    const wish = await askAssignee("this incident", now.assignee ?? "");
    if (wish) await attempt(() => send("POST", `${path}/assign`, wish));
  };
  const words = careWords(now);
  const decided = whole.state !== "open" && !now.seen && !now.assignee; // who did has seen it
  return h(
    "p",
    { class: "care" },
    !decided && `${words.charAt(0).toUpperCase()}${words.slice(1)}.`,
    canAct &&
      !now.seen &&
      !decided &&
      h("button", { class: "plain", "data-focus": "ack", on: { click: seen } }, "I have seen it"),
    canAct &&
      h("button", { class: "plain", "data-focus": "assign", on: { click: assign } }, "Assign …"),
  );
}
