// Written by packaging/ui_types.py from gdi/contracts: change it there.

export interface AnswerPage {
  columns: string[];
  rows: (string | number | null)[][];
  total: number;
  withheld: number;
  unit: string;
  missing: number | null;
  histogram: number[] | null;
  points: [string, number, number | null][] | null;
  regions: string[] | null;
}

export interface AnswerRows {
  rows: (string | number | null)[][];
  total: number;
  start: number;
}

export interface Approval {
  dataset: string;
  node: string;
  source: string;
  by: string;
  asserted: number | null;
  ends_at: number | null;
}

export interface CohortChoice {
  epochs: Record<string, number>;
  split: string | null;
  level: string | null;
  variables: string | null;
  table: string | null;
}

export interface Failing {
  node: string;
  reason: string;
  dataset: string | null;
}

export interface Job {
  wildcards?: Record<string, string>;
  task?: string;
  tries?: number;
  cpu_seconds?: number;
  memory_bytes?: number;
  message?: string;
  error_class?: string;
  exit_code?: number;
  line?: number;
  dataset?: string;
  node: string;
  job: string;
  rule: string;
  state: "planned" | "submitted" | "queued" | "running" | "done" | "failed" | "cancelled";
  submitted_at?: number;
  started_at?: number;
  ended_at?: number;
}

export interface JobPage {
  run: string;
  attempt: number;
  jobs?: Job[];
  next_after: number;
  more?: boolean;
}

export interface NodeDatasets {
  node: string;
  datasets: string[];
}

export interface NodeProgress {
  node: string;
  state: "waiting" | "starting" | "running" | "success" | "failed" | "cancelled";
  done: number;
  total: number;
  message: string;
  dataset: string | null;
}

export interface OrderStatus {
  run: string;
  node: string;
  kind: "analyse" | "round" | "release" | "close";
  attempt: number;
  state: "waiting" | "taken" | "running" | "succeeded" | "failed" | "refused" | "cancelled" | "expired";
  generation: number;
  cancelling: string;
  reason: string;
  detail: string;
  deadline: number;
  changed_at: number;
  released: Released[];
}

export interface Progress {
  run: string;
  attempt: number;
  state: "open" | "closed";
  outcome: "success" | "failed" | "cancelled" | "";
  failing: Failing | null;
  nodes: NodeProgress[];
  rules: RuleProgress[];
  orders: OrderStatus[];
}

export interface ReleaseView {
  node: string;
  name: string;
  title: string;
  kind: string;
  unit: string;
  reasons: Record<string, string>;
  bytes: number;
  sha256: string;
  sites_released: number;
  sites_withheld: number | null;
  withheld: Record<string, number>;
  attempt: number;
  verified: boolean;
  verdict: string;
  file: string | null;
  cohort: CohortChoice | null;
}

export interface Released {
  name: string;
  kind: string | null;
  sha256: string;
  bytes: number;
  url: string;
  signature: string;
  sites_released: number;
  sites_withheld: number | null;
  withheld: Record<string, number>;
  cohort: CohortChoice | null;
  overlaps: SharedPeople[];
}

export interface ResultsFile {
  name: string;
  title: string;
  bytes: number;
}

export interface ResultsView {
  state: "open" | "closed" | "not-admitted";
  outcome: string;
  attempt: number;
  airflow: string | null;
  waits_until: number | null;
  run: string;
  workflow: WorkflowView | null;
  user: string;
  started_by: string | null;
  opened_at: number | null;
  closed_at: number | null;
  failing: Failing | null;
  nodes: NodeDatasets[];
  approvals: Approval[];
  releases: ReleaseView[];
  answer: AnswerPage | null;
  files: ResultsFile[];
  crate: boolean;
  notes: string[];
}

export interface RuleProgress {
  node: string;
  rule: string;
  total: number;
  done: number;
  running: number;
  failed: number;
  started_at: number | null;
  ended_at: number | null;
}

export interface SharedPeople {
  dataset: string;
  other: string;
  node: string | null;
}

export interface Standing {
  known: boolean;
  standing:
    | "starting"
    | "queued"
    | "admitting"
    | "running"
    | "waiting"
    | "stopping"
    | "succeeded"
    | "empty"
    | "failed"
    | "refused"
    | "stopped";
  sentence: string;
  next_step: string;
  waiting_for: string[];
  fault: "" | "workflow" | "access" | "system";
  attempt: number;
  admitted_at: number | null;
  ended_at: number | null;
  nodes: NodeProgress[];
}

export interface WorkflowView {
  name: string;
  title: string;
  version: string;
  digest: string;
}
