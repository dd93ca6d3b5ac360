// Written by packaging/ui_types.py from gdi/contracts: change it there.

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
