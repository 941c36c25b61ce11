// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Notes in a corner of what has just happened, on whatever page one is; also spoken. */

import { byId, h } from "./dom.js";
import { clipped, parted, shown } from "./text.js";

const MOST_TOLD = 3;

/**
 * There is a new incident.
 * @param {import("./types.js").Incident} incident
 */
export function tell(incident) {
  const sentence = clipped(parted(incident.sentence)[0] || incident.title, 200);
  byId("announce").textContent = shown(`New incident in ${incident.session.name}: ${sentence}`);
  if (location.hash.startsWith(`#/incidents/${encodeURIComponent(incident.id)}`)) return;
  const news = byId("news");
  const note = h(
    "div",
    { class: "note", "data-incident": incident.id },
    h(
      "a",
      { href: `#/incidents/${encodeURIComponent(incident.id)}` },
      h("strong", null, "New incident: "),
      sentence,
    ),
    h(
      "button",
      { class: "plain", "aria-label": "Dismiss", on: { click: () => retract(incident.id) } },
      "✕",
    ),
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
