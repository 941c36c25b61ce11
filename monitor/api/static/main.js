// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Starts here: sign in, follow the monitor, show the page that the address names. */

import { access, get, keepToken, Problem, takeTokenFromAddress, token } from "./api.js";
import { byId, h, tick } from "./dom.js";
import { fill } from "./fill.js";
import * as keys from "./keys.js";
import { bus, openIncidents, start } from "./live.js";
import { signIn } from "./pages/signin.js";
import { navigate, openPage } from "./router.js";

const TICK_MS = 10_000;
const AGAIN_MS = 3000;
const MOST_COUNTED = 99; // there is no room for more on a phone
const PAGES = /** @type {[string, string][]} */ ([
  ["incidents", "Incidents"],
  ["sessions", "Sessions"],
  ["alerts", "Alerts"],
  ["rules", "Rules"],
  ["health", "Health"],
]);

let following = new AbortController();

async function signedIn() {
  /** @type {import("./types.js").Me} */
  const me = await get("/me");
  following.abort();
  following = new AbortController();
  byId("nav").hidden = false;
  byId("who").replaceChildren(
    h("span", { class: "me", title: `role: ${me.role}` }, `${me.name} · ${me.role}`),
    h(
      "button",
      { class: "plain", "aria-label": "Keys", title: "Keys (?)", on: { click: keys.help } },
      "?",
    ),
    h("button", { class: "plain", on: { click: signOut } }, "Sign out"),
  );
  start(following.signal).catch(console.error);
  openPage(me);
}

/** @param {import("./api.js").Problem | null} problem */
function signedOut(problem) {
  following.abort();
  keepToken("");
  byId("nav").hidden = true;
  byId("offline").hidden = true;
  byId("news").replaceChildren();
  byId("who").replaceChildren();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
  openPage(null);
  signIn(byId("main"), problem, enter);
}

function signOut() {
  signedOut(null);
}

/** @param {string} given a token */
async function enter(given) {
  keepToken(given);
  await signedIn();
}

let well = true;

function drawNav() {
  const here = location.hash.split(/[/?]/)[1] || "incidents";
  const count = openIncidents();
  const marks = /** @type {Record<string, [string | number, string] | false>} */ ({
    incidents: count > 0 && [count > MOST_COUNTED ? `${MOST_COUNTED}+` : count, " open"],
    health: !well && ["!", " there are problems"],
  });
  const items = PAGES.map(([page, name]) => ({
    page,
    name,
    here: page === here,
    mark: marks[page] || null,
  }));
  fill(
    byId("nav"),
    items,
    (item) => item.page,
    ({ page, name, here: current, mark }) =>
      h(
        "a",
        { href: `#/${page}`, "aria-current": current && "page" },
        name,
        mark && h("span", { class: "count" }, mark[0], h("span", { class: "unseen" }, mark[1])),
      ),
  );
}

function begin() {
  takeTokenFromAddress();
  keys.install();
  byId("skip").addEventListener("click", (/** @type {Event} */ event) => {
    event.preventDefault(); // the address names the page, not a place in it
    byId("main").focus();
  });
  access.addEventListener("lost", (event) => {
    if (token()) signedOut(/** @type {CustomEvent} */ (event).detail);
  });
  bus.addEventListener("open", drawNav);
  bus.addEventListener("health", (event) => {
    well = /** @type {CustomEvent} */ (event).detail;
    drawNav();
  });
  window.addEventListener("hashchange", () => {
    const before = token();
    takeTokenFromAddress();
    drawNav();
    if (token() !== before) connect();
    else navigate();
  });
  setInterval(tick, TICK_MS);
  drawNav();
  if (token()) connect();
  else signedOut(null);
}

/** A monitor that is away for a moment is waited for: nobody is to look for the token again. */
async function connect() {
  try {
    await signedIn();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) return; // `access` has told
    byId("main").replaceChildren(h("p", { class: "empty" }, `${error.detail}; trying again …`));
    setTimeout(() => token() && connect(), AGAIN_MS);
  }
}

begin();
