// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What a responder does to a session: asked, done, and told in a banner what came of it. */

import { Problem, seg, send } from "./api.js";
import { ask } from "./dialog.js";
import { byId, h } from "./dom.js";
import { grantQuestion } from "./grants.js";
import { bus } from "./live.js";
import { counted } from "./text.js";

/** @typedef {import("./types.js").Session} Session */
/** @typedef {import("./types.js").ActionRecord} ActionRecord */

/** @type {Record<string, (session: Session, more: string[]) => import("./dialog.js").Question>} */
const QUESTIONS = {
  freeze: (session) => ({
    title: `Stop ${session.name}?`,
    text: [
      `It stands still where it is${processes(session)}, and its network is cut. Nothing is lost: you can resume it.`,
    ],
    verb: "Stop it",
    tone: "danger",
    reason: "optional",
  }),
  resume: (session, more) => ({
    title: `Resume ${session.name}?`,
    text: ["It goes on where it was stopped, with its network.", ...more],
    verb: "Resume",
    tone: "primary",
    reason: "required",
  }),
  kill: (session) => ({
    title: `Kill ${session.name}?`,
    text: [
      `All of it ends at once${processes(session)}, and what it has not saved is lost. What it wrote before stays where it is. This cannot be undone.`,
    ],
    verb: "Kill …",
    tone: "danger",
    reason: "required",
    again: {
      title: `Really kill ${session.name}?`,
      text: `It cannot be resumed after this. All of it will end${processes(session)}.`,
      verb: "Kill it for good",
    },
  }),
};

/** @param {Session} session */
function processes(session) {
  return session.processes ? ` (${counted(session.processes, "process", "processes")})` : "";
}

/** @type {Record<string, string>} */
const UNDER_WAY = { freeze: "Stopping", resume: "Resuming", kill: "Killing" };

/** @type {Record<string, (name: string) => string>} */
const DONE = {
  frozen: (name) => `${name} is frozen: nothing of it runs and its network is cut.`,
  resumed: (name) => `${name} runs again, with its network.`,
  killed: (name) => `${name} was killed: none of its processes is left.`,
  already_stopped: (name) => `${name} was stopped already; nothing more was needed.`,
};

/**
 * Ask, then freeze, resume or kill.
 * @param {Session} session
 * @param {"freeze" | "resume" | "kill"} verb
 * @param {string[]} more of what comes of it, where that is known
 */
export async function act(
  session,
  verb,
  more = ["If it does the same again it is stopped again."],
) {
  const question = QUESTIONS[verb];
  const answer = question && (await ask(question(session, more)));
  if (answer) await attempt(() => perform(session, verb, answer.why));
}

/**
 * Ask, then grant what the rule stops; and resume, where that was wished for.
 * @param {Session} session
 * @param {import("./types.js").Alert} cause
 */
export async function grant(session, cause) {
  const { question, read } = grantQuestion(session, cause);
  const answer = await ask(question);
  if (!answer) return;
  const wish = read();
  await attempt(async () => {
    const made = await send("POST", `/sessions/${seg(session.id)}/grants`, {
      ...wish.grant,
      why: answer.why,
    });
    const until = new Date(made.expires).toLocaleTimeString("en-GB");
    if (wish.resume) await perform(session, "resume", answer.why, `Allowed until ${until}. `);
    else
      banner(
        "good",
        `Allowed until ${until}: “${cause.rule.title}” does not stop ${session.name} for it.`,
      );
  });
}

/**
 * @param {Session} session
 * @param {string} verb
 * @param {string} why
 * @param {string} before words that come first in the banner
 */
async function perform(session, verb, why, before = "") {
  banner("wait", `${before}${UNDER_WAY[verb]} ${session.name} …`);
  /** @type {ActionRecord} */
  const record = await send("POST", `/sessions/${seg(session.id)}/${verb}`, { why });
  const done = DONE[record.outcome.action];
  const detail = record.outcome.detail ? ` (${record.outcome.detail})` : "";
  if (done) banner("good", before + done(session.name) + detail);
  else banner("bad", `${before}${session.name}: ${record.outcome.action}${detail}`);
}

/**
 * Do it; say so if it was refused; let the page show what is now.
 * @param {() => Promise<void>} task
 */
export async function attempt(task) {
  try {
    await task();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    banner(
      "bad",
      `This did not happen: ${error.detail}.`,
      error.mend && `What helps: ${error.mend}`,
    );
  }
  bus.dispatchEvent(new Event("sync"));
}

/**
 * What came of an act, until it is closed or another page is opened.
 * @param {"good" | "bad" | "wait"} tone
 * @param {string} text
 * @param {string} [more]
 */
export function banner(tone, text, more = "") {
  const close = () => byId("banner").replaceChildren();
  byId("banner").replaceChildren(
    h(
      "div",
      { class: `banner ${tone}` },
      h("p", null, h("strong", null, text), more && h("span", null, ` ${more}`)),
      h(
        "button",
        { class: "plain", "aria-label": "Close this message", on: { click: close } },
        "✕",
      ),
    ),
  );
}
