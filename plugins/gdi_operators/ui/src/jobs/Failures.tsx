// What failed and why, on top of everything: the reason of the run, then failed jobs, the same ones together.
import { memo, useMemo } from "react";
import { type Failing } from "../api";
import { plural } from "../words";
import { type Row } from "./feed";
import { LogLink } from "./LogLink";

const SHOWN = 8;

/** Why a job failed, in one line: the node's sentence, and what is known besides. */
export function reason(job: Row): string {
  const parts = [
    job.exit_code === undefined ? "" : `exit code ${job.exit_code}`,
    job.error_class ?? "",
    job.line === undefined ? "" : `line ${job.line}`,
    job.dataset ? `dataset ${job.dataset}` : "",
  ].filter(Boolean);
  return [parts.join(", "), job.message ?? ""].filter(Boolean).join(": ");
}

interface Group {
  first: Row;
  count: number;
}

export const Failures = memo(function Failures(props: {
  failing: Failing | null;
  rows: Row[];
  logs: Record<string, string>;
  onShow: (job: Row) => void;
}) {
  const groups = useMemo(() => {
    const found = new Map<string, Group>();
    for (const r of props.rows) {
      if (r.state !== "failed") continue;
      const key = [r.node, r.rule, r.error_class, r.exit_code].join("\n");
      const group = found.get(key);
      if (group) group.count += 1;
      else found.set(key, { first: r, count: 1 });
    }
    return [...found.values()].sort((a, b) => b.count - a.count);
  }, [props.rows]);
  if (!props.failing && !groups.length) return null;
  return (
    <section id="failure" className="failure-box" role="alert" aria-label="What failed">
      {props.failing && (
        <p>
          <strong>Node {props.failing.node} failed:</strong> {props.failing.reason}
          {props.failing.dataset && <span className="more">Dataset {props.failing.dataset}</span>}
        </p>
      )}
      {groups.length > 0 && (
        <ul>
          {groups.slice(0, SHOWN).map(({ first, count }) => (
            <li key={first.id}>
              <button type="button" className="link" onClick={() => props.onShow(first)}>
                {first.rule}
                {count === 1 && first.label ? ` (${first.label})` : ""}
              </button>{" "}
              at {first.node}
              {count > 1 ? `, ${plural(count, "job")}` : ""}
              {reason(first) && `${count > 1 ? "; one of them" : ""}: ${reason(first)}`}{" "}
              <LogLink job={first} logs={props.logs} />
            </li>
          ))}
          {groups.length > SHOWN && (
            <li>and {plural(groups.length - SHOWN, "other kind")} of failure: see the state “failed” in the table</li>
          )}
        </ul>
      )}
    </section>
  );
});
