// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Puts processes in the order of a tree and leaves out what would bury the guilty; it draws nothing. */

/** @typedef {import("../types.js").TreeProcess} TreeProcess */
/** @typedef {{process: TreeProcess, depth: number, above: number, last: boolean}} Row */

const MOST = 40;

/**
 * @param {readonly TreeProcess[]} processes
 * @param {boolean} everything
 * @returns {Row[]} parents before children; `above` is the parent's row or -1; `last`: no guilty child
 */
export function arranged(processes, everything) {
  const kept = everything ? processes : worthShowing(processes);
  const pids = new Set(kept.map((one) => one.pid));
  /** @type {Map<number, TreeProcess[]>} */
  const children = new Map();
  for (const one of kept) {
    const above = pids.has(one.parent_pid) && one.parent_pid !== one.pid ? one.parent_pid : 0;
    children.set(above, [...(children.get(above) ?? []), one]);
  }
  /** @type {Row[]} */
  const rows = [];
  const done = new Set();
  /** @type {[TreeProcess, number, number][]} not recursive: an agent can nest as deep as it likes */
  const waiting = ordered(children.get(0)).map((one) => [one, 0, -1]);
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const [process, depth, above] = next;
    if (done.has(process)) continue;
    done.add(process);
    const below = ordered(children.get(process.pid)).filter((one) => !done.has(one));
    rows.push({ process, depth, above, last: !below.some((one) => one.guilty) });
    waiting.push(
      ...below.map(
        (one) => /** @type {[TreeProcess, number, number]} */ ([one, depth + 1, rows.length - 1]),
      ),
    );
  }
  // A pid that was used twice can make a ring, which hangs on nothing.
  for (const process of kept)
    if (!done.has(process)) rows.push({ process, depth: 0, above: -1, last: true });
  return rows;
}

/**
 * Latest first, for they are taken from the end.
 * @param {TreeProcess[] | undefined} siblings
 */
function ordered(siblings = []) {
  return [...siblings].sort((a, b) => b.started_ns - a.started_ns);
}

/**
 * The guilty, the living, the newest.
 * @param {readonly TreeProcess[]} processes
 */
function worthShowing(processes) {
  if (processes.length <= MOST) return processes;
  const rank = (/** @type {TreeProcess} */ one) => (one.guilty ? 2 : 0) + (one.alive ? 1 : 0);
  const best = [...processes].sort((a, b) => rank(b) - rank(a) || b.started_ns - a.started_ns);
  const kept = new Set(best.slice(0, MOST));
  return processes.filter((one) => kept.has(one));
}

/**
 * From the session's root to the process that did it.
 * @param {readonly TreeProcess[]} processes
 */
export function guiltyChain(processes) {
  return arranged(
    processes.filter((one) => one.guilty),
    true,
  ).map((row) => row.process);
}
