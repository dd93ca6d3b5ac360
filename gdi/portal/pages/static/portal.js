// The pages' one script: what is live is fetched again, times are shown in the reader's zone. Without it all works too.
"use strict";
const MOST_HOURS = 12; // a page that nobody closes stops asking
const SLOWEST = 30000; // ms between questions while the server does not answer
const policy = window.trustedTypes
  ? window.trustedTypes.createPolicy("gdi", { createHTML: (text) => text }) // our own server's page, escaped there
  : { createHTML: (text) => text };

function localTimes(root) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    time.title = time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function timeZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone) return;
  for (const input of document.querySelectorAll("input[data-timezone]")) input.value = zone;
  for (const text of document.querySelectorAll("[data-zone-name]")) text.textContent = zone;
}

async function ask(region) {
  const answer = await fetch(region.dataset.live, { headers: { Accept: "text/html" }, redirect: "error" });
  if (answer.status === 401 || answer.status === 403) {
    location.reload(); // the session is over: the page says so
    return null;
  }
  if (!answer.ok) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(policy.createHTML(await answer.text()), "text/html");
  return page.getElementById(region.id);
}

function watch(region) {
  const until = Date.now() + MOST_HOURS * 3600e3;
  let pause = Number(region.dataset.every);
  let seen = region.innerHTML;
  const next = () => setTimeout(round, pause);
  async function round() {
    if (Date.now() > until) return;
    if (document.hidden) return next();
    try {
      const fresh = await ask(region);
      if (!fresh) return;
      pause = Number(region.dataset.every);
      if (!fresh.dataset.live) {
        if (region.dataset.reload) return location.reload(); // it has ended: results and buttons are others
        delete region.dataset.live;
      }
      localTimes(fresh);
      if (fresh.innerHTML !== seen) {
        const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
        region.replaceChildren(...fresh.childNodes);
        seen = region.innerHTML;
        if (focused) document.getElementById(focused)?.focus();
      }
      if (!region.dataset.live) return;
    } catch {
      pause = Math.min(SLOWEST, pause * 2);
    }
    next();
  }
  next();
}

localTimes(document);
timeZone();
for (const region of document.querySelectorAll("[data-live]")) watch(region);
