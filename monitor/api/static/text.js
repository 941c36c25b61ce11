// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Text for people: an agent's strings made safe to look at, times, sizes; it touches no page. */

// What Python's str.isprintable() refuses, as `monitor/text.py` does for terminals: controls, bidi
// marks and other format characters, private, unassigned, line separators, spaces but the usual one.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const SHORT = /** @type {Record<string, string>} */ ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" });

/**
 * An agent chooses its file names character by character: what could hide or reorder text is spelt.
 * @param {string} text
 */
export function shown(text) {
  return text.replace(UNSEEN, (c) => SHORT[c] ?? spelt(c.codePointAt(0) ?? 0));
}

/** @param {number} code */
function spelt(code) {
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

/**
 * The beginning of a long text and how much was left out.
 * @param {string} text
 * @param {number} most characters
 */
export function clipped(text, most = 400) {
  const characters = [...text];
  if (characters.length <= most) return text;
  return `${characters.slice(0, most).join("")} … and ${characters.length - most} characters more`;
}

/**
 * A command line as one would type it.
 * @param {readonly string[]} argv
 */
export function command(argv) {
  return argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : quoted(word))).join(" ");
}

/** @param {string} word */
function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * What was done, and what the stop came to; the record tells both in one text.
 * @param {string} told
 * @returns {[string, string]}
 */
export function parted(told) {
  const at = told.lastIndexOf(". The whole session ");
  return at < 0 ? [told, ""] : [told.slice(0, at + 1), told.slice(at + 2)];
}

/** @param {string} path */
export function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} many
 */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** @param {number} count */
export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return counted(count, "byte");
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/**
 * A span that may be microseconds or minutes.
 * @param {number} ms
 */
export function span(ms) {
  const size = Math.abs(ms);
  if (size < 0.0005) return "0 ms";
  if (size < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (size < 10) return `${ms.toFixed(1)} ms`;
  if (size < 1000) return `${ms.toFixed(0)} ms`;
  if (size < 60_000) return `${(ms / 1000).toFixed(size < 10_000 ? 1 : 0)} s`;
  return rough(ms / 1000);
}

/** @param {number} seconds */
export function rough(seconds) {
  const size = Math.abs(seconds);
  if (size < 60) return `${Math.round(seconds)} s`;
  if (size < 3600) return `${Math.round(seconds / 60)} min`;
  if (size < 86_400) return `${Math.round(seconds / 3600)} h`;
  return counted(Math.round(seconds / 86_400), "day");
}

/** @param {string} time RFC 3339 */
export function ago(time, now = Date.now()) {
  const seconds = (now - Date.parse(time)) / 1000;
  return seconds < 5 ? "just now" : `${rough(seconds)} ago`;
}

/**
 * The viewer's own wall clock; with the day where that is not today.
 * @param {string} time RFC 3339
 */
export function clock(time, now = new Date()) {
  const date = new Date(time);
  if (Number.isNaN(date.valueOf())) return time;
  const hour = date.toLocaleTimeString("en-GB");
  if (date.toDateString() === now.toDateString()) return hour;
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return `${day} ${hour}`;
}

/**
 * A text with the times in it on the viewer's clock.
 * @param {string} text
 */
export function clocked(text) {
  return text.replace(/\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)/g, (time) => clock(time));
}

/** What the viewer's clock is set to: `GMT+1`, `UTC`. */
export function zone(time = new Date()) {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(time);
  return parts.find((one) => one.type === "timeZoneName")?.value ?? "";
}
