// The run's Jobs tab: what failed and why, how far it is, the rules by node, a timeline, and every job.
import { memo, useCallback, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { type JobState, type Progress, waitsFor } from "../api";
import { endedBadly, useStanding, Why } from "../standing";
import { State } from "../State";
import { number, plural, type Said, span } from "../words";
import { Details } from "./Details";
import { estimate, said } from "./estimate";
import { Failures } from "./Failures";
import { JOB, type Row, useFeed } from "./feed";
import { JobTable } from "./JobTable";
import { Rules } from "./Rules";
import { matching, NOTHING, type Order, ordered, type Wanted } from "./select";
import { Timeline } from "./Timeline";

const OUTCOME: Record<string, Said> = {
  success: ["done", "Done"],
  failed: ["failed", "Failed"],
  cancelled: ["stopped", "Stopped"],
};
const WAITING: Record<string, readonly [Said, string]> = {
  queued: [["waiting", "Waiting to start"], ""],
  running: [["waiting", "Waiting for admission"], "The broker checks who may read what before anything starts."],
  failed: [
    ["failed", "Not admitted"],
    "Nothing was started. The log of the admission task says which dataset was refused, why, and how to apply for" +
      " access.",
  ],
  success: [["stopped", "Not admitted"], "The run ended without asking the broker for admission."],
};
const STATES: JobState[] = ["failed", "running", "queued", "submitted", "done", "cancelled"];

function headline(run: Progress): readonly [Said, string] {
  if (run.state === "not-admitted" && run.waits_until)
    return [["waiting", "Waiting for its date"], waitsFor(run.waits_until)];
  if (run.state === "not-admitted") return WAITING[run.airflow ?? "running"] ?? WAITING.running!;
  if (run.state === "closed") return [OUTCOME[run.outcome] ?? ["stopped", "Ended"], ""];
  if (run.failing) return [["failed", "Failing"], ""];
  if (run.nodes.length && run.nodes.every((n) => n.state === "success"))
    return [["running", "Releasing the results"], ""];
  return [["running", "Running"], ""];
}

function useNow(running: boolean): number {
  const [now, tick] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => tick(Date.now() / 1000), running ? 1000 : 60000);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}

const Summary = memo(function Summary({
  run,
  rows,
  complete,
  now,
}: {
  run: Progress;
  rows: Row[];
  complete: boolean;
  now: number;
}) {
  const listed = complete && run.state === "closed" && rows.length > 0; // then all that was is in the list below
  const total = listed ? rows.length : run.nodes.reduce((sum, n) => sum + n.total, 0);
  const done = listed
    ? rows.filter((r) => r.state === "done").length
    : Math.min(run.nodes.reduce((sum, n) => sum + n.done, 0), total);
  const failed = run.rules.reduce((sum, r) => sum + r.failed, 0);
  const running = run.rules.reduce((sum, r) => sum + r.running, 0);
  const started = run.rules.flatMap((r) => r.started_at ?? []);
  const ended = run.rules.flatMap((r) => r.ended_at ?? []);
  const begin = started.length ? Math.min(...started) : 0;
  const over = run.state === "closed" || (run.nodes.length > 0 && run.nodes.every((n) => n.state === "success"));
  const left = useMemo(
    () => (complete ? said(estimate(run, rows, Date.now() / 1000), run) : ""),
    [run, rows, complete],
  );
  const parts = [
    total ? `${number(done)} of ${number(total)} jobs` : "",
    failed ? `${number(failed)} failed` : "",
    run.nodes.length ? plural(run.nodes.length, "node") : "",
    begin ? span((over ? Math.max(...ended, begin) : now) - begin) : "",
    left,
  ].filter(Boolean);
  const share = (count: number) => ({ width: `${(100 * Math.min(count, total)) / (total || 1)}%` });
  return (
    <div id="summary">
      {total > 0 && (
        <div
          className="bar"
          role="progressbar"
          aria-valuemin={0}
          aria-valuemax={total}
          aria-valuenow={Math.min(done, total)}
          aria-label={`${number(done)} of ${number(total)} jobs done`}
        >
          <span className="done" style={share(done)} />
          <span className="running" style={share(running)} />
          <span className="failed" style={share(failed)} />
        </div>
      )}
      <p id="counts">{parts.join(" · ")}</p>
    </div>
  );
});

