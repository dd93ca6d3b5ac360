// The way to a job's log, at its node: who may read it is the node's policy, not Airflow's.
import { openOutside } from "../dress";
import { type Job } from "../api";

export function LogLink({ job, logs, long = false }: { job: Job; logs: Record<string, string>; long?: boolean }) {
  const gateway = logs[job.node];
  if (!gateway || !job.task || !/^https?:\/\//.test(gateway)) return null;
  const href = `${gateway.replace(/\/+$/, "")}/logs/${encodeURIComponent(job.task)}`;
  return (
    <a
      href={href}
      target="_blank"
      rel="noopener noreferrer"
      onClick={openOutside}
      title="The node decides who may read it"
      aria-label={`Log of ${job.rule} at ${job.node}`}
    >
      {long ? `Log at ${job.node}` : "Log"}
    </a>
  );
}
