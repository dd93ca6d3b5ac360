// The run's Results tab: the answer, what each node released and withheld and why, the proofs, and everything to take
// away.
import { type ReactNode, useEffect, useState } from "react";
import { address, read, Refused, waitsFor } from "../api";
import { endedBadly, useStanding, Why } from "../standing";
import { State } from "../State";
import { bytes, moment, number, people, plural } from "../words";
import { AnswerPages } from "./AnswerPages";
import { AnswerTable } from "./AnswerTable";
import { type ReleaseView, type ResultsView } from "./data";
import { Plot } from "./Plot";

function useResults(): { results: ResultsView | null; problem: string } {
  const [found, set] = useState<{ results: ResultsView | null; problem: string }>({ results: null, problem: "" });
  useEffect(() => {
    let stopped = false;
    let timer = 0;
    const poll = async () => {
      let pause = 5000;
      try {
        const results = await read<ResultsView>("data/results");
        if (stopped) return;
        set({ results, problem: "" });
        if (results.state === "closed") return; // a later attempt is another visit
      } catch (error) {
        if (stopped) return;
        set((old) => ({
          ...old,
          problem:
            error instanceof Refused
              ? error.message
              : "This page made a mistake while it read the results; trying again.",
        }));
        pause = 10000;
      }
      timer = window.setTimeout(() => void poll(), document.hidden ? 15000 : pause);
    };
    void poll();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, []);
  return found;
}

function Download({ name, title, size }: { name: string; title: string; size?: number }) {
  const href = name === "ro-crate.zip" ? address("crate") : address("file", `?name=${encodeURIComponent(name)}`);
  return (
    <a href={href} download className="download">
      <b>{title}</b>
      <span>
        {name}
        {size === undefined ? "" : `, ${bytes(size)}`}
      </span>
    </a>
  );
}

function Withheld({ release }: { release: ReleaseView }) {
  const reasons = Object.entries(release.withheld).filter(([, count]) => count > 0);
  if (release.sites_withheld === null) return <span className="soft">not told of so few {release.unit}s</span>;
  if (!reasons.length) return <>{release.sites_withheld ? plural(release.sites_withheld, release.unit) : "nothing"}</>;
  return (
    <ul>
      {reasons.map(([name, count]) => (
        <li key={name}>
          <b>about {plural(count, release.unit)}</b>: {release.reasons[name] ?? name}
        </li>
      ))}
    </ul>
  );
}

function Releases({ results }: { results: ResultsView }) {
  return (
    <section aria-labelledby="released">
      <h2 id="released">What left each node</h2>
      <div className="scroll">
        <table className="releases">
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">Release</th>
              <th scope="col" className="number">
                Released
              </th>
              <th scope="col">Withheld, and why</th>
              <th scope="col">Signature</th>
              <th scope="col">File</th>
            </tr>
          </thead>
          <tbody>
            {results.releases.map((r) => (
              <tr key={`${r.node} ${r.name}`}>
                <th scope="row">{r.node}</th>
                <td>
                  {r.title}
                  {r.cohort && <div className="soft">{people(r.cohort)}</div>}
                </td>
                <td className="number">{plural(r.sites_released, r.unit)}</td>
                <td className="wide">
                  <Withheld release={r} />
                </td>
                <td>
                  <State kind={r.verified ? "done" : "failed"} word={r.verified ? "verified" : "not proven"} />
                  {!r.verified && <div className="soft wide">{r.verdict}</div>}
                </td>
                <td>
                  {r.file ? (
                    <Download name={r.file} title="Download" size={r.bytes} />
                  ) : (
                    <span className="soft">not kept</span>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Facts({ results }: { results: ResultsView }) {
  const facts: [string, ReactNode][] = [
    [
      "Workflow",
      results.workflow && `${results.workflow.title} (${results.workflow.name} ${results.workflow.version})`,
    ],
    ["Digest", results.workflow && <code>{results.workflow.digest}</code>],
    ["Run", results.run && <code>{results.run}</code>],
    ["For", results.user],
    ["Started by", results.started_by],
    ["Admitted", results.opened_at && moment(results.opened_at)],
    ["Closed", results.closed_at && moment(results.closed_at)],
    ...results.nodes.map((n): [string, ReactNode] => [`Datasets at ${n.node}`, n.datasets.join(", ")]),
  ];
  return (
    <section aria-labelledby="provenance">
      <h2 id="provenance">Where it comes from</h2>
      <dl className="facts">
        {facts.map(([name, value]) =>
          value ? (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ) : null,
        )}
      </dl>
      {results.approvals.length > 0 && (
        <div className="scroll">
          <table>
            <caption>Access was approved</caption>
            <thead>
              <tr>
                <th scope="col">Dataset</th>
                <th scope="col">Node</th>
                <th scope="col">By</th>
                <th scope="col">On</th>
                <th scope="col">Until</th>
              </tr>
            </thead>
            <tbody>
              {results.approvals.map((a) => (
                <tr key={`${a.dataset} ${a.node}`}>
                  <th scope="row">{a.dataset}</th>
                  <td>{a.node}</td>
                  <td>{[a.by, a.source].filter(Boolean).join(", ")}</td>
                  <td>{a.asserted ? moment(a.asserted) : ""}</td>
                  <td>{a.ends_at ? moment(a.ends_at) : ""}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

type Headline = readonly ["waiting" | "running" | "done" | "failed" | "stopped", string, string];

/** Why there is nothing to show, or what is not as it should be. */
function headline(results: ResultsView): Headline {
  const proven = results.releases.every((r) => r.verified);
  if (results.answer && results.releases.length && proven)
    return ["done", "The answer is here", "Every node's signature was verified again just now."];
  if (results.releases.length && !proven)
    return [
      "failed",
      "Not everything is proven",
      "Do not use the files marked “not proven”; tell the operator of this Airflow.",
    ];
  if (results.releases.length) return ["done", "Released", ""];
  if (results.state === "not-admitted") {
    if (results.airflow === "failed" || results.airflow === "success")
      return ["failed", "No results", "The run was not admitted: nothing was started."];
    return [
      "waiting",
      "No results yet",
      results.waits_until ? waitsFor(results.waits_until) : "The run waits for its admission.",
    ];
  }
  if (results.state === "open")
    return [
      "running",
      "No results yet",
      "They appear here when every node has released its part. The tab Jobs shows how far it is.",
    ];
  return [
    "stopped",
    "No results",
    "The run ended before its nodes' releases were gathered. The tab Jobs says what failed.",
  ];
}

export function ResultsPage() {
  const { results, problem } = useResults();
  const standing = useStanding();
  if (!results) {
    return (
      <main>
        <h1 role="status">{problem ? "" : <State kind="waiting" word="Reading the results …" />}</h1>
        {problem && <p className="note">{problem}</p>}
      </main>
    );
  }
  const [told, word, note] = headline(results);
  const bad = endedBadly(standing) || ["failed", "cancelled"].includes(results.outcome);
  const kind = bad && told === "done" ? "stopped" : told;
  return (
    <main className={bad ? "bad" : undefined}>
      <h1 role="status">
        <State kind={kind} word={word + (results.attempt > 1 ? ` (attempt ${results.attempt})` : "")} />
      </h1>
      <Why standing={standing} />
      {note && <p className="lead">{note}</p>}
      {[problem, ...results.notes].filter(Boolean).map((n) => (
        <p className="note" key={n}>
          {n}
        </p>
      ))}
      {results.failing && (
        <section className="failure-box" role="alert">
          <p>
            <strong>Node {results.failing.node} failed:</strong> {results.failing.reason}
          </p>
        </section>
      )}
      {(results.files.length > 0 || results.crate) && (
        <nav className="downloads" aria-label="Downloads">
          {results.files.map((f) => (
            <Download key={f.name} name={f.name} title={f.title} size={f.bytes} />
          ))}
          {results.crate && <Download name="ro-crate.zip" title="Everything, as an RO-Crate" />}
        </nav>
      )}
      {results.answer && (
        <section aria-labelledby="answer">
          <h2 id="answer">The merged answer</h2>
          <p className="lead">
            {plural(results.answer.total, results.answer.unit)}:{" "}
            {number(results.answer.total - results.answer.withheld - (results.answer.missing ?? 0))}
            {" with exact numbers, "}
            {number(results.answer.withheld)} that at least one node does not tell exactly
            {results.answer.missing ? `, ${number(results.answer.missing)} where nobody was called` : ""}.
          </p>
          <Plot
            answer={results.answer}
            picture={results.files.some((f) => f.name === "answer.png") ? address("file", "?name=answer.png") : ""}
          />
          {results.answer.regions ? <AnswerPages answer={results.answer} /> : <AnswerTable answer={results.answer} />}
        </section>
      )}
      {results.releases.length > 0 && <Releases results={results} />}
      {results.state !== "not-admitted" && <Facts results={results} />}
    </main>
  );
}
