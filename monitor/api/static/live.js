// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * What the page follows all the time: incidents. Pages listen to `bus`:
 * `incident` (one changed), `sync` (read again what you show), `open` (how many are open),
 * `health` (is the monitor itself well?).
 */

import { get } from "./api.js";
import { byId } from "./dom.js";
import { retract, tell } from "./news.js";
import { follow } from "./stream.js";
import { shown } from "./text.js";

const LOOK_MS = 20_000;

export const bus = new EventTarget();

/** @type {Set<string>} ids of open incidents */
const open = new Set();
/** @type {Set<string>} incidents that were told of in this tab */
const told = new Set();
let live = false;

/** @param {AbortSignal} signal ends with the sign-in */
export async function start(signal) {
  open.clear();
  const look = () => (document.hidden ? count(signal) : feel(signal)).catch(() => null);
  const timer = setInterval(look, LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  await follow("/incidents/stream", {
    heard,
    state: (now, problem) => state(now, problem, signal),
    signal,
  });
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
    offline.textContent = shown(
      `Not live: no word from the monitor${why}. What you see may be old; trying again.`,
    );
    return;
  }
  count(signal).catch(() => null);
  feel(signal).catch(() => null);
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

/**
 * Is the monitor itself as it should be? Blindness must be seen on every page.
 * @param {AbortSignal} signal
 */
async function feel(signal) {
  const health = await get("/health", {}, signal);
  bus.dispatchEvent(new CustomEvent("health", { detail: health.ok }));
}

/** How many incidents wait for somebody. */
export function openIncidents() {
  return open.size;
}
