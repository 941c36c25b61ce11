// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Lists that are live and yet hold still: only what has changed is made again. */

/** @type {WeakMap<Element, string>} what an element was made from */
const prints = new WeakMap();

/**
 * Make `parent` show `items`, touching only what has changed, so that focus, open details and
 * scrolling stay where they are while the page is live.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} make
 */
export function fill(parent, items, key, make) {
  const old = new Map([...parent.children].map((child) => [child.getAttribute("data-key"), child]));
  const fresh = items.map((item) => {
    const print = JSON.stringify(item);
    const kept = old.get(key(item));
    if (kept && prints.get(kept) === print) return kept;
    const made = make(item);
    made.setAttribute("data-key", key(item));
    prints.set(made, print);
    return made;
  });
  const focused = document.activeElement;
  const place = focused && parent.contains(focused) ? placeOf(focused) : null;
  arrange(parent, fresh);
  if (place && document.activeElement !== focused) focusAt(parent, place, focused);
}

/**
 * What stays is not even moved where that can be: a click that has begun on it must not be lost.
 * @param {Element} parent
 * @param {Element[]} fresh
 */
function arrange(parent, fresh) {
  const wanted = new Set(fresh);
  for (const node of [...parent.children]) if (!wanted.has(node)) node.remove();
  fresh.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

/** @param {Element} focused */
function placeOf(focused) {
  const key = focused.closest("[data-key]")?.getAttribute("data-key") ?? "";
  return { key, name: focused.getAttribute("data-focus") };
}

/**
 * @param {Element} parent
 * @param {{key: string, name: string | null}} place
 * @param {any} focused
 */
function focusAt(parent, place, focused) {
  if (focused.isConnected) {
    focused.focus({ preventScroll: true });
    return;
  }
  const row = /** @type {any} */ (
    [...parent.children].find((n) => n.getAttribute("data-key") === place.key)
  );
  const inside = place.name ? row?.querySelector(`[data-focus="${CSS.escape(place.name)}"]`) : null;
  (inside ?? row?.querySelector("a, button") ?? row)?.focus({ preventScroll: true });
}
