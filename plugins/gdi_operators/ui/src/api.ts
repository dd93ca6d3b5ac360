// What the pages read from Airflow's api-server. All texts in it were chosen by workflows and nodes: React shows them
// as text, nothing else may be made of them.
import type { Job, JobPage, Progress as BrokerProgress } from "./contract";

export type { Failing, Job, NodeProgress, RuleProgress } from "./contract";
export type JobState = Job["state"];

/** A run that the broker does not know has no id there; `airflow` is then what Airflow says of it, `waits_until`
 * (epoch) a logical date in the future, before which Airflow starts none of its tasks. */
export type Progress = Omit<BrokerProgress, "run" | "state"> & {
  state: BrokerProgress["state"] | "not-admitted";
  airflow?: string | null;
  waits_until?: number;
};

export function waitsFor(until: number): string {
  const date = new Date(until * 1000).toISOString().slice(0, 16).replace("T", " ");
  return (
    `Its logical date is ${date} UTC: Airflow starts none of its tasks before.` +
    " To start now, start it without a logical date."
  );
}

export interface JobsAnswer {
  progress: Progress;
  /** What is as always is left out. */
  page: Pick<JobPage, "jobs" | "next_after" | "more">;
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
  if (answer.status === 401)
    throw new Refused("You are not signed in to Airflow any more. Sign in and open the run again.");
  throw new Refused(typeof detail === "string" ? detail : `Airflow answered ${answer.status}.`);
}

/** Marks the run as failed, as Airflow's own button does: what works is killed, its end is told to every node. */
export async function stopRun(): Promise<void> {
  const [dag, ...rest] = (run ?? "").split("/");
  const root = (prefix ?? "").replace(/\/gdi$/, "");
  const name = encodeURIComponent(decodeURIComponent(rest.join("/")));
  const answer = await fetch(`${root}/api/v2/dags/${dag}/dagRuns/${name}`, {
    method: "PATCH",
    credentials: "same-origin",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify({ state: "failed", note: "gdi: stopped in Airflow" }),
  });
  if (answer.status === 403) throw new Refused("You may not stop this run.");
  if (!answer.ok) throw new Refused(`Airflow answered ${answer.status}: the run was not stopped.`);
}
