// Which jobs the table shows, and in which order: words in any order, states, node, rule; then by a column.
import { type JobState } from "../api";
import { type Row } from "./feed";

export interface Wanted {
  words: string;
  states: ReadonlySet<JobState>;
  node: string;
  rule: string;
}

export type Column = "took" | Exclude<keyof Row, "wildcards" | "id" | "text">;
export interface Order {
  by: Column;
  down: boolean;
}

export const NOTHING: Wanted = { words: "", states: new Set(), node: "", rule: "" };
const URGENCY: Record<JobState, number> = {
  failed: 0,
  running: 1,
  queued: 2,
  submitted: 3,
  planned: 4,
  cancelled: 5,
  done: 6,
};

export function took(row: Row, now: number): number | undefined {
  if (!row.started_at) return undefined;
  if (row.ended_at) return row.ended_at - row.started_at;
  return row.state === "running" ? now - row.started_at : undefined;
}

export function matching(rows: Row[], wanted: Wanted): Row[] {
  const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(
    (r) =>
      (!wanted.states.size || wanted.states.has(r.state)) &&
      (!wanted.node || r.node === wanted.node) &&
      (!wanted.rule || r.rule === wanted.rule) &&
      words.every((word) => r.text.includes(word)),
  );
}

export function ordered(rows: Row[], { by, down }: Order, now: number): Row[] {
  const value = (r: Row): number | string | undefined => {
    if (by === "state") return URGENCY[r.state];
    return by === "took" ? took(r, now) : r[by];
  };
  const way = down ? -1 : 1;
  const keyed = rows.map((row) => [value(row), row] as const);
  keyed.sort(([a, x], [b, y]) => {
    if (a === b) return (y.started_at ?? 0) - (x.started_at ?? 0); // what began last first
    if (a === undefined || b === undefined) return a === undefined ? 1 : -1; // what is unknown last, either way
    if (typeof a === "string" && typeof b === "string") return (a < b ? -1 : 1) * way;
    return (Number(a) - Number(b)) * way;
  });
  return keyed.map(([, row]) => row);
}
