// What the Results page is told.
export interface Released {
  node: string;
  name: string;
  title: string;
  bytes: number;
  sha256: string;
  sites_released: number;
  sites_withheld: number;
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
  withheld: number;
  histogram: number[];
  /** Chromosome, position, frequency; at most a few thousand of them, evenly taken. */
  points: [string, number, number | null][];
}

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

/** Why a node withholds, in words; unknown reasons are shown as the node names them. */
export const WITHHELD: Record<string, string> = {
  "small-count": "a count was below the node's floor: so few people could be recognised",
  ledger: "with what left this node before, the numbers would give few people away",
};
