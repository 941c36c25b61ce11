// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Asks the API with the token of this tab; it must not draw anything. */

const PREFIX = "/api/v1";
const KEPT = "estop.token";

/** A refusal in the API's own words (application/problem+json), or that nobody answered. */
export class Problem extends Error {
  /**
   * @param {number} status 0 where nobody answered
   * @param {string} detail
   * @param {string} mend
   */
  constructor(status, detail, mend = "") {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.mend = mend;
  }
}

/** Fires `lost` when the API takes the token no more. */
export const access = new EventTarget();

export function token() {
  return sessionStorage.getItem(KEPT) ?? "";
}

/** @param {string} value empty to forget it */
export function keepToken(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

/**
 * Take the token from `/#token=...`, and out of the address bar before anybody sees or keeps it.
 */
export function takeTokenFromAddress() {
  const found = /^#token=([^&]+)(?:&page=(.*))?$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", `${location.pathname}${found[2] ? `#${found[2]}` : ""}`);
  keepToken(decodeURIComponent(found[1] ?? ""));
}

/**
 * @param {string} path below /api/v1
 * @param {RequestInit} [init]
 * @returns {Promise<Response>} one that went well; Problem otherwise
 */
export async function request(path, init = {}) {
  const headers = { ...init.headers, Authorization: `Bearer ${token()}` };
  let answer;
  try {
    answer = await fetch(PREFIX + path, { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(
      0,
      "the monitor does not answer",
      "see `systemctl status estop` on its machine",
    );
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const problem = new Problem(answer.status, said.detail ?? answer.statusText, said.mend ?? "");
  if (answer.status === 401) access.dispatchEvent(new CustomEvent("lost", { detail: problem }));
  throw problem;
}

/**
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} [query] empty values are left out
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, query = {}, signal = undefined) {
  return (await request(path + asQuery(query), { signal: signal ?? null })).json();
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>} null where the answer has no body
 */
export async function send(method, path, body) {
  const init = { method, headers: { "Content-Type": "application/json" } };
  const answer = await request(
    path,
    body === undefined ? { method } : { ...init, body: JSON.stringify(body) },
  );
  return answer.status === 204 ? null : answer.json();
}

/** @param {Record<string, string | number | boolean | null | undefined>} query */
export function asQuery(query) {
  const given = Object.entries(query).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  const words = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return words && `?${words}`;
}

/**
 * Save what a link cannot fetch, because a link sends no header.
 * @param {string} path
 * @param {string} name of the file
 */
export async function download(path, name) {
  const address = URL.createObjectURL(await (await request(path)).blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** @param {string} part one segment of a path, whatever it holds */
export function seg(part) {
  return encodeURIComponent(part);
}