export function JobsPage() {
  const view = useFeed();
  const run = view.progress;
  const standing = useStanding();
  const [wanted, want] = useState<Wanted>(NOTHING);
  const [order, setOrder] = useState<Order>({ by: "state", down: false });
  const [active, setActive] = useState("");
  const [open, setOpen] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  const running = run?.state === "open";
  const now = useNow(running);
  const rows = useDeferredValue(view.rows);
  // Ordered first, as jobs change less often than what is searched for.
  const inOrder = useMemo(() => ordered(view.rows, order, Date.now() / 1000), [view.rows, order]);
  const shown = useMemo(() => matching(inOrder, wanted), [inOrder, wanted]);
  const counts = useMemo(() => {
    const sums = new Map<JobState, number>();
    for (const r of view.rows) sums.set(r.state, (sums.get(r.state) ?? 0) + 1);
    return sums;
  }, [view.rows]);
  const rules = useMemo(() => [...new Set(view.rows.map((r) => r.rule))].sort(), [view.rows]);
  const opened = open ? view.rows.find((r) => r.id === active) : undefined;

  const grid = () => document.getElementById("jobs-grid");
  const show = useCallback((node: string, rule: string) => {
    want({ ...NOTHING, node, rule });
    grid()?.scrollIntoView({ block: "nearest" });
    grid()?.focus({ preventScroll: true });
  }, []);
  const openJob = useCallback((id: string) => {
    setActive(id);
    setOpen(true);
  }, []);
  const showFailed = useCallback(
    (job: Row) => {
      want({ ...NOTHING, node: job.node, rule: job.rule, states: new Set(["failed"]) });
      openJob(job.id);
    },
    [openJob],
  );
  const close = useCallback(() => {
    setOpen(false);
    grid()?.focus();
  }, []);
  useEffect(() => {
    const slash = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      search.current?.focus();
      event.preventDefault();
    };
    document.addEventListener("keydown", slash);
    return () => document.removeEventListener("keydown", slash);
  }, []);

  if (!run) {
    return (
      <main>
        <h1 role="status">{view.problem ? "" : <State kind="waiting" word="Reading the run …" />}</h1>
        {view.problem && <p className="note">{view.problem}</p>}
      </main>
    );
  }
  const [[kind, word], why] = headline(run);
  const bad = endedBadly(standing) || run.failing !== null || ["failed", "cancelled"].includes(run.outcome);
  const toggle = (state: JobState) => {
    const states = new Set(wanted.states);
    if (!states.delete(state)) states.add(state);
    want({ ...wanted, states });
  };
  const filtered = wanted.words || wanted.states.size || wanted.node || wanted.rule;
  return (
    <main className={`${opened ? "with-details" : ""} ${bad ? "bad" : ""}`.trim() || undefined}>
      <h1 role="status">
        <State kind={kind} word={word + (run.attempt > 1 ? ` (attempt ${run.attempt})` : "")} />
      </h1>
      <Why standing={standing} stop />
      <Summary run={run} rows={rows} complete={view.complete} now={now} />
      {(view.problem || why) && (
        <p className="note" role="status">
          {view.problem || why}
        </p>
      )}
      <Failures failing={run.failing} rows={rows} logs={view.logs} onShow={showFailed} />
      {run.nodes.length > 0 && (
        <>
          <Timeline nodes={run.nodes} rows={rows} now={running ? Math.floor(now / 5) * 5 : now} />
          <Rules run={run} now={running ? now : 0} onShow={show} />
          <section aria-labelledby="jobs">
            <h2 id="jobs">Jobs</h2>
            <div className="filters" role="search" aria-label="Filter the jobs">
              <input
                ref={search}
                type="search"
                placeholder="Search rule, wildcards, task …"
                aria-label="Search jobs"
                aria-keyshortcuts="/"
                maxLength={200}
                value={wanted.words}
                onChange={(e) => want({ ...wanted, words: e.target.value })}
              />
              <select aria-label="Node" value={wanted.node} onChange={(e) => want({ ...wanted, node: e.target.value })}>
                <option value="">All nodes</option>
                {run.nodes.map((n) => (
                  <option key={n.node}>{n.node}</option>
                ))}
              </select>
              <select aria-label="Rule" value={wanted.rule} onChange={(e) => want({ ...wanted, rule: e.target.value })}>
                <option value="">All rules</option>
                {rules.map((r) => (
                  <option key={r}>{r}</option>
                ))}
              </select>
              <span className="chips" role="group" aria-label="States">
                {STATES.filter((s) => counts.get(s) || wanted.states.has(s)).map((s) => (
                  <button
                    key={s}
                    type="button"
                    className="chip"
                    aria-pressed={wanted.states.has(s)}
                    onClick={() => toggle(s)}
                  >
                    <State kind={JOB[s][0]} word={JOB[s][1]} /> <b>{number(counts.get(s) ?? 0)}</b>
                  </button>
                ))}
              </span>
              {filtered && (
                <button type="button" className="plain" onClick={() => want(NOTHING)}>
                  Clear
                </button>
              )}
              <output aria-live="polite">
                {filtered
                  ? `${number(shown.length)} of ${plural(view.rows.length, "job")}`
                  : plural(view.rows.length, "job")}
              </output>
            </div>
            <JobTable
              rows={shown}
              all={view.rows.length}
              order={order}
              onOrder={setOrder}
              active={active}
              onActive={setActive}
              onOpen={openJob}
              logs={view.logs}
              now={now}
            />
          </section>
        </>
      )}
      {opened && <Details row={opened} logs={view.logs} now={now} onClose={close} />}
    </main>
  );
}
