// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One page at a time, by the address after the `#`; leaving a page aborts what it had under way. */

import { Problem } from "./api.js";
import { byId, h } from "./dom.js";
import { openIncidents } from "./live.js";
import * as alerts from "./pages/alerts.js";
import * as health from "./pages/health.js";
import * as incident from "./pages/incident.js";
import * as incidents from "./pages/incidents.js";
import * as rules from "./pages/rules.js";
import * as session from "./pages/session.js";
import * as sessions from "./pages/sessions.js";

/**
 * @typedef {object} Visit
 * @property {string} id the second word of the address, may be empty
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal ends with the visit
 * @property {import("./types.js").Me} me
 * @property {boolean} canAct responders and admins
 *
 * @typedef {{title: string, show: (page: any, visit: Visit) => Promise<void>}} Page
 */

/** @type {Record<string, {list: Page, one?: Page}>} */
const PAGES = {
  incidents: { list: incidents, one: incident },
  sessions: { list: sessions, one: session },
  alerts: { list: alerts },
  rules: { list: rules },
  health: { list: health },
};

/** @type {import("./types.js").Me | null} */
let me = null;
let visit = new AbortController();

/** @param {import("./types.js").Me | null} whom null: nobody is signed in */
export function openPage(whom) {
  me = whom;
  navigate();
}

/** Show what the address names. */
export function navigate() {
  visit.abort();
  if (!me) return;
  visit = new AbortController();
  const [path = "", words = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = ""] = path.split("/").map(decoded);
  const entry = PAGES[name || "incidents"];
  const page = id ? entry?.one : entry?.list;
  const main = byId("main");
  const slot = h("div", { "data-page": name || "incidents" });
  main.replaceChildren(h("div", { id: "banner", role: "status" }), slot);
  if (!page) {
    slot.append(
      h(
        "p",
        { class: "empty" },
        "There is no such page. ",
        h("a", { href: "#/incidents" }, "To the incidents"),
      ),
    );
    return;
  }
  const count = openIncidents();
  document.title = `${count ? `(${count}) ` : ""}${page.title} · estop`;
  window.scrollTo(0, 0);
  if (document.activeElement !== document.body) main.focus({ preventScroll: true });
  const given = {
    id,
    query: new URLSearchParams(words),
    signal: visit.signal,
    me,
    canAct: me.role !== "viewer",
  };
  page.show(slot, given).catch((error) => failed(slot, error, given.signal));
}

/** @param {string} word */
function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word; // not an address that we made
  }
}

/**
 * @param {Element} slot
 * @param {unknown} error
 * @param {AbortSignal} signal
 */
function failed(slot, error, signal) {
  if (signal.aborted) return;
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const words = known
    ? error.detail
    : "This page has a fault of its own. Use `estop` in a terminal.";
  slot.replaceChildren(
    h(
      "div",
      { class: "banner bad", role: "alert" },
      h("p", null, h("strong", null, words), known && error.mend && ` ${error.mend}`),
    ),
    h("button", { on: { click: navigate } }, "Try again"),
  );
}
