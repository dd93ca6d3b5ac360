// Everything that is known of one job.
import { type ReactNode, useEffect, useRef } from "react";
import { State } from "../State";
import { reason } from "./Failures";
import { PANEL } from "./facts";
import { JOB, type Row } from "./feed";
import { LogLink } from "./LogLink";

export function Details({
  row,
  logs,
  now,
  onClose,
}: {
  row: Row;
  logs: Record<string, string>;
  now: number;
  onClose: () => void;
}) {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => close.current?.focus(), [row.id]);
  const [kind, word] = JOB[row.state] ?? ["waiting", row.state];
  const wildcards = Object.entries(row.wildcards ?? {}).map(([name, value]): [string, ReactNode] => [
    `Wildcard ${name}`,
    value,
  ]);
  const facts: [string, ReactNode][] = [
    ["State", <State kind={kind} word={word} />],
    [row.state === "failed" || row.state === "cancelled" ? "Why" : "Earlier", reason(row)],
    ...PANEL.flatMap((fact): [string, ReactNode][] => [
      [fact.name, fact.show(row, now)],
      ...(fact.name === "Rule" ? wildcards : []),
    ]),
    ["Log", row.task && logs[row.node] ? <LogLink job={row} logs={logs} long /> : undefined],
  ];
  return (
    <aside
      className="details"
      aria-label={`Job of ${row.rule} at ${row.node}`}
      onKeyDown={(e) => e.key === "Escape" && onClose()}
    >
      <header>
        <h2>
          {row.rule} {row.label && <small>{row.label}</small>}
        </h2>
        <button type="button" className="plain" ref={close} onClick={onClose} aria-label="Close the job">
          ✕
        </button>
      </header>
      <dl>
        {facts.map(([name, value]) =>
          value === undefined || value === "" || value === 0 ? null : (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
        )}
      </dl>
      {row.task && (
        <p className="soft">What a job prints stays at its node; the node&rsquo;s policy says who may read it.</p>
      )}
    </aside>
  );
}
