// Nodes, and under each its rules in the order in which they were planned. A rule is a button that shows its jobs.
import { memo, useState } from "react";
import { type NodeProgress, type Progress, type RuleProgress } from "../api";
import { State } from "../State";
import { moment, number, span, type Said } from "../words";

const NODE: Record<string, Said> = {
  waiting: ["waiting", "waiting"],
  starting: ["running", "starting"],
  running: ["running", "running"],
  success: ["done", "done"],
  failed: ["failed", "failed"],
  cancelled: ["stopped", "stopped"],
};
const ENDED = ["success", "failed", "cancelled"];

function ruleState(rule: RuleProgress, over: boolean): Said {
  if (rule.failed) return ["failed", "failed"];
  if (rule.total && rule.done >= rule.total) return ["done", "done"];
  if (over) return ["stopped", rule.done || rule.started_at ? "stopped" : "not run"];
  return rule.running ? ["running", "running"] : ["waiting", "waiting"];
}

function Jobs({
  of,
  label,
  kind,
}: {
  of: { done: number; total: number; failed?: number };
  label: string;
  kind: string;
}) {
  return (
    <td className="jobs">
      <progress
        className={kind}
        max={of.total || 1}
        value={Math.min(of.done, of.total || 1)}
        aria-label={`${label}: ${of.done} of ${of.total} jobs done`}
      />
      {of.total ? `${number(of.done)} of ${number(of.total)}${of.failed ? `, ${number(of.failed)} failed` : ""}` : ""}
    </td>
  );
}

function Node(props: {
  node: NodeProgress;
  rules: RuleProgress[];
  run: Progress;
  begin: number;
  now: number;
  onShow: (node: string, rule: string) => void;
}) {
  const { node, rules, run, begin, now } = props;
  const [folded, fold] = useState(rules.length > 12);
  const over = run.state === "closed" || ENDED.includes(node.state);
  const started = rules.flatMap((r) => r.started_at ?? []);
  const ended = rules.flatMap((r) => r.ended_at ?? []);
  const took = (from: number | null, to: number | null) =>
    from ? span((to ?? (run.state === "closed" ? from : now)) - from) : "";
  const first = started.length ? Math.min(...started) : null;
  const [kind, word] = NODE[node.state] ?? ["waiting", node.state];
  return (
    <tbody>
      <tr className="node">
        <th scope="rowgroup">
          <button type="button" className="fold" aria-expanded={!folded} onClick={() => fold(!folded)}>
            {node.node}
          </button>
        </th>
        <td>
          <State kind={kind} word={word} />
        </td>
        <Jobs of={node} label={node.node} kind={kind} />
        <td className="number">{first ? `+ ${span(first - begin)}` : ""}</td>
        <td className="number">{took(first, over ? Math.max(...ended, ...started) : null)}</td>
      </tr>
      {node.message && (
        <tr className="said">
          <td colSpan={5}>{node.message}</td>
        </tr>
      )}
      {!folded &&
        rules.map((rule) => {
          const [of, name] = ruleState(rule, over);
          return (
            <tr className="rule" key={rule.rule}>
              <th scope="row">
                <button
                  type="button"
                  className="link"
                  title="Show its jobs"
                  onClick={() => props.onShow(node.node, rule.rule)}
                >
                  {rule.rule}
                </button>
              </th>
              <td>
                <State kind={of} word={name} />
              </td>
              <Jobs of={rule} label={rule.rule} kind={of} />
              <td className="number" title={rule.started_at ? moment(rule.started_at) : undefined}>
                {rule.started_at ? `+ ${span(rule.started_at - begin)}` : ""}
              </td>
              <td className="number">{over && !rule.ended_at ? "" : took(rule.started_at, rule.ended_at)}</td>
            </tr>
          );
        })}
    </tbody>
  );
}

export const Rules = memo(function Rules(props: {
  run: Progress;
  now: number;
  onShow: (node: string, rule: string) => void;
}) {
  const { run } = props;
  const started = run.rules.flatMap((r) => r.started_at ?? []);
  const begin = started.length ? Math.min(...started) : 0;
  return (
    <section aria-labelledby="rules">
      <h2 id="rules">Rules by node</h2>
      <div className="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Node, rule</th>
              <th scope="col">State</th>
              <th scope="col">Jobs</th>
              <th scope="col" className="number">
                Began
              </th>
              <th scope="col" className="number">
                Took
              </th>
            </tr>
          </thead>
          {run.nodes.map((node) => (
            <Node
              key={node.node}
              node={node}
              rules={run.rules.filter((r) => r.node === node.node)}
              run={run}
              begin={begin}
              now={props.now}
              onShow={props.onShow}
            />
          ))}
        </table>
      </div>
    </section>
  );
});
