// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The monitor about itself: what works, what does not, and what it did not see. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { fill } from "../fill.js";
import { bus, isLive } from "../live.js";
import { card } from "../parts/small.js";
import { counted, rough } from "../text.js";
import { TIERS } from "../words.js";

/** @typedef {import("../types.js").Health} Health */

export const title = "Health";
const LOOK_MS = 5000;

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  const load = async () => {
    /** @type {Health} */
    const health = await get("/health", {}, visit.signal);
    const { uptime_s, programs, lost, store, ...rest } = health;
    fill(
      page,
      [
        { key: "head", data: rest, make: () => head(health) },
        {
          key: "facts",
          data: [rest, Math.floor(uptime_s / 60)],
          make: () => card("facts-card", "The monitor", facts(health)),
        },
        {
          key: "lost",
          data: lost,
          make: () => card("lost-card", "What it did not see", losses(health)),
        },
        {
          key: "programs",
          data: programs,
          make: () => card("programs-card", "Sensors in the kernel", sensors(programs)),
        },
        { key: "store", data: store, make: () => card("store-card", "The record", pairs(store)) },
      ],
      (part) => part.key,
      (part) => part.make(),
    );
  };
  const again = () => load().catch((error) => visit.signal.aborted || console.warn(error));
  await load();
  const timer = setInterval(() => document.hidden || !isLive() || again(), LOOK_MS);
  visit.signal.addEventListener("abort", () => clearInterval(timer));
  bus.addEventListener("sync", again, { signal: visit.signal });
}

/** @param {Health} health */
function head(health) {
  return h(
    "section",
    { class: `headline ${health.ok ? "is-well" : "is-ill"}`, "aria-label": "Summary" },
    h("h1", null, health.ok ? "All is well" : `${counted(health.problems.length, "problem")}`),
    health.problems.length
      ? h(
          "ul",
          { class: "problems" },
          health.problems.map((one) => h("li", null, one)),
        )
      : h("p", null, "Every sensor is attached, nothing was lost, and the record is written."),
    health.disarmed.length > 0 &&
      h("p", null, `Fired too often and now only tell: ${health.disarmed.join(", ")}`),
  );
}

/** @param {Health} health */
function facts(health) {
  return h(
    "dl",
    { class: "facts" },
    h("dt", null, "Tier"),
    h("dd", null, h("strong", null, health.tier), ". ", TIERS[health.tier] ?? ""),
    health.hooks_missing.length
      ? [
          h("dt", null, "Kernel lacks"),
          h("dd", null, health.hooks_missing.join(", "), ": what would be refused there is not"),
        ]
      : [],
    h("dt", null, "Rules"),
    h("dd", null, h("a", { href: "#/rules" }, `${counted(health.rules, "rule")} can fire`)),
    h("dt", null, "Sessions"),
    h("dd", null, health.sessions),
    h("dt", null, "Runs for"),
    h("dd", null, rough(health.uptime_s)),
    h("dt", null, "Version"),
    h("dd", null, health.version),
  );
}

/** @param {Health} health */
function losses(health) {
  const lost = Object.entries(health.lost).filter(([, count]) => count > 0);
  if (!lost.length) return h("p", null, "Nothing: no event was lost since it started.");
  const total = lost.reduce((sum, [, count]) => sum + count, 0);
  return h(
    "div",
    null,
    h(
      "p",
      { class: "trouble" },
      `${counted(total, "event")} found the ring full and were not judged. What an agent did then is not known.`,
    ),
    h(
      "table",
      null,
      h("caption", { class: "unseen" }, "Lost events by hook"),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { scope: "col" }, "Hook"),
          h("th", { scope: "col", class: "number" }, "Lost"),
        ),
      ),
      h(
        "tbody",
        null,
        lost.map(([hook, count]) =>
          h(
            "tr",
            null,
            h("td", null, h("code", null, hook)),
            h("td", { class: "number" }, count.toLocaleString("en")),
          ),
        ),
      ),
    ),
  );
}

/** @param {Record<string, boolean>} programs */
function sensors(programs) {
  const names = Object.keys(programs).sort();
  const off = names.filter((name) => !programs[name]);
  return h(
    "div",
    null,
    h(
      "p",
      null,
      off.length
        ? h(
            "strong",
            { class: "trouble" },
            `${off.length} of ${names.length} ${off.length === 1 ? "is" : "are"} not attached.`,
          )
        : `All ${names.length} are attached.`,
    ),
    h(
      "details",
      { open: off.length > 0 },
      h("summary", null, "Each of them"),
      h(
        "ul",
        { class: "sensors" },
        [...off, ...names.filter((name) => programs[name])].map((name) =>
          h(
            "li",
            { class: programs[name] ? "on" : "trouble" },
            h("code", null, name),
            programs[name] ? "" : " is not attached",
          ),
        ),
      ),
    ),
  );
}

/** @param {Record<string, unknown>} values */
function pairs(values) {
  const shownOnes = Object.entries(values).filter(([, value]) => value !== "" && value !== null);
  return h(
    "dl",
    { class: "facts" },
    shownOnes.map(([name, value]) => [
      h("dt", null, name.replaceAll("_", " ")),
      h(
        "dd",
        { class: name === "error" || (name === "dropped" && Number(value) > 0) ? "trouble" : null },
        typeof value === "object" ? JSON.stringify(value) : String(value),
      ),
    ]),
  );
}
