// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One session: what it is, what was done to it, its incidents and what it was granted. */

import { get, seg } from "../api.js";
import { h, when } from "../dom.js";
import { fill } from "../fill.js";
import { bus } from "../live.js";
import { actionList } from "../parts/facts.js";
import { grantRow } from "../parts/grant.js";
import { card, sessionButtons, stateBadge } from "../parts/small.js";
import { clipped, command } from "../text.js";
import { stateWords } from "../words.js";
import { alertCard } from "../parts/alert.js";
import { row as incidentRow } from "./incidents.js";
import { did } from "./sessions.js";

/** @typedef {import("../types.js").Session} Session */
/** @typedef {import("../types.js").Alert} Alert */
/** @typedef {import("../types.js").Grant} Grant */

export const title = "Session";

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const path = `/sessions/${seg(visit.id)}`;
  const load = async () => {
    const session = await get(path, {}, visit.signal);
    const [actions, incidents, grants, alerts] = await Promise.all([
      get(`${path}/actions`, {}, visit.signal),
      get("/incidents", { session: session.id, limit: 25 }, visit.signal),
      get("/grants", { session: session.id }, visit.signal),
      get("/alerts", { session: session.id, limit: 10 }, visit.signal),
    ]);
    const parts = [
      {
        key: "head",
        data: { ...session, events: 0, processes: 0 },
        make: () => head(session, visit.canAct),
      },
      {
        key: "incidents",
        data: incidents.items,
        make: () =>
          card("incidents-card", "Incidents", list(incidents.items, incidentRow, "None so far.")),
      },
      {
        key: "grants",
        data: grants,
        make: () =>
          card(
            "grants-card",
            "Granted",
            list(
              grants,
              (/** @type {Grant} */ one) => grantRow(one, visit.canAct),
              "Nothing is granted.",
            ),
          ),
      },
      {
        key: "actions",
        data: actions,
        make: () => card("actions-card", "What was done", actionList(actions)),
      },
      {
        key: "alerts",
        data: alerts,
        make: () =>
          card(
            "alerts-card",
            "Its last alerts",
            list(
              alerts.items,
              (/** @type {Alert} */ one) => alertCard(one, visit.canAct),
              "None so far.",
            ),
            alerts.next !== null &&
              h(
                "p",
                { class: "after" },
                h("a", { href: `#/alerts?session=${seg(session.id)}` }, "All of them"),
              ),
          ),
      },
    ];
    fill(
      page,
      parts,
      (part) => part.key,
      (part) => part.make(),
    );
    page.querySelector("[data-did]").replaceChildren(...did(session));
  };
  const again = () => load().catch((error) => visit.signal.aborted || console.warn(error));
  await load();
  for (const event of ["sync", "incident"])
    bus.addEventListener(event, again, { signal: visit.signal });
}

/**
 * @param {Session} session
 * @param {boolean} canAct
 */
function head(session, canAct) {
  return h(
    "section",
    { class: `headline is-${session.state}`, "aria-label": "The session" },
    h(
      "p",
      { class: "line" },
      stateBadge(session.state),
      h("span", { class: "quiet", "data-did": true }),
    ),
    h("h1", null, session.name),
    h("p", { class: "state-words" }, stateWords(session)),
    canAct && h("div", { class: "buttons" }, sessionButtons(session, { big: true })),
    h(
      "dl",
      { class: "facts" },
      h("dt", null, "Command"),
      h("dd", null, h("code", null, clipped(command(session.argv ?? []), 1000) || "—")),
      h("dt", null, "Id"),
      h("dd", null, h("code", null, session.id)),
      h("dt", null, "Started"),
      h(
        "dd",
        null,
        when(session.started ?? ""),
        ` (${session.origin}, process ${session.root_pid})`,
      ),
      h("dt", null, "Mode"),
      h(
        "dd",
        null,
        session.mode === "observe"
          ? "observe: nothing is stopped, alerts say what would have been done"
          : "enforce",
      ),
      h("dt", null, "Hardening"),
      h("dd", null, (session.hardening ?? []).join(" ") || "none"),
    ),
  );
}

/**
 * @template T
 * @param {T[]} items
 * @param {(item: T) => Element} make
 * @param {string} empty
 */
function list(items, make, empty) {
  return items.length
    ? h("div", { class: "rows" }, items.map(make))
    : h("p", { class: "quiet" }, empty);
}
