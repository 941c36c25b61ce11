// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Every rule, and honestly what it is worth on this machine. */

import { get, send } from "../api.js";
import { attempt, banner } from "../acts.js";
import { h } from "../dom.js";
import { fill } from "../fill.js";
import { levelBadge } from "../parts/small.js";
import { clipped, counted } from "../text.js";
import { ENFORCED, enforcementWord, tactics } from "../words.js";

/** @typedef {import("../types.js").RuleInForce} RuleInForce */

export const title = "Rules";

/**
 * @param {any} page
 * @param {import("../router.js").Visit} visit
 */
export async function show(page, visit) {
  /** @type {RuleInForce[]} */
  let rules = await get("/rules", {}, visit.signal);
  const search = h("input", {
    type: "search",
    "data-search": true,
    value: visit.query.get("search") ?? "",
    "aria-label": "Search rules",
  });
  const tactic = h("select", { "aria-label": "Tactic" });
  const count = h("p", { class: "quiet", role: "status" });
  const list = h("div", { class: "rows" });
  const chips = h("div", {
    class: "chips",
    role: "group",
    "aria-label": "How they are enforced here",
  });
  let only = "";
  const draw = () => {
    const found = rules.filter(
      (rule) =>
        (!only || enforcementWord(rule.enforcement) === only) &&
        meets(rule, search.value, tactic.value),
    );
    count.textContent = `${counted(found.length, "rule")} of ${rules.length}`;
    fill(list, found, (rule) => rule.id, row);
    if (found.length === 1) list.querySelector("details").open = true;
    chips.replaceChildren(
      ...Object.keys(ENFORCED).map((word) =>
        chip(word, rules, only, () => {
          only = only === word ? "" : word;
          draw();
          chips.querySelector(`[data-word="${word}"]`)?.focus();
        }),
      ),
    );
  };
  const reload = () =>
    attempt(async () => {
      const changes = await send("POST", "/rules/reload");
      rules = await get("/rules", {}, visit.signal);
      draw();
      banner(
        "good",
        `The rules were read again: ${counted(changes.rules, "rule")} in force.`,
        changed(changes),
      );
    });
  const all = [...new Set(rules.flatMap((rule) => tactics(rule.tags ?? [])))].sort();
  tactic.append(
    h("option", { value: "" }, "any tactic"),
    ...all.map((one) => h("option", { value: one }, one)),
  );
  search.addEventListener("input", draw);
  tactic.addEventListener("change", draw);
  page.append(
    h(
      "div",
      { class: "title-line" },
      h("h1", null, "Rules"),
      visit.me.role === "admin" && h("button", { on: { click: reload } }, "Read them again"),
    ),
    chips,
    h(
      "div",
      { class: "filters" },
      h("label", null, h("span", null, "Search"), search),
      h("label", null, h("span", null, "Tactic"), tactic),
    ),
    count,
    list,
  );
  draw();
}

/**
 * @param {RuleInForce} rule
 * @param {string} words every one must be somewhere
 * @param {string} tactic
 */
function meets(rule, words, tactic) {
  const whole = [
    rule.id,
    rule.title,
    rule.name,
    rule.description,
    rule.file,
    rule.response,
    rule.level,
    rule.category,
    rule.author,
    ...(rule.tags ?? []),
  ]
    .join(" ")
    .toLowerCase();
  return (
    words
      .toLowerCase()
      .split(/\s+/)
      .every((word) => whole.includes(word)) &&
    (!tactic || tactics(rule.tags ?? []).includes(tactic))
  );
}

/**
 * @param {string} word
 * @param {RuleInForce[]} rules
 * @param {string} only
 * @param {() => void} click
 */
function chip(word, rules, only, click) {
  const count = rules.filter((rule) => enforcementWord(rule.enforcement) === word).length;
  return h(
    "button",
    {
      class: `chip enforced-${word.split(" ")[0]}`,
      "data-word": word,
      "aria-pressed": String(only === word),
      title: ENFORCED[word],
      on: { click },
    },
    word,
    h("span", { class: "quiet" }, ` ${count}`),
  );
}

/** @param {RuleInForce} rule */
function row(rule) {
  const word = enforcementWord(rule.enforcement);
  return h(
    "details",
    { class: "row rule", "data-row": true },
    h(
      "summary",
      null,
      h(
        "span",
        { class: "line" },
        levelBadge(rule.level),
        h("span", { class: `badge enforced-${word.split(" ")[0]}` }, word),
        h("span", { class: "quiet" }, rule.response),
      ),
      h("span", { class: "sentence" }, rule.title),
    ),
    h(
      "div",
      { class: "more" },
      rule.description && h("p", null, clipped(rule.description, 1500)),
      h(
        "dl",
        { class: "facts" },
        h("dt", null, "Here"),
        h(
          "dd",
          null,
          `${ENFORCED[word] ?? rule.enforcement} `,
          h("span", { class: "quiet" }, rule.enforcement_why),
        ),
        rule.falsepositives?.length
          ? [h("dt", null, "May be wrong when"), h("dd", null, rule.falsepositives.join("; "))]
          : [],
        tactics(rule.tags ?? []).length
          ? [h("dt", null, "Tactic"), h("dd", null, tactics(rule.tags ?? []).join(", "))]
          : [],
        rule.author ? [h("dt", null, "Author"), h("dd", null, rule.author)] : [],
        h("dt", null, "File"),
        h("dd", null, h("code", null, rule.file || "—")),
        h("dt", null, "Id"),
        h("dd", null, h("code", null, rule.id)),
      ),
      h("p", null, h("a", { href: `#/alerts?rule=${encodeURIComponent(rule.id)}` }, "Its alerts")),
    ),
  );
}

/** @param {{added: string[], removed: string[], changed: string[]}} changes */
function changed(changes) {
  const parts = ["added", "removed", "changed"].map((kind) => {
    const names =
      /** @type {Record<string, string[]>} */ (/** @type {unknown} */ (changes))[kind] ?? [];
    return names.length ? `${kind}: ${names.join(", ")}` : "";
  });
  return parts.filter(Boolean).join(" · ") || "Nothing is different.";
}
