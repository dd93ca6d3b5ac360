// How many jobs ran at each node, over the run's time, and when jobs failed. One small drawing a node, the same time
// under all of them.
import { memo, useMemo } from "react";
import { type NodeProgress } from "../api";
import { clock, plural, span } from "../words";
import { type Row } from "./feed";

const WIDTH = 960;
const HEIGHT = 44;
const STEPS = 320;

interface Lane {
  node: string;
  area: string;
  peak: number;
  failures: number[];
}

/** Running jobs in each step of time (averages), from starts and ends: one pass over the jobs whatever their number. */
function lanes(nodes: NodeProgress[], rows: Row[], begin: number, end: number): Lane[] {
  const step = (end - begin) / STEPS;
  const place = (time: number) => Math.min(Math.max((time - begin) / step, 0), STEPS);
  const running = new Map(nodes.map((n) => [n.node, new Float64Array(STEPS + 2)]));
  const failures = new Map<string, Set<number>>(nodes.map((n) => [n.node, new Set()]));
  for (const r of rows) {
    const change = running.get(r.node);
    if (!change || !r.started_at) continue;
    const from = place(r.started_at);
    const to = Math.max(place(r.ended_at ?? (r.state === "running" ? end : r.started_at)), from + 0.05);
    // the part of the first and the last step in which it ran, and all of those between
    const [first, last] = [Math.floor(from), Math.floor(Math.min(to, STEPS - 1e-9))];
    for (const [at, share] of first === last
      ? [[first, to - from] as const]
      : [[first, first + 1 - from] as const, [last, to - last] as const]) {
      change[at]! += share;
      change[at + 1]! -= share;
    }
    if (last > first + 1) {
      change[first + 1]! += 1;
      change[last]! -= 1;
    }
    if (r.state === "failed" && r.ended_at) failures.get(r.node)!.add(Math.round((place(r.ended_at) * WIDTH) / STEPS));
  }
  return nodes.map(({ node }) => {
    const change = running.get(node)!;
    const values: number[] = [];
    let sum = 0;
    for (let i = 0; i < STEPS; i += 1) values.push(Math.max(0, (sum += change[i]!)));
    const peak = Math.max(...values, 1);
    const points = values.map(
      (v, i) => `${((i * WIDTH) / STEPS).toFixed(1)},${(HEIGHT - (v / peak) * (HEIGHT - 4)).toFixed(1)}`,
    );
    return {
      node,
      area: `M0,${HEIGHT} L${points.join(" L")} L${WIDTH},${HEIGHT} Z`,
      peak: Math.round(peak),
      failures: [...failures.get(node)!],
    };
  });
}

export const Timeline = memo(function Timeline({
  nodes,
  rows,
  now,
}: {
  nodes: NodeProgress[];
  rows: Row[];
  now: number;
}) {
  const [begin, end] = useMemo(() => {
    let [from, to] = [Infinity, 0];
    let over = true;
    for (const r of rows) {
      if (r.started_at) from = Math.min(from, r.started_at);
      if (r.ended_at) to = Math.max(to, r.ended_at);
      if (r.state === "running") over = false;
    }
    return [from, over ? to : now];
  }, [rows, now]);
  const found = useMemo(
    () => (end > begin ? lanes(nodes, rows, begin, Math.max(end, begin + 1)) : []),
    [nodes, rows, begin, end],
  );
  if (!found.length) return null;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return (
    <section aria-labelledby="timeline">
      <h2 id="timeline">Running jobs over time</h2>
      {found.map((lane) => (
        <div className="lane" key={lane.node}>
          <span className="who">{lane.node}</span>
          <svg
            viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
            preserveAspectRatio="none"
            role="img"
            aria-label={
              `${lane.node}: at most ${plural(lane.peak, "job")} at once` +
              (lane.failures.length ? ", with failures" : "")
            }
          >
            <path className="area" d={lane.area} />
            {lane.failures.slice(0, 500).map((x) => (
              <line key={x} className="failure" x1={x} x2={x} y1={0} y2={HEIGHT} />
            ))}
          </svg>
          <span className="peak">{`max ${lane.peak}`}</span>
        </div>
      ))}
      <div className="lane axis" aria-hidden="true">
        <span className="who" />
        <span className="ticks">
          {ticks.map((part) => (
            <span key={part} title={clock(begin + part * (end - begin))}>
              {part === 0 ? clock(begin) : `+ ${span(part * (end - begin))}`}
            </span>
          ))}
        </span>
        <span className="peak" />
      </div>
    </section>
  );
});
