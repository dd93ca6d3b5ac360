// How long the run may still take: from how long its own jobs took, with a range, and "at least" where rules have not
// shown yet how long they take.
import { type Progress, type RuleProgress } from "../api";
import { about } from "../words";
import { type Row } from "./feed";

export interface Estimate {
  low: number;
  high: number;
  /** Rules with work left of which no job has finished anywhere: how long they take nobody knows. */
  unknown: string[];
}

interface Took {
  low: number;
  high: number;
  samples: number;
}

function quartiles(values: number[]): Took {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  const wide = sorted.length < 5 ? 1.5 : 1; // few jobs say little
  return { low: at(0.25) / wide, high: at(0.75) * wide, samples: sorted.length };
}

function byRule(rows: Row[]): Map<string, Took> {
  const times = new Map<string, number[]>();
  for (const r of rows) {
    if (r.state !== "done" || !r.started_at || !r.ended_at) continue;
    const known = times.get(r.rule);
    if (known) known.push(r.ended_at - r.started_at);
    else times.set(r.rule, [r.ended_at - r.started_at]);
  }
  return new Map([...times].map(([rule, values]) => [rule, quartiles(values)]));
}

/** How many jobs ran side by side, on average over the time in which any ran. */
function together(rows: Row[], now: number): number {
  const spans = rows
    .filter((r) => r.started_at && (r.ended_at || r.state === "running"))
    .map((r) => [r.started_at!, r.ended_at ?? now] as const);
  spans.sort((a, b) => a[0] - b[0]);
  let busy = 0;
  let work = 0;
  let reached = -Infinity;
  for (const [from, to] of spans) {
    work += Math.max(0, to - from);
    if (to > reached) {
      busy += to - Math.max(from, reached);
      reached = to;
    }
  }
  return busy > 0 ? Math.max(1, work / busy) : 1;
}

/**
 * None where nothing is left or no job has finished. Nodes work side by side: the slowest one counts. Rules are taken
 * one after the other, as most follow each other.
 */
export function estimate(progress: Progress, rows: Row[], now: number): Estimate | null {
  if (progress.state !== "open" || progress.failing) return null;
  const everywhere = byRule(rows);
  if (!everywhere.size) return null;
  const unknown = new Set<string>();
  let low = 0;
  let high = 0;
  for (const node of progress.nodes) {
    if (["success", "failed", "cancelled"].includes(node.state)) continue;
    const mine = rows.filter((r) => r.node === node.node);
    const here = byRule(mine);
    const side = together(mine, now);
    let least = 0;
    let most = 0;
    for (const rule of progress.rules.filter((r: RuleProgress) => r.node === node.node)) {
      const left = rule.total - rule.done - rule.failed;
      if (left <= 0) continue;
      const local = here.get(rule.rule);
      const took = local && local.samples >= 3 ? local : (everywhere.get(rule.rule) ?? local);
      if (!took) {
        unknown.add(rule.rule);
        continue;
      }
      const gone = mine
        .filter((r) => r.rule === rule.rule && r.state === "running" && r.started_at)
        .reduce((sum, r) => sum + (now - r.started_at!), 0);
      least += Math.max((left * took.low - gone) / side, 0);
      most += Math.max((left * took.high - gone) / side, left > rule.running ? took.high : took.high / 4);
    }
    low = Math.max(low, least);
    high = Math.max(high, most);
  }
  return high > 0 || unknown.size ? { low, high, unknown: [...unknown] } : null;
}

/** The estimate as a sentence. */
export function said(found: Estimate | null, progress: Progress): string {
  if (progress.state !== "open" || progress.failing) return "";
  const left = progress.nodes.some((n) => !["success", "failed", "cancelled"].includes(n.state));
  if (!left) return "all nodes are done; their results are checked and released";
  if (!found) return "no estimate yet: no job has finished";
  if (found.unknown.length) {
    const rules = found.unknown.length === 1 ? "1 rule has" : `${found.unknown.length} rules have`;
    // A few seconds before jobs of minutes say nothing; a minute or more is a lower bound worth having.
    const least = found.low >= 60 ? `at least ${about(found.low)} left` : "no estimate yet";
    return `${least}; ${rules} not shown yet how long a job takes`;
  }
  const [low, high] = [about(found.low), about(found.high)];
  return low === high ? `about ${high} left` : `about ${low} to ${high} left`;
}
