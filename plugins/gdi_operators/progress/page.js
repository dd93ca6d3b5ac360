// Polls the run's progress and shows it. All text from nodes goes through textContent: it is never markup.
"use strict";
const source = location.pathname.replace("/gdi/page/", "/gdi/progress/");
const byId = (id) => document.getElementById(id);

function cell(row, ...content) {
  const td = row.insertCell();
  td.append(...content);
}
function text(value) {
  return document.createTextNode(value === null || value === undefined ? "" : String(value));
}
function state(value) {
  const span = document.createElement("span");
  span.className = "state " + (/^[a-z]+$/.test(value) ? value : "");
  span.textContent = value;
  return span;
}
function bar(done, total) {
  const progress = document.createElement("progress");
  progress.max = total || 1;
  progress.value = done;
  progress.setAttribute("aria-label", `${done} of ${total} jobs done`);
  return progress;
}
function seconds(from, to) {
  if (!from) return "";
  const s = Math.max(0, Math.round((to || Date.now() / 1000) - from));
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
function ruleState(rule) {
  if (rule.failed) return "failed";
  if (rule.total && rule.done === rule.total) return "done";
  return rule.running ? "running" : "waiting";
}
function show(run) {
  const words = { "not-admitted": "The run is not admitted yet.", open: `Attempt ${run.attempt} is open.`, closed: `Attempt ${run.attempt} ended: ${run.outcome}.` };
  byId("state").textContent = words[run.state] || run.state;
  const failure = byId("failure");
  failure.hidden = !run.failing;
  if (run.failing) {
    failure.textContent = `Node ${run.failing.node} failed: ${run.failing.reason}` + (run.failing.dataset ? ` (dataset ${run.failing.dataset})` : "");
  }
  const nodes = document.createElement("tbody");
  for (const n of run.nodes) {
    const row = nodes.insertRow();
    cell(row, text(n.node));
    cell(row, state(n.state));
    cell(row, bar(n.done, n.total), text(`${n.done} of ${n.total}`));
    cell(row, text(n.message));
  }
  const rules = document.createElement("tbody");
  for (const r of run.rules) {
    const row = rules.insertRow();
    cell(row, text(r.node));
    cell(row, text(r.rule));
    cell(row, state(ruleState(r)));
    cell(row, bar(r.done, r.total), text(`${r.done} of ${r.total}` + (r.failed ? `, ${r.failed} failed` : "")));
    cell(row, text(seconds(r.started_at, r.ended_at)));
  }
  for (const [id, body] of [["nodes", nodes], ["rules", rules]]) {
    body.id = id;
    byId(id).replaceWith(body);
  }
}
async function poll() {
  let pause = 2000;
  try {
    const answer = await fetch(source, { credentials: "same-origin" });
    const body = await answer.json();
    if (answer.ok) {
      show(body);
      if (body.state === "closed") pause = 15000;
    } else {
      byId("state").textContent = typeof body.detail === "string" ? body.detail : `Airflow answered ${answer.status}.`;
      pause = 10000;
    }
  } catch {
    byId("state").textContent = "Airflow does not answer; trying again.";
    pause = 5000;
  }
  setTimeout(poll, document.hidden ? Math.max(pause, 10000) : pause);
}
poll();
