// What states, times and sizes are called. A state is always a word and a sign, never a colour alone.
import { type CohortChoice } from "./contract";

export type Kind = "waiting" | "running" | "done" | "failed" | "stopped";
export type Said = readonly [Kind, string];

export const SIGNS: Record<Kind, string> = { waiting: "○", running: "●", done: "✓", failed: "✕", stopped: "■" };

export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A length of time as one says it: no seconds in hours. */
export function about(seconds: number): string {
  if (seconds < 90) return `${Math.max(5, Math.round(seconds / 5) * 5)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * 86400) return `${Math.round(seconds / 360) / 10} h`;
  return `${Math.round(seconds / 8640) / 10} d`;
}

export function bytes(size: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = size;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

// Made once: making one costs more than a whole row of the table.
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function moment(seconds: number): string {
  return MOMENT.format(seconds * 1000);
}

export function clock(seconds: number): string {
  return CLOCK.format(seconds * 1000);
}

export function number(value: number): string {
  return value.toLocaleString("en");
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}

// Whose numbers, as the node says.
export function people(cohort: CohortChoice): string {
  const complete = cohort.variables ?? cohort.table;
  const who = cohort.level ? `${cohort.split} = ${cohort.level}` : complete ? `complete for ${complete}` : "everybody";
  const epochs = [...new Set(Object.values(cohort.epochs))].map((n) => `epoch ${n}`);
  return [who, ...epochs].join(", ");
}
