// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * What the page follows all the time: incidents. Pages listen to `bus`:
 * `incident` (one changed), `sync` (read again what you show), `open` (how many are open).
 */

import { get } from "./api.js";
import { byId, h } from "./dom.js";
import { follow } from "./stream.js";
import { clipped, parted, shown } from "./text.js";

const HIDDEN_LOOK_MS = 20_000;
const MOST_TOLD = 3;

export const bus = new EventTarget();

/** @type {Set<string>} ids of open incidents */
const open = new Set();
/** @type {Set<string>} incidents that were told of in this tab */
const told = new Set();
let live = false;

/** @param {AbortSignal} signal ends with the sign-in */
export async function start(signal) {
  open.clear();
  const timer = setInterval(() => document.hidden && count(signal).catch(() => null), HIDDEN_LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  await follow("/incidents/stream", { heard, state: (now, problem) => state(now, problem, signal), signal });
}

/** Is what the page shows the present? */
export function isLive() {
  return live;
}

/** @param {import("./stream.js").Message} message */
function heard(message) {
  if (message.event !== "incident") return;
  /** @type {import("./types.js").Incident} */
  const incident = JSON.parse(message.data);
  const known = told.has(incident.id);
  told.add(incident.id);
  if (incident.state === "open") open.add(incident.id);
  else open.delete(incident.id);
  announceCount();
  if (!known && incident.state === "open") tell(incident);
  if (incident.state !== "open") retract(incident.id);
  bus.dispatchEvent(new CustomEvent("incident", { detail: incident }));
}

/**
 * @param {boolean} now
 * @param {import("./api.js").Problem | null} problem
 * @param {AbortSignal} signal
 */
function state(now, problem, signal) {
  const offline = byId("offline");
  live = now;
  offline.hidden = now;
  document.documentElement.classList.toggle("stale", !now);
  if (!now) {
    const why = problem ? ` (${problem.detail})` : "";
    offline.textContent = shown(`Not live: no word from the monitor${why}. What you see may be old; trying again.`);
    return;
  }
  count(signal).catch(() => null);
  bus.dispatchEvent(new Event("sync"));
}

/** @param {AbortSignal} signal */
async function count(signal) {
  const page = await get("/incidents", { state: "open", limit: 100 }, signal);
  open.clear();
  for (const incident of page.items) {
    open.add(incident.id);
    told.add(incident.id);
  }
  announceCount();
}

function announceCount() {
  document.title = document.title.replace(/^(\(\d+\) )?/, open.size ? `(${open.size}) ` : "");
  bus.dispatchEvent(new CustomEvent("open", { detail: open.size }));
}

/** How many incidents wait for somebody. */
export function openIncidents() {
  return open.size;
}

/** @param {import("./types.js").Incident} incident */
function tell(incident) {
  const sentence = clipped(parted(incident.sentence)[0] || incident.title, 200);
  byId("announce").textContent = shown(`New incident in ${incident.session.name}: ${sentence}`);
  if (location.hash.startsWith(`#/incidents/${encodeURIComponent(incident.id)}`)) return;
  const news = byId("news");
  const note = h(
    "div",
    { class: "note", "data-incident": incident.id },
    h("a", { href: `#/incidents/${encodeURIComponent(incident.id)}` }, h("strong", null, "New incident: "), sentence),
    h("button", { class: "plain", "aria-label": "Dismiss", on: { click: () => retract(incident.id) } }, "✕"),
  );
  news.prepend(note);
  [...news.children].slice(MOST_TOLD).forEach((old) => old.remove());
  news.hidden = false;
}

/**
 * Take a note away: it was read, dismissed, or somebody has dealt with it.
 * @param {string} id
 */
export function retract(id) {
  const news = byId("news");
  [...news.children].find((note) => note.getAttribute("data-incident") === id)?.remove();
  news.hidden = news.children.length === 0;
}
