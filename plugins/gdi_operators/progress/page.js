// Polls the run's progress and shows it: nodes, and under each its rules. All text from nodes goes through textContent: it is never markup.
// Rows are made once and then only changed, so that focus, selection and what was folded stay.
"use strict";
const source = location.pathname.replace("/gdi/page/", "/gdi/progress/");
const byId = (id) => document.getElementById(id);
const nodes = new Map();

// --- words ---
const NODE = { waiting: ["waiting", "waiting"], starting: ["running", "starting"], running: ["running", "running"], success: ["done", "done"],
  failed: ["failed", "failed"], cancelled: ["stopped", "stopped"] };
const OUTCOME = { success: ["done", "Done"], failed: ["failed", "Failed"], cancelled: ["stopped", "Stopped"] };
const AIRFLOW = {
  queued: ["waiting", "Waiting to start", ""],
  running: ["waiting", "Waiting for admission", "The broker checks who may read what before anything starts."],
  failed: ["failed", "Not admitted", "Nothing was started. The log of the admission task says which dataset was refused, why, and how to apply for access."],
  success: ["stopped", "Not admitted", "The run ended without asking the broker for admission."],
};
function ruleState(rule, over) {
  if (rule.failed) return ["failed", "failed"];
  if (rule.total && rule.done >= rule.total) return ["done", "done"];
  if (over) return ["stopped", rule.done || rule.started_at ? "stopped" : "not run"];
  return rule.running ? ["running", "running"] : ["waiting", "waiting"];
}
function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
function took(from, to, run) {
  return from ? span((to || (run.state === "closed" ? from : Date.now() / 1000)) - from) : "";
}

