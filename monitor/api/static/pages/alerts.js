// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Alerts by filters, newest first, live; each opens to its fields and times. */

import { asQuery, get } from "../api.js";
import { h } from "../dom.js";
import { bus } from "../live.js";
import { alertCard } from "../parts/alert.js";
import { filters } from "../parts/filters.js";
import { pager } from "../parts/pager.js";
import { follow } from "../stream.js";

export const title = "Alerts";
const NAMES = ["text", "session", "rule", "level", "tactic", "state", "after", "until"];

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const wanted = Object.fromEntries(NAMES.map((name) => [name, visit.query.get(name) ?? ""]));
  const [sessions, rules] = await Promise.all([
    get("/sessions", { past: true }, visit.signal),
    get("/rules", {}, visit.signal),
  ]);
  const list = pager({
    read: (before) => get("/alerts", { ...wanted, limit: 50, before }, visit.signal),
    key: (one) => one.id,
    make: (one) => alertCard(one, visit.canAct),
    empty: "No alert meets these filters.",
  });
  page.append(h("h1", null, "Alerts"), filters(wanted, sessions, rules), list.node);
  const again = () => list.reload().catch((error) => visit.signal.aborted || console.warn(error));
  await list.reload();
  bus.addEventListener("sync", again, { signal: visit.signal });
  const heard = (/** @type {import("../stream.js").Message} */ message) =>
    message.event === "alert" && list.put(JSON.parse(message.data));
  // What came between the list and the stream is found by reading once more when it stands.
  follow(`/alerts/stream${asQuery(wanted)}`, {
    heard,
    state: (live) => live && again(),
    signal: visit.signal,
  }).catch(console.error);
}
