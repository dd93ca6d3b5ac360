// What the pages read from Airflow's api-server. All texts in it were chosen by workflows and nodes: React shows them as text, nothing else may be made of them.

export type JobState = "planned" | "submitted" | "queued" | "running" | "done" | "failed" | "cancelled";

export interface Job {
  node: string;
  job: string;
  rule: string;
  state: JobState;
  wildcards?: Record<string, string>;
  task?: string;
  tries?: number;
  submitted_at?: number;
  started_at?: number;
  ended_at?: number;
  cpu_seconds?: number;
  memory_bytes?: number;
  exit_code?: number;
  error_class?: string;
  line?: number;
  dataset?: string;
  message?: string;
}

export interface NodeProgress {
  node: string;
  state: string;
  done: number;
  total: number;
  message: string;
  dataset: string | null;
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

export interface Failing {
  node: string;
  reason: string;
  dataset: string | null;
}

export interface Progress {
  state: "open" | "closed" | "not-admitted";
  outcome: "" | "success" | "failed" | "cancelled";
  attempt: number;
  airflow?: string | null;
  failing: Failing | null;
  nodes: NodeProgress[];
  rules: RuleProgress[];
}

export interface JobsAnswer {
  progress: Progress;
  /** What is as always is left out. */
  page: { jobs?: Job[]; next_after: number; more?: boolean };
  logs: Record<string, string>;
}

/** Where this page stands: `/gdi/<page>/<dag>/<run>`, maybe under a prefix of Airflow's. */
const [, prefix, page, run] = /^(.*\/gdi)\/([a-z]+)\/(.+)$/.exec(location.pathname) ?? [];

export function address(what: string, query = ""): string {
  return `${prefix}/${what}/${run}${query}`;
}

export const PAGE = page ?? "";

export class Refused extends Error {}

/** The answer, or Refused with the sentence that the server said. */
export async function read<T>(what: string, query = ""): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(address(what, query), { credentials: "same-origin", headers: { Accept: "application/json" } });
  } catch {
    throw new Refused("Airflow does not answer; trying again.");
  }
  const body: unknown = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body as T;
  const detail = (body as { detail?: unknown } | null)?.detail;
  if (answer.status === 401) throw new Refused("You are not signed in to Airflow any more. Sign in and open the run again.");
  throw new Refused(typeof detail === "string" ? detail : `Airflow answered ${answer.status}.`);
}
