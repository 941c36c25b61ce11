// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** All incidents: the open ones first, whole; then those that are over, a page at a time. */

import { get, seg } from "../api.js";
import { h, when } from "../dom.js";
import { fill } from "../fill.js";
import { bus } from "../live.js";
import { careOf, careWords, levelBadge, stateBadge } from "../parts/small.js";
import { pager } from "../parts/pager.js";
import { clipped, parted } from "../text.js";

/** @typedef {import("../types.js").Incident} Incident */
/** @typedef {import("../types.js").Session} Session */

export const title = "Incidents";
const MOST_OPEN = 100;

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const open = h("div", { class: "rows" });
  const heading = h("h1", null, "Incidents");
  const calm = h("p", { class: "calm", hidden: true }, "No open incident. Nothing waits for you.");
  const older = pager({
    read: (before) => get("/incidents", { state: "resolved", limit: 25, before }, visit.signal),
    key: (one) => one.id,
    make: row,
    empty: "None yet.",
  });
  page.append(heading, calm, open, h("h2", { class: "after" }, "Over"), older.node);
  const load = async () => {
    const [found, sessions] = await Promise.all([
      get("/incidents", { state: "open", limit: MOST_OPEN }, visit.signal),
      get("/sessions", {}, visit.signal),
    ]);
    const states = new Map(sessions.map((/** @type {Session} */ one) => [one.id, one.state]));
    const items = found.items.map((/** @type {Incident} */ one) => ({
      ...one,
      now: states.get(one.session.id),
    }));
    fill(open, items, (/** @type {Incident} */ one) => one.id, row);
    calm.hidden = found.items.length > 0;
    heading.replaceChildren(
      found.items.length
        ? `${found.items.length}${found.next === null ? "" : "+"} open`
        : "Incidents",
    );
    await older.reload();
  };
  const again = () => load().catch((error) => visit.signal.aborted || console.warn(error));
  await load();
  for (const event of ["sync", "incident"])
    bus.addEventListener(event, again, { signal: visit.signal });
}

/** @param {Incident & {now?: string}} one `now`: what its session does, where that is known */
export function row(one) {
  const care = careOf(one);
  const end =
    one.state === "open"
      ? careWords(care)
      : `${one.resolution || "over"}${one.resolved_by ? ` by ${one.resolved_by}` : ""}`;
  return h(
    "article",
    { class: `row incident ${one.state}`, "data-row": true },
    h(
      "p",
      { class: "line" },
      one.now && stateBadge(one.now),
      levelBadge(one.level),
      h("span", { class: "name" }, one.session.name),
      h("span", { class: "quiet" }, when(one.opened), " · ", when(one.opened, { age: true })),
    ),
    h("a", { class: "sentence", href: `#/incidents/${seg(one.id)}` }, one.title),
    h("p", null, clipped(parted(one.sentence)[0], 240)),
    h("p", { class: "quiet" }, `${end.charAt(0).toUpperCase()}${end.slice(1)}`),
  );
}
