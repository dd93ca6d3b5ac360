// What the Results page is told.
export interface Released {
  node: string;
  name: string;
  title: string;
  /** What leaves whole or not at all, in the singular: a site, a table. */
  unit: string;
  /** Why a unit is withheld, in words, by the names in `withheld`. */
  reasons: Record<string, string>;
  bytes: number;
  sha256: string;
  sites_released: number;
  /** Rounded; null of few units, where the node does not tell it. */
  sites_withheld: number | null;
  withheld: Record<string, number>;
  attempt: number;
  verified: boolean;
  verdict: string;
  file: string | null;
}

export type Cell = string | number | null;

export interface Answer {
  columns: string[];
  rows: Cell[][];
  total: number;
  /** Rows that a node does not tell exactly. */
  withheld: number;
  /** Rows where nobody was called, of kinds that know it. */
  missing?: number;
  /** A row, in the singular. */
  unit: string;
  /** Of kinds that are drawn here; the others show their picture. */
  histogram?: number[];
  /** Chromosome, position, frequency; at most a few thousand of them, evenly taken. */
  points?: [string, number, number | null][];
}

/** An answer of a kind that is drawn here. */
export type Drawn = Answer & Required<Pick<Answer, "histogram" | "points">>;

export interface Approval {
  dataset: string;
  node: string;
  source: string;
  by: string;
  asserted: number | null;
  ends_at: number | null;
}

export interface Results {
  state: "open" | "closed" | "not-admitted";
  outcome: string;
  attempt: number;
  airflow: string | null;
  waits_until?: number;
  run: string;
  workflow: { name: string; title: string; version: string; digest: string } | null;
  user: string;
  started_by: string | null;
  opened_at: number | null;
  closed_at: number | null;
  failing: { node: string; reason: string; dataset: string | null } | null;
  nodes: { node: string; datasets: string[] }[];
  approvals: Approval[];
  releases: Released[];
  answer: Answer | null;
  files: { name: string; title: string; bytes: number }[];
  crate: boolean;
  notes: string[];
}
