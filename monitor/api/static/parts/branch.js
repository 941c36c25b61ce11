// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One process in the picture of the tree: a dot, its name, its command line; arrow keys lead on. */

import { s } from "../dom.js";
import { baseName, clipped, command } from "../text.js";

/** @typedef {import("../types.js").TreeProcess} TreeProcess */
/** @typedef {import("./lineage.js").Row} Row */

export const ROW = 46;
export const TOP = 6;
const LETTER = 7.1; // width of a character of the picture's fonts, about

/**
 * @param {Row} row
 * @param {number} index of it in `rows`
 * @param {Row[]} rows
 * @param {{step: number, width: number, chosen: TreeProcess | undefined, choose: (one: TreeProcess) => void, deed: string}} how
 */
export function node(row, index, rows, { step, width, chosen, choose, deed }) {
  const { process } = row;
  const x = row.depth * step + 10;
  const y = index * ROW + TOP;
  const room = Math.floor((width - x - 30) / LETTER);
  const name = `${baseName(process.image) || "?"}  ${process.pid}`;
  const marks = [process.guilty && row.last ? deed : "", process.alive ? "" : "ended"]
    .filter(Boolean)
    .join(", ");
  const words = command(process.argv) || process.image;
  const keydown = walk(index, rows, choose);
  return s(
    "g",
    {
      role: "treeitem",
      class: `${process.guilty ? "guilty" : ""} ${process.alive ? "" : "gone"} ${process === chosen ? "chosen" : ""}`,
      "aria-level": row.depth + 1,
      "aria-selected": String(process === chosen),
      tabindex: process === chosen ? 0 : -1,
      "aria-label": `${name}${marks && `, ${marks}`}: ${clipped(words, 200)}`,
      on: { click: () => choose(process), keydown },
    },
    s("rect", { class: "row", x: 1, y: y + 1, width: width - 2, height: ROW - 3, rx: 6 }),
    s("circle", { cx: x, cy: y + ROW / 2 - 1, r: 6 }),
    s(
      "text",
      { x: x + 14, y: y + 19, class: "name" },
      fitted(name + (marks && `  · ${marks}`), room),
    ),
    s("text", { x: x + 14, y: y + 36, class: "words" }, fitted(words, room)),
  );
}

/**
 * @param {string} text
 * @param {number} room in characters
 */
function fitted(text, room) {
  const characters = [...text];
  return characters.length <= room
    ? text
    : `${characters.slice(0, Math.max(room - 1, 1)).join("")}…`;
}

/**
 * Arrow keys go through the tree; where there is nowhere to go, they do what they always do.
 * @param {number} index
 * @param {Row[]} rows
 * @param {(one: TreeProcess) => void} choose
 */
function walk(index, rows, choose) {
  const move = (/** @type {number} */ to) => rows[to] && choose(rows[to].process);
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowDown: () => move(index + 1),
    ArrowUp: () => move(index - 1),
    ArrowLeft: () => move(rows[index]?.above ?? -1),
    ArrowRight: () => move(rows.findIndex((other) => other.above === index)),
    Home: () => move(0),
    End: () => move(rows.length - 1),
  };
  return (/** @type {KeyboardEvent} */ event) => {
    const action = keys[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  };
}
