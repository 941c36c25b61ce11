// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** One question at a time, in the browser's own modal dialog: it keeps the focus and knows Escape. */

import { h } from "./dom.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {(string | Node)[]} text paragraphs
 * @property {string} verb on the button that does it
 * @property {"danger" | "primary"} tone
 * @property {"required" | "optional" | "none"} reason
 * @property {Node | null} [extra] more fields; read them after the answer
 * @property {{title: string, text: string, verb: string}} [again] asked a second time
 */

let number = 0;

/**
 * @param {Question} question
 * @returns {Promise<{why: string} | null>} null if the person thought better of it
 */
export function ask(question) {
  number += 1;
  const title = `dialog-${number}`;
  const why = h("textarea", {
    id: `${title}-why`,
    rows: 2,
    maxlength: 2000,
    required: question.reason === "required",
  });
  const form = h("form", { method: "dialog" });
  const dialog = h("dialog", { "aria-labelledby": title }, form);
  return new Promise((resolve) => {
    /** @param {{why: string} | null} answer */
    const done = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const first = () => stepOne(form, question, title, why, next, () => done(null));
    const next = () => {
      if (question.again)
        stepTwo(form, question.again, title, () => done({ why: why.value.trim() }), first);
      else done({ why: why.value.trim() });
    };
    dialog.addEventListener("cancel", (/** @type {Event} */ event) => {
      event.preventDefault();
      done(null);
    });
    document.body.append(dialog);
    first();
    dialog.showModal();
    (question.reason === "none" ? form.querySelector("input, button[type=submit]") : why).focus();
  });
}

/**
 * @param {any} form
 * @param {Question} question
 * @param {string} title
 * @param {any} why
 * @param {() => void} next
 * @param {() => void} cancel
 */
function stepOne(form, question, title, why, next, cancel) {
  const needed = question.reason === "required";
  form.replaceChildren(
    h("h2", { id: title }, question.title),
    ...question.text.map((part) => h("p", null, part)),
    ...(question.extra ? [question.extra] : []),
    ...(question.reason === "none"
      ? []
      : [
          h(
            "label",
            { for: why.id },
            needed ? "Why? It is kept in the record." : "Why? (may stay empty)",
          ),
          why,
        ]),
    buttons(
      h("button", { type: "button", on: { click: cancel } }, "Cancel"),
      submit(question.verb, question.tone),
    ),
  );
  form.onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    why.value = why.value.trim();
    if (form.reportValidity()) next();
  };
  if (why.isConnected) why.focus();
}

/**
 * @param {any} form
 * @param {{title: string, text: string, verb: string}} again
 * @param {string} title
 * @param {() => void} yes
 * @param {() => void} back
 */
function stepTwo(form, again, title, yes, back) {
  const no = h("button", { type: "button", on: { click: back } }, "Back");
  form.replaceChildren(
    h("h2", { id: title }, again.title),
    h("p", null, again.text),
    buttons(no, submit(again.verb, "danger")),
  );
  form.onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    yes();
  };
  no.focus(); // so that Enter pressed twice does not kill
}

/**
 * @param {string} verb
 * @param {string} tone
 */
function submit(verb, tone) {
  return h("button", { type: "submit", class: tone }, verb);
}

/** @param {...Node} children */
function buttons(...children) {
  return h("div", { class: "buttons end" }, ...children);
}
