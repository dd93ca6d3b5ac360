// What is shown of a job, declared once: the table's columns and the facts of one job's panel.
import { type ReactNode } from "react";
import { State } from "../State";
import { bytes, clock, moment, span } from "../words";
import { JOB, type Row } from "./feed";
import { type Column, took } from "./select";

export interface Fact {
  /** In the panel; facts without one are in the table only. */
  name?: string;
  show: (row: Row, now: number) => ReactNode;
  /** In the table: what it is ordered by, its heading, its width, and whether it is a number. */
  column?: { by: Column; title: string; width: string; number?: boolean };
  /** The table's own, shorter form, and what the pointer shows over it. */
  cell?: (row: Row, now: number) => ReactNode;
  hint?: (row: Row) => string | undefined;
}

const known = <T, R>(value: T | undefined, show: (value: T) => R) => (value === undefined ? undefined : show(value));

function state(row: Row): ReactNode {
  const [kind, word] = JOB[row.state] ?? ["waiting", row.state];
  return <State kind={kind} word={word} />;
}

export const FACTS: readonly Fact[] = [
  { column: { by: "state", title: "State", width: "7.2rem" }, show: state },
  { name: "Node", column: { by: "node", title: "Node", width: "minmax(6rem, 1fr)" }, show: (r) => r.node },
  {
    name: "Rule",
    column: { by: "rule", title: "Rule", width: "minmax(8rem, 2fr)" },
    show: (r) => r.rule,
    hint: (r) => r.rule,
  },
  {
    column: { by: "label", title: "Wildcards", width: "minmax(8rem, 3fr)" },
    show: (r) => r.label,
    hint: (r) => r.label,
  },
  { name: "Submitted", show: (r) => r.submitted_at && moment(r.submitted_at) },
  {
    name: "Began",
    column: { by: "started_at", title: "Began", width: "6rem", number: true },
    show: (r) => r.started_at && moment(r.started_at),
    cell: (r) => r.started_at && clock(r.started_at),
    hint: (r) => (r.started_at ? moment(r.started_at) : undefined),
  },
  { name: "Ended", show: (r) => r.ended_at && moment(r.ended_at) },
  {
    name: "Took",
    column: { by: "took", title: "Took", width: "6.5rem", number: true },
    show: (r, now) => known(took(r, now), span),
  },
  { name: "Tries", column: { by: "tries", title: "Tries", width: "3.5rem", number: true }, show: (r) => r.tries },
  {
    name: "CPU time",
    column: { by: "cpu_seconds", title: "CPU", width: "5rem", number: true },
    show: (r) => known(r.cpu_seconds, span),
  },
  {
    name: "Peak memory",
    column: { by: "memory_bytes", title: "Memory", width: "5rem", number: true },
    show: (r) => known(r.memory_bytes, bytes),
  },
  { name: "Task", show: (r) => r.task && <code>{r.task}</code> },
];

export type TableFact = Fact & Required<Pick<Fact, "column">>;
export const TABLE: readonly TableFact[] = FACTS.filter((f): f is TableFact => f.column !== undefined);
export type PanelFact = Fact & Required<Pick<Fact, "name">>;
export const PANEL: readonly PanelFact[] = FACTS.filter((f): f is PanelFact => f.name !== undefined);
const LOG_WIDTH = "2.5rem";
export const WIDTHS = [...TABLE.map((f) => f.column.width), LOG_WIDTH].join(" ");
