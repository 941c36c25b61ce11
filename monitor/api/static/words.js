// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The monitor's words in plain English: states, acts, steps, kinds of events. Tables only. */

/** @typedef {import("./types.js").Session} Session */

/** @type {Record<string, string>} what a state means for whoever has to decide */
const STATES = {
  running: "It works; nothing has stopped it.",
  held: "The kernel holds it for a moment while the rules decide.",
  frozen: "Nothing of it runs and its network is cut. It waits for you.",
  killed: "All of its processes were ended.",
  exited: "It ended by itself.",
  lost: "It left the monitor's sight: treat it as an incident.",
};

/**
 * What its state means, and how its own process ended.
 * @param {Session} session
 */
export function stateWords(session) {
  const code = session.exit_code;
  const known = session.ended && session.state === "exited" && typeof code === "number";
  return `${STATES[session.state] ?? ""}${known ? ` The agent's exit code is ${code}.` : ""}`;
}

const ALIVE = new Set(["running", "held", "frozen", "lost"]);

/** @param {Session} session */
export function isAlive(session) {
  return ALIVE.has(session.state);
}

/** What is to be known before an act that happened is followed by more of the same agent. */
export const STAYS_DONE =
  "What it did before it was stopped stays done: what it read it has, and what it started goes on too.";

/**
 * The kernel said no before it happened.
 * @param {import("./types.js").Alert | null} cause
 */
export function wasRefused(cause) {
  return cause?.event.verdict === "deny" || cause?.event.fields?.["Refused"] === true;
}

/** @type {Record<string, string>} what was really done, as the answer to an alert */
export const ACTIONS = {
  logged: "logged",
  alerted: "told, not stopped",
  frozen: "frozen",
  killed: "killed",
  resumed: "resumed",
  would_freeze: "would be frozen (the session is only observed)",
  would_kill: "would be killed (the session is only observed)",
  denied: "refused: it did not happen",
  would_deny: "would be refused (the session is only observed)",
  already_stopped: "was stopped already",
  disarmed: "not stopped: this rule fired too often and now only tells",
  refused: "not stopped: a guard said no",
  stopping: "being stopped",
  failed: "the stop was tried and could not be confirmed",
  granted: "allowed by a grant",
};

/** @type {Record<string, string>} the steps of a stop, by the names of `timings_ns` */
export const STEPS = {
  held: "The kernel held the process",
  received: "The monitor heard of it",
  matched: "A rule matched",
  cut: "Network cut",
  frozen: "All of it frozen",
  evidence: "Evidence taken",
  killed: "All of it killed",
  empty: "Proved that nothing is left",
  resumed: "Running again",
};

/** @type {Record<string, string>} kinds of the timeline */
export const KINDS = {
  exec: "Programs",
  file: "Files",
  network: "Network",
  process: "Processes",
  privilege: "Privileges",
  alert: "Alerts",
  action: "Actions",
  step: "Steps of the stop",
};

/** @type {Record<string, string>} what an enforcement is worth, for people */
export const ENFORCED = {
  "prevented in kernel": "The kernel refuses the act: it does not happen.",
  "held in kernel":
    "The kernel holds the process as it acts, or refuses the act where it can; it may have happened.",
  "detected in user space":
    "What the kernel knows by its name is held; the rest is seen after it happened, and answered then.",
  off: "This rule does nothing on this machine.",
};

/** @type {Record<string, string>} what each tier can do */
export const TIERS = {
  tracepoint:
    "What was done is seen when the call returns, and the process can be held there. " +
    "Reads and writes of files that a rule names in full, and connections, are refused beforehand.",
  lsm: "What is about to be done is seen beforehand and can be refused.",
};

/** @param {string} enforcement `off: reason` included */
export function enforcementWord(enforcement) {
  return enforcement.startsWith("off") ? "off" : enforcement;
}

/** @type {Record<string, string>} fields of events that say most, first ones first */
export const FIELDS = {
  TargetFilename: "File",
  QueryName: "Name asked for",
  DestinationHostname: "Host",
  DestinationIp: "Address",
  DestinationPort: "Port",
  Detail: "Detail",
  CommandLine: "Command line",
  Image: "Program",
};

/**
 * What an event was about, in one phrase.
 * @param {Record<string, any>} fields
 */
export function subject(fields) {
  const name = Object.keys(FIELDS).find((one) => fields[one]);
  if (name === undefined) return "";
  const port = fields["DestinationPort"];
  return `${fields[name]}${port && name.startsWith("Destination") ? ` port ${port}` : ""}`;
}

/** @type {string[]} Sigma's levels, worst first */
export const LEVELS = ["critical", "high", "medium", "low", "informational"];

/**
 * `attack.credential-access` -> `credential access`; techniques and others are no tactics.
 * @param {readonly string[]} tags
 */
export function tactics(tags) {
  return tags
    .filter((tag) => /^attack\.[a-z-]+$/.test(tag))
    .map((tag) => tag.slice("attack.".length).replaceAll("-", " "));
}
