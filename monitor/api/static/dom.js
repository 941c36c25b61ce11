// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Elements from plain data. Every string becomes a text node and is spelt by `shown`: no markup. */

import { ago, clock, shown } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "open"]);

/** @typedef {Node | string | number | null | undefined | false} Leaf */
/** @typedef {Leaf | any[]} Child lists of them as deep as one likes */
/** @typedef {{on?: Record<string, (event: any) => void>, [name: string]: any}} Props */

/**
 * An HTML element. `on` holds its listeners; null, undefined and false leave an attribute away.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {any} the element; typed loosely, for its tag is a string
 */
export function h(tag, props, ...children) {
  return dressed(document.createElement(tag), props, children);
}

/**
 * An SVG element.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function s(tag, props, ...children) {
  return dressed(document.createElementNS(SVG, tag), props, children);
}

/**
 * @param {any} node
 * @param {Props | null | undefined} props
 * @param {Child[]} children
 */
function dressed(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (PROPERTIES.has(name)) {
      node[name] = value ?? false;
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : shown(String(value)));
    }
  }
  node.append(.../** @type {Leaf[]} */ (children.flat(Infinity)).filter(isThere).map(asNode));
  return node;
}

/** @param {Leaf} child */
function isThere(child) {
  return child !== null && child !== undefined && child !== false && child !== "";
}

/** @param {Leaf} child */
function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(shown(String(child)));
}

/**
 * The one element with this id; a page without it is a fault of ours.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * A moment: the viewer's clock, with UTC on hover; `tick` keeps an age true.
 * @param {string} time RFC 3339, may be empty
 * @param {{age?: boolean}} [how]
 */
export function when(time, { age = false } = {}) {
  if (!time) return h("span", null, "—");
  const words = age ? ago(time) : clock(time);
  return h(
    "time",
    { datetime: time, title: `${clock(time)} here, ${time}`, "data-age": age },
    words,
  );
}

/** Bring every shown age up to date. */
export function tick() {
  for (const node of document.querySelectorAll("time[data-age]")) {
    node.textContent = ago(node.getAttribute("datetime") ?? "");
  }
}