// --- rows ---
function text(element, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}
function state(element, [kind, word]) {
  element.className = `state ${kind}`;
  text(element, word);
}
function add(parent, tag, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
function row(body, kind, scope) {
  const tr = add(body, "tr", { class: kind });
  const head = add(tr, "th", { scope });
  const made = { head, state: add(add(tr, "td"), "span") };
  const jobs = add(tr, "td");
  Object.assign(made, { bar: add(jobs, "progress"), jobs: add(jobs, "span"), began: add(tr, "td", { class: "number" }), took: add(tr, "td", { class: "number" }) });
  return made;
}
function fill(made, kind, item, label) {
  state(made.state, kind);
  made.bar.max = item.total || 1;
  made.bar.value = Math.min(item.done, item.total || 1);
  made.bar.className = kind[0];
  made.bar.setAttribute("aria-label", `${label}: ${item.done} of ${item.total} jobs done`);
  text(made.jobs, item.total ? `${item.done} of ${item.total}` + (item.failed ? `, ${item.failed} failed` : "") : "");
}
function groupOf(name) {
  if (!nodes.has(name)) {
    const body = add(byId("table"), "tbody");
    const made = row(body, "node", "rowgroup");
    made.button = add(made.head, "button", { type: "button", "aria-expanded": "true" });
    made.button.addEventListener("click", () => made.button.setAttribute("aria-expanded", String(!body.classList.toggle("folded"))));
    const said = add(body, "tr", { class: "said" });
    nodes.set(name, { ...made, body, saidRow: said, said: add(said, "td", { colspan: "5" }), rules: new Map() });
  }
  return nodes.get(name);
}
function showNode(node, rules, run, begin) {
  const group = groupOf(node.node);
  const started = rules.map((r) => r.started_at).filter(Boolean);
  const ended = rules.map((r) => r.ended_at).filter(Boolean);
  const over = run.state === "closed" || ["success", "failed", "cancelled"].includes(node.state);
  text(group.button, node.node);
  fill(group, NODE[node.state] || ["waiting", node.state], node, node.node);
  text(group.began, started.length ? `+ ${span(Math.min(...started) - begin)}` : "");
  text(group.took, started.length ? took(Math.min(...started), over ? Math.max(...ended, ...started) : null, run) : "");
  text(group.said, node.message);
  group.saidRow.hidden = !node.message;
  for (const rule of rules) {
    if (!group.rules.has(rule.rule)) group.rules.set(rule.rule, row(group.body, "rule", "row"));
    const made = group.rules.get(rule.rule);
    text(made.head, rule.rule);
    fill(made, ruleState(rule, over), rule, rule.rule);
    text(made.began, rule.started_at ? `+ ${span(rule.started_at - begin)}` : "");
    made.began.title = rule.started_at ? new Date(rule.started_at * 1000).toISOString() : "";
    text(made.took, over && !rule.ended_at ? "" : took(rule.started_at, rule.ended_at, run));
  }
  for (const [name, made] of group.rules) {
    if (!rules.some((r) => r.rule === name)) {
      made.head.parentElement.remove(); // a later attempt plans anew
      group.rules.delete(name);
    }
  }
}
function note(value) {
  text(byId("note"), value);
  byId("note").hidden = !value;
}
function headline(run, analysed) {
  if (run.state === "closed") return OUTCOME[run.outcome] || ["stopped", "Ended"];
  if (run.failing) return ["failed", "Failing"];
  return ["running", analysed ? "Analysed; releasing and gathering" : "Running"];
}
function show(run) {
  const admitted = run.state !== "not-admitted";
  const waiting = AIRFLOW[run.airflow] || AIRFLOW.running;
  const analysed = run.nodes.length > 0 && run.nodes.every((n) => n.state === "success");
  const [kind, word] = admitted ? headline(run, analysed) : waiting;
  state(byId("state"), [kind, word + (run.attempt > 1 ? ` (attempt ${run.attempt})` : "")]);
  note(admitted ? "" : waiting[2]);
  text(byId("failure"), run.failing ? `Node ${run.failing.node} failed: ${run.failing.reason}` + (run.failing.dataset ? `\nDataset ${run.failing.dataset}` : "") : "");
  byId("failure").hidden = !run.failing;
  const total = run.nodes.reduce((sum, n) => sum + n.total, 0);
  const done = run.nodes.reduce((sum, n) => sum + n.done, 0);
  const started = run.rules.map((r) => r.started_at).filter(Boolean);
  const ended = run.rules.map((r) => r.ended_at).filter(Boolean);
  const begin = started.length ? Math.min(...started) : 0;
  const all = byId("all");
  all.hidden = !total;
  all.max = total || 1;
  all.value = Math.min(done, total);
  all.className = `large ${kind}`;
  all.setAttribute("aria-label", `${done} of ${total} jobs done`);
  const parts = [total ? `${done} of ${total} jobs` : "", run.nodes.length ? `${run.nodes.length} ${run.nodes.length === 1 ? "node" : "nodes"}` : "",
    begin ? took(begin, analysed || run.state === "closed" ? Math.max(...ended, begin) : null, run) : ""];
  text(byId("counts"), parts.filter(Boolean).join(" · "));
  byId("scroll").hidden = !run.nodes.length;
  for (const node of run.nodes) showNode(node, run.rules.filter((r) => r.node === node.node), run, begin);
  for (const [name, group] of nodes) {
    if (!run.nodes.some((n) => n.node === name)) {
      group.body.remove();
      nodes.delete(name);
    }
  }
}

// --- Airflow's light or dark ---
function dress() {
  try {
    const outside = window.parent.document.documentElement;
    const follow = () => {
      for (const name of ["light", "dark"]) document.documentElement.classList.toggle(name, outside.classList.contains(name));
    };
    if (window.parent === window) return; // opened by itself: as the system has it
    follow();
    new MutationObserver(follow).observe(outside, { attributes: true, attributeFilter: ["class"] });
  } catch {
    // shown inside another site's page, which we may not look at: as the system has it
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
      note(typeof body.detail === "string" ? body.detail : `Airflow answered ${answer.status}.`);
      pause = 10000;
    }
  } catch {
    note("Airflow does not answer; trying again.");
    pause = 5000;
  }
  setTimeout(poll, document.hidden ? Math.max(pause, 10000) : pause);
}
dress();
poll();
