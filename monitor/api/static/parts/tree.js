// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The process tree as a picture: who started whom, with the branch that did it marked. */

import { h, s } from "../dom.js";
import { clipped, command, counted } from "../text.js";
import { node, ROW, TOP } from "./branch.js";
import { arranged } from "./lineage.js";

/** @typedef {import("../types.js").TreeProcess} TreeProcess */
/** @typedef {import("./lineage.js").Row} Row */

/**
 * @param {readonly TreeProcess[]} processes
 * @param {string} deed what the last of the guilty did with it: `did it`, `tried it`
 * @returns {Element}
 */
export function treePicture(processes, deed) {
  if (!processes.length) return h("p", { class: "empty" }, "No process of it was recorded.");
  const box = h("div", { class: "tree-box" });
  const detail = h("div", { class: "tree-detail", "aria-live": "polite" });
  let everything = false;
  let chosen = [...processes].reverse().find((one) => one.guilty) ?? processes[0];
  const draw = () => {
    const rows = arranged(processes, everything);
    const width = Math.max(box.clientWidth, 280);
    const had = box.contains(document.activeElement);
    const more = processes.length - rows.length;
    const words = `Show ${counted(more, "more process", "more processes")}`;
    const rest = more > 0 ? [h("button", { on: { click: showAll } }, words)] : [];
    box.replaceChildren(picture(rows, { width, chosen, choose, deed }), ...rest);
    if (had) box.querySelector("[tabindex='0']")?.focus();
    if (chosen) detail.replaceChildren(...described(chosen));
  };
  const showAll = () => {
    everything = true;
    draw();
  };
  /** @param {TreeProcess} one */
  const choose = (one) => {
    chosen = one;
    draw();
    box.querySelector("[tabindex='0']")?.focus();
  };
  let seen = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== seen) draw();
    seen = box.clientWidth;
  }).observe(box);
  return h("div", null, box, detail);
}

/**
 * @param {Row[]} rows
 * @param {{width: number, chosen: TreeProcess | undefined, choose: (one: TreeProcess) => void, deed: string}} how
 */
function picture(rows, how) {
  const { width } = how;
  const deepest = Math.max(...rows.map((row) => row.depth), 1);
  const step = Math.max(8, Math.min(26, (width * 0.35) / deepest));
  const height = rows.length * ROW + TOP * 2;
  const lines = rows.filter((row) => row.above >= 0).map((row) => line(row, rows, step));
  const nodes = rows.map((row, index) => node(row, index, rows, { ...how, step }));
  const label = `Process tree, ${counted(rows.length, "process", "processes")}; arrow keys move`;
  // Guilty lines last: they lie over the others.
  lines.sort((a, b) => a.classList.length - b.classList.length);
  return s(
    "svg",
    {
      class: "tree",
      role: "tree",
      "aria-label": label,
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
    },
    lines,
    nodes,
  );
}

/**
 * @param {Row} row
 * @param {Row[]} rows
 * @param {number} step
 */
function line(row, rows, step) {
  const above = /** @type {Row} */ (rows[row.above]);
  const x = above.depth * step + 10;
  const y = rows.indexOf(row) * ROW + TOP + ROW / 2 - 2;
  const d = `M${x} ${row.above * ROW + TOP + ROW / 2 + 7}V${y}H${row.depth * step + 4}`;
  return s("path", {
    d,
    class: row.process.guilty && above.process.guilty ? "guilty branch" : "branch",
  });
}

/** @param {TreeProcess} one */
function described(one) {
  return [
    h(
      "p",
      null,
      h("strong", null, `Process ${one.pid}`),
      ` ${one.alive ? "" : "(ended) "}runs `,
      h("code", null, one.image || "an unknown program"),
    ),
    one.argv.length > 0 &&
      h("p", null, h("code", { class: "block" }, clipped(command(one.argv), 1000))),
  ].filter(Boolean);
}
