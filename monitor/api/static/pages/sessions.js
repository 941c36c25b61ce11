// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Every agent under watch, with the button that stops it; those that ended are below. */

import { get, seg } from "../api.js";
import { h, when } from "../dom.js";
import { fill } from "../fill.js";
import { bus, isLive } from "../live.js";
import { sessionButtons, stateBadge } from "../parts/small.js";
import { clipped, command, counted, parted } from "../text.js";
import { isAlive, stateWords } from "../words.js";

/** @typedef {import("../types.js").Session} Session */
/** @typedef {import("../types.js").Incident} Incident */
/** @typedef {{session: Session, incident: Incident | undefined}} Item */

export const title = "Sessions";
const LOOK_MS = 2000; // no stream tells of new sessions and of what they have done
const MOST_ENDED = 50;
const URGENT = ["frozen", "lost", "held", "running"];

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const heading = h("h1", null, "Sessions");
  const living = h("div", { class: "rows sessions" });
  const ended = h("div", { class: "rows ended" });
  const below = h("details", { class: "after", hidden: true }, h("summary", null, "Ended"), ended);
  const none = h(
    "p",
    { class: "empty", hidden: true },
    "No agent runs under watch. Start one with ",
    h("code", null, "estop run -- COMMAND"),
    ".",
  );
  page.append(heading, none, living, below);
  /** @type {Map<string, Session>} */
  const known = new Map();
  /** @type {Map<string, Incident>} by session */
  let incidents = new Map();
  const draw = () => {
    const alive = [...known.values()].filter(isAlive).sort(byUrgency);
    const over = [...known.values()].filter((one) => !isAlive(one)).sort(byEnd);
    heading.textContent = alive.length
      ? `${counted(alive.length, "session")} under watch`
      : "Sessions";
    none.hidden = alive.length > 0;
    below.hidden = over.length === 0;
    const left = over.length > MOST_ENDED ? `, the last ${MOST_ENDED} are shown` : "";
    below.querySelector("summary").textContent = `Ended (${over.length}${left})`;
    list(
      living,
      alive.map((one) => ({ session: steady(one), incident: incidents.get(one.id) })),
      visit.canAct,
    );
    alive.forEach((one, index) =>
      living.children[index]?.querySelector("[data-did]")?.replaceChildren(...did(one)),
    );
    list(
      ended,
      over.slice(0, MOST_ENDED).map((session) => ({ session, incident: undefined })),
      false,
    );
  };
  const look = async (past = false) => {
    for (const one of await get("/sessions", { past: past || null }, visit.signal))
      known.set(one.id, one);
    draw();
  };
  /** Not every time: there may be years of ended sessions. */
  const load = async () => {
    const open = await get("/incidents", { state: "open", limit: 1000 }, visit.signal);
    incidents = new Map(open.items.map((/** @type {Incident} */ one) => [one.session.id, one]));
    await look(true);
  };
  const quietly = (/** @type {Promise<void>} */ task) =>
    task.catch((error) => visit.signal.aborted || console.warn(error));
  await load();
  const timer = setInterval(() => document.hidden || !isLive() || quietly(look()), LOOK_MS);
  visit.signal.addEventListener("abort", () => clearInterval(timer));
  for (const event of ["sync", "incident"])
    bus.addEventListener(event, () => quietly(load()), { signal: visit.signal });
}

/**
 * @param {Element} box
 * @param {Item[]} items
 * @param {boolean} canAct
 */
function list(box, items, canAct) {
  fill(
    box,
    items,
    (item) => item.session.id,
    (item) => row(item, canAct),
  );
}

/**
 * The last that ended comes first.
 * @param {Session} a
 * @param {Session} b
 */
function byEnd(a, b) {
  return (b.ended ?? "").localeCompare(a.ended ?? "");
}

/**
 * Those that wait for a person come first, then the newest.
 * @param {Session} a
 * @param {Session} b
 */
function byUrgency(a, b) {
  return (
    URGENT.indexOf(a.state) - URGENT.indexOf(b.state) ||
    (b.started ?? "").localeCompare(a.started ?? "")
  );
}

/**
 * Without the counts, which change all the time: the row and its button stay the same elements.
 * @param {Session} one
 * @returns {Session}
 */
function steady(one) {
  return { ...one, events: 0, processes: 0 };
}

/**
 * @param {Item} item
 * @param {boolean} canAct
 */
function row({ session: one, incident }, canAct) {
  const argv = one.argv ?? [];
  return h(
    "article",
    { class: `row session state-${one.state}`, "data-row": true },
    h(
      "div",
      { class: "body" },
      h(
        "p",
        { class: "line" },
        stateBadge(one.state),
        h(
          "a",
          { class: "name", href: `#/sessions/${seg(one.id)}`, "data-focus": "open" },
          one.name,
        ),
        one.mode === "observe" && h("span", { class: "badge" }, "observed only"),
      ),
      argv.length > 0 && h("p", null, h("code", null, clipped(command(argv), 160))),
      isAlive(one) && one.state !== "running" && h("p", { class: "state-words" }, stateWords(one)),
      incident &&
        h(
          "p",
          null,
          h("a", { href: `#/incidents/${seg(incident.id)}` }, incident.title),
          `: ${clipped(parted(incident.sentence)[0], 240)}`,
        ),
      h("p", { class: "quiet", "data-did": true }, ...did(one)),
    ),
    canAct && h("div", { class: "buttons" }, sessionButtons(one)),
  );
}

/**
 * @param {Session} one
 * @returns {(string | Node)[]}
 */
export function did(one) {
  const parts = [
    isAlive(one) && counted(one.processes ?? 0, "process", "processes"),
    counted(one.events ?? 0, "event"),
    one.uid === 0 ? "as root" : `as uid ${one.uid}`,
  ]
    .filter(Boolean)
    .join(" · ");
  const times = isAlive(one)
    ? ["started ", when(one.started ?? "", { age: true })]
    : ["ended ", when(one.ended ?? "")];
  return [`${parts} · `, ...times];
}
