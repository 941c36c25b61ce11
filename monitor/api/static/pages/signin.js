// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Asks for the token, and says where one is found. */

import { Problem } from "../api.js";
import { h } from "../dom.js";

/**
 * @param {any} main
 * @param {Problem | null} problem why the last token did not do
 * @param {(token: string) => Promise<void>} enter
 */
export function signIn(main, problem, enter) {
  const field = h("input", {
    id: "token",
    type: "password",
    required: true,
    autocomplete: "current-password",
    spellcheck: "false",
    autocapitalize: "off",
    "aria-describedby": "token-help token-problem",
  });
  const trouble = h(
    "p",
    { id: "token-problem", class: "trouble", role: "alert" },
    problem && words(problem),
  );
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    button.disabled = true;
    trouble.textContent = "";
    try {
      await enter(field.value.trim());
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      trouble.textContent = words(error);
    } finally {
      button.disabled = false;
    }
  };
  main.replaceChildren(
    h(
      "form",
      { class: "card signin", on: { submit } },
      h("h1", null, "Sign in"),
      h("p", null, "The emergency stop for AI agents of this machine."),
      h("label", { for: "token" }, "Token"),
      field,
      trouble,
      button,
      h(
        "p",
        { id: "token-help", class: "quiet" },
        "On the monitor's machine ",
        h("code", null, "estop token create NAME"),
        " makes one. It is kept in this tab only.",
      ),
    ),
  );
  document.title = "Sign in · estop";
  field.focus();
}

/** @param {Problem} problem */
function words(problem) {
  return problem.status === 401
    ? "This token is not accepted."
    : `${problem.detail}. ${problem.mend}`;
}
