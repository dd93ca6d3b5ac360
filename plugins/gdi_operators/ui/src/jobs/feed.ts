// Asks for what is new, keeps the last word about each job, and tells React when something changed.
import { useSyncExternalStore } from "react";
import { type Job, type JobsAnswer, type JobState, type Progress, read, Refused } from "../api";
import { type Said } from "../words";

/** A job with what the table needs of it ready: `text` is what a search looks in, in lower case. */
export interface Row extends Job {
  id: string;
  label: string;
  text: string;
}

export interface View {
  version: number;
  progress: Progress | null;
  rows: Row[];
  logs: Record<string, string>;
  /** All pages of a first read have come. */
  complete: boolean;
  problem: string;
  readAt: number;
}

export const JOB: Record<JobState, Said> = {
  planned: ["waiting", "planned"],
  submitted: ["waiting", "submitted"],
  queued: ["waiting", "queued"],
  running: ["running", "running"],
  done: ["done", "done"],
  failed: ["failed", "failed"],
  cancelled: ["stopped", "cancelled"],
};

const MAX_ROWS = 200_000;

function row(job: Job, id: string): Row {
  const label = Object.entries(job.wildcards ?? {})
    .map(([k, v]) => `${k}=${v}`)
    .join(", ");
  const text = [job.node, job.rule, label, job.state, job.task, job.message, job.error_class, job.dataset]
    .filter(Boolean)
    .join("\n")
    .toLowerCase();
  return { ...job, id, label, text };
}

class Feed {
  private view: View = { version: 0, progress: null, rows: [], logs: {}, complete: false, problem: "", readAt: 0 };
  private places = new Map<string, number>();
  private listeners = new Set<() => void>();
  private attempt = 0;
  private after = 0;
  private started = false;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (!this.started) {
      this.started = true;
      void this.poll();
    }
    return () => this.listeners.delete(listener);
  };

  current = (): View => this.view;

  private set(changed: Partial<View>): void {
    this.view = { ...this.view, ...changed, version: this.view.version + 1 };
    for (const listener of this.listeners) listener();
  }

  /** One read, and the next one planned: at once where there is more, rarely where nobody looks or the run is over. */
  private async poll(): Promise<void> {
    let pause = 2500;
    try {
      const answer = await read<JobsAnswer>("data/jobs", `?after=${this.after}`);
      this.take(answer);
      pause = answer.page.more ? 0 : answer.progress.state === "closed" ? 15000 : pause;
    } catch (error) {
      this.set({
        problem:
          error instanceof Refused ? error.message : "This page made a mistake while it read the run; trying again.",
      });
      pause = 10000;
    }
    setTimeout(() => void this.poll(), document.hidden ? Math.max(pause, 10000) : pause);
  }

  private take(answer: JobsAnswer): void {
    if (answer.progress.attempt !== this.attempt) {
      const behind = this.attempt !== 0 && this.after !== 0;
      this.attempt = answer.progress.attempt;
      this.places.clear();
      this.view = { ...this.view, rows: [], complete: false };
      if (behind) {
        this.after = 0; // a later attempt plans anew: so does this page
        this.set({ progress: answer.progress, problem: "" });
        return;
      }
    }
    const { jobs = [], next_after, more = false } = answer.page;
    const rows = jobs.length ? this.view.rows.slice() : this.view.rows;
    for (const job of jobs) {
      const id = `${job.node}\n${job.job}`;
      const place = this.places.get(id);
      if (place !== undefined) rows[place] = row(job, id);
      else if (rows.length < MAX_ROWS) this.places.set(id, rows.push(row(job, id)) - 1);
    }
    this.after = next_after;
    const complete = this.view.complete || !more;
    this.set({
      progress: answer.progress,
      rows,
      logs: { ...this.view.logs, ...answer.logs },
      complete,
      problem: "",
      readAt: Date.now() / 1000,
    });
  }
}

const feed = new Feed();

export function useFeed(): View {
  return useSyncExternalStore(feed.subscribe, feed.current);
}
