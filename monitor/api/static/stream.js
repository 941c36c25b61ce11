// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Server-sent events over fetch(), since EventSource cannot send the token.
 * A broken stream is taken up where it broke; whoever follows is told whether it is live.
 */

import { Problem, request } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const SILENT_MS = 40_000; // the server sends a comment every 15 s: two were missed

/** @typedef {{event: string, data: string, id: string}} Message */

/** The lines of a stream, however they were cut on the way, as messages. */
export class Parser {
  constructor() {
    this.rest = "";
    this.id = "";
    this.event = "";
    /** @type {string[]} */
    this.data = [];
  }

  /**
   * @param {string} text
   * @returns {Message[]} those that `text` completes
   */
  push(text) {
    // A CR at the very end may be half of a CRLF.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.line(line));
  }

  /** @param {string} line */
  line(line) {
    if (line === "") return this.end();
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (name === "data") this.data.push(value ?? "");
    else if (name === "event") this.event = value ?? "";
    else if (name === "id") this.id = value ?? "";
    return [];
  }

  end() {
    const found = { event: this.event || "message", data: this.data.join("\n"), id: this.id };
    const given = this.event !== "" || this.data.length > 0;
    this.event = "";
    this.data = [];
    return given ? [found] : [];
  }
}

/**
 * Follow a stream until `signal`. A hidden tab lets go of it: a browser opens six connections to
 * one server, and a seventh tab must not find all of them taken by streams.
 * @param {string} path
 * @param {object} how
 * @param {(message: Message) => void} how.heard
 * @param {(live: boolean, problem: Problem | null) => void} how.state
 * @param {AbortSignal} how.signal
 */
export async function follow(path, { heard, state, signal }) {
  let last = "";
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    await seen(signal);
    if (signal.aborted) return;
    let problem = null;
    try {
      await once(path, last, signal, (message) => {
        last = message.id || last;
        wait = FIRST_WAIT_MS;
        if (message.event === "following") state(true, null);
        else heard(message);
      });
    } catch (error) {
      problem = error instanceof Problem ? error : null;
    }
    if (signal.aborted || problem?.status === 401) return;
    if (!document.hidden) state(false, problem);
    // Not in step with all other tabs: a monitor that comes back is not to be run over.
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

/**
 * @param {string} path
 * @param {string} last
 * @param {AbortSignal} signal
 * @param {(message: Message) => void} heard
 */
async function once(path, last, signal, heard) {
  const stop = new AbortController();
  const end = () => stop.abort();
  const hide = () => document.hidden && end();
  let watchdog = setTimeout(end, SILENT_MS);
  signal.addEventListener("abort", end);
  document.addEventListener("visibilitychange", hide);
  try {
    const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    const answer = await request(path, { headers, signal: stop.signal });
    const reader = /** @type {ReadableStream} */ (answer.body)
      .pipeThrough(new TextDecoderStream())
      .getReader();
    const parser = new Parser();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENT_MS);
      parser.push(part.value).forEach(heard);
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", end);
    document.removeEventListener("visibilitychange", hide);
  }
}

/** @param {AbortSignal} signal */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(null), { once: true, signal });
    signal.addEventListener("abort", () => resolve(null), { once: true });
  });
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const early = () => {
      clearTimeout(timer);
      resolve(null);
    };
    signal.addEventListener("abort", early, { once: true });
    window.addEventListener("online", early, { once: true, signal });
  });
}
