// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** A list that is read a page at a time, newest first, and stays true when it is read again. */

import { h } from "../dom.js";
import { fill } from "../fill.js";

/**
 * @template T
 * @param {object} how
 * @param {(before: number | null) => Promise<{items: T[], next: number | null}>} how.read
 * @param {(item: T) => string} how.key
 * @param {(item: T) => Element} how.make
 * @param {string} how.empty said where there is nothing
 */
export function pager({ read, key, make, empty }) {
  const list = h("div", { class: "rows" });
  const none = h("p", { class: "empty", hidden: true }, empty);
  const more = h("button", { hidden: true, on: { click: () => addOlder() } }, "Older ones");
  /** @type {T[]} */
  let items = [];
  /** @type {number | null} */
  let next = null;
  let pages = 0;
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();

  /**
   * One change after another: reading again takes a while, and what was added or put meanwhile would
   * be lost with it.
   * @param {() => unknown} change
   */
  const inTurn = (change) => {
    const done = last.then(change);
    last = done.catch(() => null);
    return done;
  };
  const draw = () => {
    fill(list, items, key, make);
    none.hidden = items.length > 0;
    more.hidden = next === null;
  };
  const addOlder = () => {
    more.disabled = true;
    return inTurn(older);
  };
  const older = async () => {
    try {
      if (next === null) return; // it was read again before this turn, and that was all
      const page = await read(next);
      items = [...items, ...page.items];
      next = page.next;
      pages += 1;
      draw();
    } finally {
      more.disabled = false;
    }
  };
  /** Read again as many pages as are shown. */
  const reload = async () => {
    /** @type {T[]} */
    const fresh = [];
    /** @type {number | null} */
    let cursor = null;
    for (let count = Math.max(pages, 1); count > 0; count -= 1) {
      const page = await read(cursor);
      fresh.push(...page.items);
      cursor = page.next;
      if (cursor === null) break;
    }
    items = fresh;
    next = cursor;
    pages = Math.max(pages, 1);
    draw();
  };
  /** @param {T} item put on top, or where its older state stands */
  const put = (item) => {
    const at = items.findIndex((one) => key(one) === key(item));
    items = at < 0 ? [item, ...items] : items.with(at, item);
    draw();
  };
  return {
    node: h("div", { class: "pager" }, list, none, more),
    reload: () => inTurn(reload),
    /** @param {T} item */
    put: (item) => inTurn(() => put(item)),
  };
}
